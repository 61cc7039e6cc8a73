"""How well pictures fit their texts, on features by hand and with a tiny CLIP."""

import json

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

import tiny
from skiagraph.errors import EvaluationError
from skiagraph.evaluation.extractors import DualEncoder, load_extractor
from skiagraph.evaluation.image_text import image_text_scores


def test_scores_by_hand():
    texts = np.eye(3)
    images = np.array([[2.0, 0, 0], [1, 1, 0], [0, 1, -1]])
    score, order = image_text_scores(images, texts, extractor="x")
    assert score.value == pytest.approx(100 * (1 + np.sqrt(0.5) + 0) / 3), "the last cosine is below 0"
    assert order.value == pytest.approx((1 + 0.75 + 0) / 3), "the second fits two texts alike"
    assert (score.extractor, order.direction, order.n) == ("x", "higher", 3)


def test_pictures_of_one_text_have_no_other():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 5))
    assert [r.name for r in image_text_scores(images, np.ones((4, 5)), extractor="x")] == ["CLIPScore"]
    same = np.repeat(np.eye(5)[:2], 2, axis=0)
    own = image_text_scores(same, same, extractor="x")[1]
    assert own.value == 1, "a twin's equal text is not another's"


def test_shuffled_texts_fit_by_chance():
    rng = np.random.default_rng(1)
    texts = rng.normal(size=(300, 16))
    images = texts + 0.5 * rng.normal(size=texts.shape)
    fitting = image_text_scores(images, texts, extractor="x")[1]
    shuffled = image_text_scores(images, rng.permutation(texts), extractor="x")[1]
    assert fitting.low > 0.95
    assert shuffled.low < 0.5 < shuffled.high


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "tiny-clip"
    tokenizer = tiny.tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **small,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 12,
        "eos_token_id": 1,
        "projection_dim": 8,
    }
    vision = {**small, "image_size": 32, "patch_size": 16, "projection_dim": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = {"image_processor_type": "CLIPImageProcessor", "crop_size": {"height": 32, "width": 32}}
    settings |= {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.3, 0.3, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def test_a_clip_gives_features_of_both_in_one_space(clip):
    encoder = load_extractor(str(clip))
    assert isinstance(encoder, DualEncoder)
    assert encoder.name == "clip:tiny-clip"
    texts = ["Right pleural effusion.", "Normal chest. " * 30]
    found = encoder.texts(texts)
    network, tokenizer = CLIPModel.from_pretrained(clip).eval(), encoder.tokenizer
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=12, return_tensors="pt")
    with torch.no_grad():
        out = network(**tokens, pixel_values=torch.zeros(1, 3, 32, 32))
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert np.allclose(unit, out.text_embeds.numpy(), atol=1e-5)
    images = np.random.default_rng(0).uniform(size=(3, 256, 256))
    assert encoder.features(images).shape == (3, 8)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="does not load as a vision model"):
        load_extractor(str(tmp_path))
