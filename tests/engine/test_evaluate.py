"""The evaluation job: bad sets are told from good ones, each by the metric that is meant for it."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

import skiagraph.engine.evaluate as job
import skiagraph.engine.picture_features as features
from skiagraph.engine.evaluate import EvaluateConfig, compare, evaluate
from skiagraph.errors import DataError, EvaluationError, SkiagraphError
from skiagraph.progress import silent

SIDE = 64
COUNT = 64


def pictures(count, seed, brightness=0.0):
    """Bodies with two lungs whose place, size and texture vary; every second one has a dense right base."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    grain = ndimage.gaussian_filter(rng.normal(size=(count, SIDE, SIDE)), (0, 1, 1)) * 0.2
    made, masks = [], []
    for index in range(count):
        shift, size, tone = rng.uniform(-0.06, 0.06, 2), rng.uniform(0.85, 1.15), rng.uniform(0.2, 0.3)
        lungs = [
            ((x - c - shift[0]) / (0.16 * size)) ** 2 + ((y - 0.48 - shift[1]) / (0.3 * size)) ** 2 < 1
            for c in (0.28, 0.72)
        ]
        image = np.where(lungs[0] | lungs[1], tone, 0.75) + brightness + grain[index]
        if index % 2:
            image[40:56, 8:28] = np.maximum(image[40:56, 8:28], 0.7)
        made.append(image.clip(0, 1))
        masks.append(lungs[0] | lungs[1])
    return np.stack(made), np.stack(masks)


def write(folder, images, masks=None, ill=lambda index: index % 2):
    folder.mkdir(parents=True)
    rows = []
    for index, image in enumerate(images):
        Image.fromarray(np.round(image * 255).astype(np.uint8)).save(folder / f"{index}.png")
        row = {"file": f"{index}.png", "patient": f"{folder.name}-{index}", "split": "test", "view": "PA", "age": 40}
        row |= {"report": "Right pleural effusion." if ill(index) else "Normal chest.", "sex": "male", "mask": ""}
        row["hospital"] = "North" if index < COUNT // 2 else "South"
        if masks is not None:
            Image.fromarray(masks[index].astype(np.uint8) * 255).save(folder / f"{index}-mask.png")
            row["mask"] = f"{index}-mask.png"
        rows.append(row)
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(folder)


class DarkLungs:
    """A segmenter that knows what is dark."""

    config = SimpleNamespace(working_size=SIDE)

    def segment(self, images):
        return (images[:, 0] < -0.1).to(torch.uint8)


