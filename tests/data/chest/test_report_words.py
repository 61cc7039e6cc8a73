import re

import pytest

from skiagraph.data.chest import report_words
from skiagraph.data.chest.labels import LABELS
from skiagraph.data.chest.report_words import FINDINGS, LASTING, PROCEDURES, SIGNS
from skiagraph.data.chest.reports import parse_report

EXAMPLES = {
    "effusion": "Blunting of the left costophrenic angle",
    "pneumothorax": "Hydropneumothorax",
    "cardiomegaly": "Enlarged cardiac silhouette",
    "edema": "Pulmonary venous congestion",
    "consolidation": "Consolidated lobe",
    "covid19": "COVID-19 pneumonia",
    "pneumonia": "Bronchopneumonia",
    "infiltration": "Infiltrates",
    "atelectasis": "Collapse of the right upper lobe",
    "emphysema": "Chronic obstructive pulmonary disease",
    "fibrosis": "Fibrotic bands",
    "mass": "Hilar mass",
    "nodule": "Nodules",
    "granuloma": "Sequelae of old granulomatous infection",
    "hernia": "Hiatal hernia",
    "pleural_thickening": "Pleural plaques",
    "hyperinflation": "Flattening of the diaphragms",
    "low volumes": "The lungs are hypoinflated",
    "smaller lung": "Volume loss on the right",
    "fracture": "Fractured clavicle",
    "tuberculosis": "Active TB",
    "interstitial": "Prominent interstitial markings",
    "scarring": "Apical scarring",
    "calcification": "Calcified lymph node",
    "cavity": "Cavitary process",
    "spine": "Dextroscoliosis",
    "aorta": "Unfolding of the thoracic aorta",
    "device": "Sternotomy wires",
    "surgery": "Postsurgical changes",
    "elevated_diaphragm": "The right hemidiaphragm is elevated",
    "deformity": "Clavicle deformity",
    "adenopathy": "Mediastinal lymphadenopathy",
    "malignancy": "Metastatic process",
    "opacity": "Ground-glass opacities",
    "lesion": "Lesion",
}


def test_every_finding_has_an_example():
    assert set(EXAMPLES) == set(FINDINGS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_state_their_finding_and_denials_take_it_away(name):
    assert name in parse_report(EXAMPLES[name]).present()
    denied = parse_report(f"No {EXAMPLES[name].lower()}.")
    assert (name in denied.absent()) or "diaphragm is" in EXAMPLES[name] or "lungs are" in EXAMPLES[name]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Pericardial effusion.", "effusion"),
        ("Subcutaneous emphysema.", "emphysema"),
        ("Body mass index.", "mass"),
        ("Bone density is normal.", "opacity"),
        ("The tube ends outside the thoracic cavity.", "cavity"),
        ("Degenerative changes of the left shoulder.", "spine"),
        ("Tip of the scapula.", "device"),
    ],
)
def test_other_things_with_the_same_words_are_told_apart(text, name):
    assert name not in parse_report(text).present()


def test_labels_of_data_sets_have_words():
    assert set(LABELS) - {"normal"} <= set(FINDINGS)


def test_special_groups_are_findings():
    assert {*LASTING, *PROCEDURES, *SIGNS} <= set(FINDINGS)


def test_patterns_compile_and_match_no_empty_text():
    patterns = [v for k, v in vars(report_words).items() if k.isupper() and isinstance(v, str)]
    for pattern in [*patterns, *FINDINGS.values(), report_words.ABNORMAL]:
        assert pattern == report_words.NEW_CLAUSE or not re.fullmatch(pattern, "")
