"""What differs between two reports is what an edit is to do."""

import pytest

from skiagraph.data.chest.wishes import read_wish


@pytest.mark.parametrize(
    ("to", "source", "places", "words"),
    [
        ("Left effusion.", "", ["effusion left"], ["left pleural effusion"]),
        ("Cardiomegaly and left effusion.", "Cardiomegaly.", ["effusion left"], ["left pleural effusion"]),
        ("Cardiomegaly.", "Cardiomegaly and left effusion.", ["effusion left"], []),
        ("Right effusion.", "Left effusion.", ["effusion right", "effusion left"], ["right pleural effusion"]),
        (
            "Left effusion. Right upper lobe opacity.", "No effusion.", ["effusion left", "opacity right"],
            ["left pleural effusion", "opacity in the right upper zone"],
        ),
        ("Normal chest.", "Cardiomegaly. Left effusion.", ["cardiomegaly None", "effusion left"], ["normal chest"]),
        ("Large left effusion.", "Left effusion.", ["effusion left"] * 2, ["large left pleural effusion"]),
    ],
)  # fmt: skip
def test_a_wish_is_what_differs_between_two_reports(to, source, places, words):
    wish = read_wish(to, source)
    assert [f"{f.name} {f.side}" for f in wish.findings] == places
    assert wish.words == words
    assert all(w in wish.target for w in words)