class DenseBase:
    """A judge that looks at one place."""

    name = "dense base"

    def __init__(self, name=""):
        pass

    def __call__(self, images):
        return {"effusion": images[:, 42:55, 10:25].mean(axis=(1, 2))}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    monkeypatch.setattr(features, "SIDE", SIDE)
    monkeypatch.setattr(job, "ClassifierJudge", DenseBase)
    monkeypatch.setattr(job, "load_segmenter", lambda name: DarkLungs())


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Folders of 64 pictures: real ones, those that trained a generator, and what good and bad generators gave."""
    root = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(9)
    good, masks = pictures(COUNT, 3)
    training, _ = pictures(COUNT, 2)
    few = good[rng.integers(4, size=COUNT)] + 0.01 * rng.normal(size=good.shape)
    made = {
        "real": pictures(2 * COUNT, 1), "train": (training, None), "good": (good, masks),
        "blurred": (ndimage.gaussian_filter(good, (0, 1.5, 1.5)), masks),
        "copies": ((training + 0.03 * rng.normal(size=training.shape)).clip(0, 1), None),
        "swapped": (good, masks[::-1][rng.permutation(COUNT)]), "one-mode": (few.clip(0, 1), None),
        "elsewhere": pictures(COUNT, 4, brightness=0.15),
    }  # fmt: skip
    folders = {name: write(root / name, *content) for name, content in made.items()}
    folders["shuffled"] = write(root / "shuffled", good, masks, ill=lambda index: index % 4 < 2)
    return folders


def run(sets, name, tmp_path, **changes):
    config = EvaluateConfig(sets["real"], sets[name], extractors=("pixels-32",), **changes)
    sections = evaluate(config, tmp_path / name, listen=silent)["sections"]
    return {r["name"]: r for s in sections for r in s["results"]}


def test_a_good_set_is_like_real_ones_everywhere(sets, tmp_path):
    found = run(sets, "good", tmp_path, train=sets["train"])
    distance = found["kernel distance"]
    assert distance["low"] < distance["floor"] + 0.002
    assert found["coverage"]["value"] > 0.8
    assert found["spectrum distance"]["value"] < 0.1
    assert found["AUROC effusion"]["value"] > 0.95
    assert found["Dice to the segmenter's mask"]["value"] > found["Dice to the segmenter's mask"]["floor"] - 0.03
    assert found["IoU pooled, to the segmenter's"]["value"] > found["IoU pooled, to the segmenter's"]["floor"] - 0.05
    assert found["surface distance to the segmenter's mask"]["direction"] == "lower"
    assert found["share of copies"]["value"] < 0.2, "5 % by chance, of 64 pictures and 128 held out"
    assert found["membership inference"]["low"] < 0.5 < found["membership inference"]["high"]
    assert {"mask area, distance", "kernel distance, view PA", "kernel distance, sex male"} <= found.keys()
    for result in found.values():
        assert result["low"] <= result["value"] <= result["high"]
        assert result["n"] > 0
        assert result["protocol"] == "1"


def test_each_bad_set_is_told_by_the_metric_meant_for_it(sets, tmp_path):
    good = run(sets, "good", tmp_path, train=sets["train"])
    blurred = run(sets, "blurred", tmp_path)["spectrum distance"]
    assert blurred["low"] > 3 * good["spectrum distance"]["high"]
    copied = run(sets, "copies", tmp_path, train=sets["train"])
    assert copied["share of copies"]["low"] > 0.5
    assert copied["membership inference"]["low"] > 0.8
    swapped = run(sets, "swapped", tmp_path)["Dice to the segmenter's mask"]
    assert swapped["high"] < good["Dice to the segmenter's mask"]["low"]
    shuffled = run(sets, "shuffled", tmp_path)["AUROC effusion"]
    assert shuffled["low"] < 0.5 < shuffled["high"]
    one_mode = run(sets, "one-mode", tmp_path)
    assert one_mode["coverage"]["high"] < 0.5 * good["coverage"]["value"]
    assert one_mode["precision"]["value"] > 0.5, "each picture alone is fine"


def test_another_hospital_is_told_by_an_extractor_that_sees_brightness(sets, tmp_path, monkeypatch):
    class Tone:
        name = "tone"

        def features(self, images):
            return np.stack([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1) * 10

    monkeypatch.setattr(job, "load_extractor", lambda name: Tone())
    same, other = (run(sets, name, tmp_path)["kernel distance"] for name in ("good", "elsewhere"))
    assert other["low"] > same["high"]


def test_edits_are_evaluated_alone_or_beside_synthetic_pictures(sets, tmp_path):
    before, _ = pictures(6, 9)
    after = before.copy()
    after[:, 40:56, 8:28] = 0.75
    for name, images in (("before", before), ("after", after)):
        (tmp_path / "edited" / name).mkdir(parents=True)
        for index, image in enumerate(images):
            Image.fromarray(np.round(image * 255).astype(np.uint8)).save(tmp_path / f"edited/{name}/{index}.png")
    rows = "".join(f"before/{i}.png,after/{i}.png,effusion\n" for i in range(6))
    (tmp_path / "edited/edits.csv").write_text("before,after,come\n" + rows)
    config = EvaluateConfig(sets["real"], extractors=("pixels-32",), edits=str(tmp_path / "edited/edits.csv"))
    (section,) = evaluate(config, tmp_path / "alone", listen=silent)["sections"]
    found = {r["name"]: r for r in section["results"]}
    assert {"Conf", "SSIM", "MS-SSIM", "identity", "IoU of lungs"} <= found.keys()
    assert found["SSIM"]["n"] == 6
    assert "share of change inside" not in found, "no region is known"
    beside = evaluate(replace(config, synthetic=sets["good"]), tmp_path / "beside", listen=silent)["sections"]
    assert section["results"] == beside[-1]["results"]
    assert "Do edits do what was asked" in (tmp_path / "alone/report.html").read_text()
    with pytest.raises(EvaluationError, match="nothing to evaluate"):
        evaluate(replace(config, edits=None), tmp_path / "none", listen=silent)


def test_findings_are_subgroups(sets, tmp_path):
    found = run(sets, "good", tmp_path)
    assert {
        "kernel distance, finding effusion",
        "coverage, finding effusion",
        "recall, age group adult",
    } <= found.keys()
    assert found["kernel distance, finding effusion"]["n"] == COUNT // 2
    assert found["AUROC effusion, sex male"]["value"] == found["AUROC effusion"]["value"]
    assert found["Dice to the segmenter's mask, view PA"]["n"] == COUNT
    assert "AUROC effusion, finding effusion" not in found


def test_hospitals_are_subgroups(sets, tmp_path):
    found = run(sets, "good", tmp_path)
    assert found["kernel distance, hospital North"]["n"] == COUNT // 2
    assert "AUROC effusion, hospital South" in found


def test_an_encoder_of_texts_says_how_well_pictures_fit_their_reports(sets, tmp_path, monkeypatch):
    class Words(job.DualEncoder):
        """Pictures by their right base, texts by whether they speak of an effusion."""

        name = "words"

        def __init__(self):
            pass

        def features(self, images):
            return np.stack([images[:, 42:55, 10:25].mean(axis=(1, 2)) > 0.6, np.full(len(images), 0.5)], axis=1)

        def texts(self, texts):
            return np.array([[float("effusion" in text), 0.5] for text in texts])

    monkeypatch.setattr(job, "load_extractor", lambda name: Words())
    good, shuffled = (run(sets, name, tmp_path) for name in ("good", "shuffled"))
    for name in ("own text before another's", "CLIPScore"):
        assert good[name]["floor"] == pytest.approx(good[name]["value"], rel=0.1)
        assert shuffled[name]["high"] < good[name]["low"]
    assert shuffled["own text before another's"]["low"] < 0.5, "chance"


def test_a_model_s_pictures_are_made_first(sets, tiny_model, tmp_path, monkeypatch):
    config = EvaluateConfig(sets["real"], str(tiny_model), extractors=("pixels-32",), make=24)
    manifest = evaluate(config, tmp_path / "o", listen=silent)
    made = json.loads((tmp_path / "o/synthetic/manifest.json").read_text())
    assert [row["report"] for row in made["images"][:4]] == ["Normal chest.", "Right pleural effusion."] * 2
    assert manifest["pictures"] == {"real": 2 * COUNT, "synthetic": 24}
    monkeypatch.setattr(job, "generate", lambda *a, **k: pytest.fail("made again") if k.get("overwrite") else None)
    assert evaluate(config, tmp_path / "o", listen=silent)["sections"] == manifest["sections"]
    (tmp_path / "bare").mkdir()
    Image.new("L", (SIDE, SIDE)).save(tmp_path / "bare/x.png")
    with pytest.raises(EvaluationError, match="neither reports nor labels to make pictures of"):
        evaluate(replace(config, real=str(tmp_path / "bare")), tmp_path / "none", listen=silent)
    assert not (tmp_path / "none").exists()


def test_what_is_a_model():
    assert job.is_model("cxr-256")
    assert job.is_model("owner/model")
    assert not job.is_model("no-such-name")


def test_use_and_lpips_want_what_they_measure(sets, tmp_path):
    with pytest.raises(EvaluationError, match="give --synthetic and --train"):
        evaluate(EvaluateConfig(sets["real"], sets["good"], utility=True), tmp_path / "o", listen=silent)
    with pytest.raises(EvaluationError, match="--lpips measures edits"):
        evaluate(EvaluateConfig(sets["real"], sets["good"], lpips="alexnet.pth"), tmp_path / "o", listen=silent)


def test_the_page_holds_everything_and_the_same_command_measures_nothing_twice(sets, tmp_path, monkeypatch):
    config = EvaluateConfig(sets["real"], sets["copies"], sets["train"], extractors=("pixels-32",))
    first = evaluate(config, tmp_path / "o", listen=silent)
    page = (tmp_path / "o/report.html").read_text()
    assert "Were patients copied?" in page
    assert page.count("data:image/jpeg;base64,") == 32, "8 real, 8 synthetic and 8 pairs"
    copies = {r["name"]: r["value"] for s in first["sections"] for r in s["results"] if "share of copies" in r["name"]}
    assert copies["share of copies, age group adult"] == copies["share of copies"] > 0.9
    assert "http" not in page.replace("http-equiv", "")
    stored = json.loads((tmp_path / "o/results.json").read_text())
    assert stored["sections"] == first["sections"]
    assert stored["pictures"] == {"real": 2 * COUNT, "synthetic": COUNT, "train": COUNT}
    monkeypatch.setattr(features, "log_spectra", lambda images: pytest.fail("measured again"))
    assert evaluate(config, tmp_path / "o", listen=silent)["sections"] == first["sections"]


def test_a_stopped_run_goes_on_and_another_s_folder_is_not_touched(sets, tmp_path, monkeypatch):
    config = EvaluateConfig(sets["real"], sets["good"], extractors=("pixels-32",))
    whole, parts = features.log_spectra, []

    def stopping(images):
        if len(parts) == 2:
            raise KeyboardInterrupt
        parts.append(len(images))
        return whole(images)

    monkeypatch.setattr(features, "log_spectra", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, tmp_path / "o", listen=silent)
    monkeypatch.setattr(features, "log_spectra", lambda images: parts.append(len(images)) or whole(images))
    evaluate(config, tmp_path / "o", listen=silent)
    assert sum(parts) == 3 * COUNT
    with pytest.raises(SkiagraphError, match="another run"):
        evaluate(EvaluateConfig(sets["real"], sets["copies"], extractors=("pixels-32",)), tmp_path / "o", listen=silent)


def test_mistakes_are_named_and_nothing_is_written(sets, tmp_path):
    for changes, error, message in (
        ({"real": str(tmp_path / "gone")}, DataError, "no folder"),
        ({"real": sets["real"] + ":train"}, DataError, "no pictures of the split train"),
        ({"extractors": ("magic",)}, EvaluationError, "no extractor 'magic'; known: cxr-classifier"),
    ):
        config = EvaluateConfig(**{"real": sets["real"], "synthetic": sets["good"], **changes})
        with pytest.raises(error, match=message):
            evaluate(config, tmp_path / "o", listen=silent)
        assert not (tmp_path / "o").exists()
    write(tmp_path / "few", pictures(6, 0)[0])
    with pytest.raises(EvaluationError, match="too few; give at least"):
        evaluate(EvaluateConfig(sets["real"], str(tmp_path / "few"), extractors=("pixels-32",)), tmp_path / "p")
    with pytest.raises(EvaluationError, match="patients are in train and holdout"):
        evaluate(EvaluateConfig(sets["real"], sets["good"], sets["real"], extractors=("pixels-32",)), tmp_path / "q")


def test_pictures_that_cannot_be_read_are_left_out_and_named(sets, tmp_path):
    images, _ = pictures(30, 5)
    write(tmp_path / "broken", images)
    (tmp_path / "broken/3.png").write_bytes(b"no picture")
    config = EvaluateConfig(sets["real"], str(tmp_path / "broken"), extractors=("pixels-32",))
    manifest = evaluate(config, tmp_path / "o", listen=silent)
    assert manifest["pictures"]["synthetic"] == 29
    assert list(manifest["failed"]) == [str(tmp_path / "broken/3.png")]


def test_two_evaluations_side_by_side(sets, tmp_path):
    for name in ("good", "blurred"):
        run(sets, name, tmp_path)
    rows = {row["name"]: row for row in compare(tmp_path / "good", tmp_path / "blurred")}
    assert rows["spectrum distance"]["better"] == "first"
    assert rows["mask area, distance"]["better"] == ""
    with pytest.raises(EvaluationError, match="holds no results"):
        compare(tmp_path / "good", tmp_path)
