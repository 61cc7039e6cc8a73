"""Positions of words in a prompt's token sequence."""

import pytest

from skiagraph.errors import ModelError
from skiagraph.models.words import token_span


def test_span_of_every_occurrence(tokenizer):
    prompt = "Left pleural effusion, and right Pleural Effusion."
    spans = token_span(tokenizer, prompt, "pleural effusion")
    ids = tokenizer(prompt)["input_ids"]
    assert len(spans) == 2
    for span in spans:
        assert span == list(range(span[0], span[-1] + 1))
        assert tokenizer.decode([ids[i] for i in span]) == "pleural effusion"


def test_span_of_a_word_of_several_tokens(tokenizer):
    (span,) = token_span(tokenizer, "mild hyperinflation seen", "hyperinflation")
    assert len(span) > 1


def test_part_of_a_word_is_not_a_match(tokenizer):
    with pytest.raises(ModelError, match="is not in the prompt"):
        token_span(tokenizer, "hyperinflation", "hyper")


def test_span_beyond_the_truncation(tokenizer):
    prompt = "x " * 30 + "cardiomegaly"
    with pytest.raises(ModelError, match="cut off: only the first 24 tokens"):
        token_span(tokenizer, prompt, "cardiomegaly")
    assert len(token_span(tokenizer, prompt, "cardiomegaly", max_length=60)) == 1
    assert len(token_span(tokenizer, prompt, "x")) == 22


@pytest.mark.parametrize("word", ["", "  ", "日本"])
def test_span_of_nothing(tokenizer, word):
    with pytest.raises(ModelError, match="no tokens"):
        token_span(tokenizer, "heart 中国", word)
