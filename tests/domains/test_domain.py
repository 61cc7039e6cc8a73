"""Domains by name and by file; an invented one goes all the way from words to pairs."""

import csv
import random

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from skiagraph.data.captions import compose
from skiagraph.data.datasets import load_records
from skiagraph.domains.chest import CHEST
from skiagraph.domains.domain import load_domain, model_domain
from skiagraph.engine.generate import GenerateConfig, generate
from skiagraph.engine.pairs import PairsConfig, make_pairs
from skiagraph.engine.retrieval import retrieve
from skiagraph.engine.segment import SegmentConfig, segment
from skiagraph.engine.train import train_recipe
from skiagraph.errors import DataError, ModelError, ReportError
from skiagraph.models.registry import load_component
from skiagraph.pipelines.organs import THRESHOLDS, lung_finder
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.progress import silent
from skiagraph.training.recipe import load_recipe

SHAPES = """
name: shapes
words: {ring: [ring, bright ring], disc: [disc, round spot]}
regions: [ring, disc]
masks: {thresholds: [0.2, 0.4, 0.6]}
"""

OPTIM = """
optim: {steps: 20, batch_size: 2, learning_rate: 1.0e-3, precision: float32, log_every: 10, validate_every: 10,
        tensorboard: false}
"""


def _picture(rng):
    """A ring and a disc, float (64, 64) in [0, 1], and their label map."""
    y, x = np.ogrid[:64, :64]
    (a, b), (c, d) = rng.uniform(14, 20, 2), rng.uniform(40, 50, 2)
    ring, disc = np.hypot(y - a, x - b), np.hypot(y - c, x - d)
    labels = (abs(ring - 8) < 3).astype(np.uint8) + 2 * (disc < 9).astype(np.uint8)
    return (labels > 0) * 0.7 + rng.uniform(0, 0.2, (64, 64)), labels


@pytest.fixture
def shapes(tmp_path):
    """A folder with the domain's file and a data set of it."""
    rng, folder = np.random.default_rng(0), tmp_path / "data" / "shapes"
    folder.mkdir(parents=True)
    (tmp_path / "shapes.yaml").write_text(SHAPES)
    with open(folder / "metadata.csv", "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "patient", "split", "labels", "mask"])
        for i in range(8):
            image, labels = _picture(rng)
            Image.fromarray(np.round(image * 255).astype(np.uint8)).save(folder / f"{i}.png")
            Image.fromarray(labels).save(folder / f"{i}-mask.png")
            table.writerow([f"{i}.png", i, "val" if i > 5 else "train", "ring|disc", f"{i}-mask.png"])
    return tmp_path


def _recipe(shapes, name, text):
    path = shapes / f"{name}.yaml"
    data = f"data: {{datasets: [shapes], root: {shapes / 'data'}, image_size: 64, fit: squash}}"
    path.write_text(f"domain: {shapes / 'shapes.yaml'}\n{text}\n{data}\n{OPTIM}")
    return load_recipe(path)


def test_an_invented_domain_from_words_to_pairs(shapes):
    domain = load_domain(shapes / "shapes.yaml")
    (record,) = load_records(["shapes"], shapes / "data", splits=["val"], labels=domain.labels)[:1]
    facts = domain.facts(record, None)
    phrases = compose(facts, random.Random(0), 0.0, domain.words)
    assert {p.region for p in phrases} == {"ring", "disc"}
    assert {p.text for p in phrases} <= set(domain.language())
    assert domain.record_prompt(record) == "disc. ring"
    assert domain.target_values(record, False) == [1.0] * len(domain.targets)
    bank = ["A bright ring. No disc.", "Round spot."]
    assert retrieve(bank, 2, like=bank[1:], domain=str(shapes / "shapes.yaml")).reports == ("Round spot.",) * 2
    reader = train_recipe(_recipe(shapes, "read", "task: classifier\nchannels: [8, 8]"), shapes / "read", listen=silent)
    assert tuple(load_component(reader).config.labels) == domain.targets
    sizes = "channels: [4, 8, 8]\nclasses: [ring, disc]"
    segmenter = train_recipe(_recipe(shapes, "seg", f"task: segmenter\n{sizes}"), shapes / "seg", listen=silent)
    tiny.autoencoder().save_pretrained(shapes / "autoencoder")
    text = f"""
task: text_to_image
autoencoder: {shapes}/autoencoder
captions: {{segmenter: {segmenter}}}
grounding_weight: 0.1
denoiser: {{hidden_size: 16, depth: 2, num_heads: 2, patch_size: 2}}
text: {{max_length: 16, hidden_size: 16, layers: 1, heads: 2, vocab_size: 300}}
"""
    model = train_recipe(_recipe(shapes, "draw", text), shapes / "draw", device="cpu", listen=silent)
    assert model_domain(model).name == "shapes"
    pipeline = TextToImagePipeline.load(model)
    assert pipeline.in_model_words("A bright ring. No disc.") == ["ring"]
    with pytest.raises(ReportError, match="recognised"):
        pipeline.in_model_words("Cardiomegaly.")
    made = generate(GenerateConfig(("Round spot, blue sky",), str(model), steps=2), shapes / "made", listen=silent)
    assert made["images"][0]["prompt"] == "disc"
    assert made["images"][0]["left_out"] == ["blue sky"]
    config = PairsConfig(
        ("Ring and disc.",), 2, domain.classes, str(model), steps=4, affinity_steps=2, device="cpu"
    )  # fmt: skip
    pairs = make_pairs(config, shapes / "pairs", listen=silent)["pairs"]
    assert [row["prompt"] for row in pairs] == ["ring. disc"] * 2
    pictures = (str(shapes / "data/shapes/0.png"),)
    found = segment(SegmentConfig(pictures, str(segmenter)), shapes / "found", listen=silent)
    assert set(found["images"][0]["area"]) == {"ring", "disc"}


def test_those_that_ship(tiny_model):
    assert load_domain("chest") is CHEST is model_domain(tiny_model)
    colonoscopy = load_domain("colonoscopy")
    assert colonoscopy.colour
    assert colonoscopy.regions_of(torch.zeros(2, 2).numpy()) is None
    with pytest.raises(ModelError, match="'colonoscopy' finds nothing by thresholds"):
        lung_finder(THRESHOLDS, colonoscopy)
    with pytest.raises(DataError, match="no domain 'knee'; known: chest, colonoscopy"):
        load_domain("knee")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("name: a", "words"),
        ("name: a\nwords: {ring: []}", "words of ring are empty"),
        ("name: a\nwords: {ring: [ring]}\nmasks: {background: 2}", r"masks\.background"),
        ("name: a\nwords: {ring: [ring]}\nlungs: 2", "lungs"),
        ("name: [", "not valid YAML"),
    ],
)
def test_a_bad_file_is_named_with_its_field(tmp_path, text, field):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"bad\.yaml.*{field}"):
        load_domain(path)
