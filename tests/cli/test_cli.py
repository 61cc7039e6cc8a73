"""The command line on the shipped model: what a newcomer runs, and one clear line for each mistake."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import skiagraph
from skiagraph.models.registry import DEFAULT_MODEL, model_folder

FAST = ["--steps", "2", "--guidance", "1"]


def test_generate_writes_labelled_images_sheet_and_manifest(monkeypatch, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["generate", "--report", "Cardiomegaly. PA view.", "-n", "2", "-o", out, *FAST]
    assert skiagraph(monkeypatch, *command) == 0
    assert "2 synthetic X-rays" in capsys.readouterr().out
    manifest = json.loads((out / "manifest.json").read_text())
    assert [row["seed"] for row in manifest["images"]] == [0, 1]
    assert manifest["images"][0]["prompt"] == "cardiomegaly. PA view"
    assert all(len(h) == 64 for h in manifest["weights"].values())
    first, second = (Image.open(out / row["file"]) for row in manifest["images"])
    assert first.size == (256, 256)
    assert "Synthetic" in first.text
    assert np.asarray(first).std() > 5
    assert not np.array_equal(np.asarray(first), np.asarray(second))
    assert (out / "contact-sheet.png").is_file()


def test_lost_images_are_made_again_alike_and_whole_ones_kept(monkeypatch, tmp_path):
    command = ["generate", "--report", "Effusion.", "-n", "2", "-o", tmp_path / "o", *FAST]
    skiagraph(monkeypatch, *command)
    first, second = tmp_path / "o/00000.png", tmp_path / "o/00001.png"
    before, kept = np.asarray(Image.open(second), int), first.stat().st_mtime_ns
    second.write_bytes(second.read_bytes()[:100])
    assert skiagraph(monkeypatch, *command) == 0
    assert np.abs(np.asarray(Image.open(second), int) - before).max() <= 1, "but for rounding, which the batch decides"
    assert first.stat().st_mtime_ns == kept


def test_another_run_in_the_folder_is_refused_and_left_alone(monkeypatch, tmp_path, capsys):
    skiagraph(monkeypatch, "generate", "--report", "Effusion.", "-o", tmp_path / "o", *FAST)
    before = {p.name: p.read_bytes() for p in (tmp_path / "o").iterdir()}
    assert skiagraph(monkeypatch, "generate", "--report", "Edema.", "-o", tmp_path / "o", *FAST) == 2
    assert "holds another run" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (tmp_path / "o").iterdir()} == before


def test_full_disk_keeps_what_was_finished(monkeypatch, tmp_path, capsys):
    import skiagraph.engine.generate as job

    whole, calls = job.write_png, []

    def full(path, pixels, **kwargs):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))
        whole(path, pixels, **kwargs)

    monkeypatch.setattr(job, "write_png", full)
    command = ["generate", "--report", "Edema.", "-n", "2", "-o", tmp_path / "o", "--batch-size", "1", *FAST]
    assert skiagraph(monkeypatch, *command) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        ".lock",
        "00000.png",
        "journal.jsonl",
        "manifest.json",
    ]
    monkeypatch.undo()
    assert skiagraph(monkeypatch, *command) == 0
    assert len(json.loads((tmp_path / "o/manifest.json").read_text())["images"]) == 2


@pytest.fixture
def broken(tmp_path):
    """A copy of the shipped model to damage."""
    return Path(shutil.copytree(model_folder(DEFAULT_MODEL), tmp_path / "broken"))


def test_damaged_models_end_in_one_line(monkeypatch, tmp_path, capsys, broken):
    weights = broken / "denoiser" / "diffusion_pytorch_model.safetensors"
    command = ["generate", "--report", "Edema.", "-o", tmp_path / "o", "--model", broken]
    (broken / "vae").rename(tmp_path / "vae")
    assert skiagraph(monkeypatch, *command) == 2
    assert_one_line(capsys, "lacks vae")
    (tmp_path / "vae").rename(broken / "vae")
    weights.write_bytes(weights.read_bytes()[:-100])
    assert skiagraph(monkeypatch, *command) == 2
    assert_one_line(capsys, "truncated or damaged")
    weights.unlink()
    assert skiagraph(monkeypatch, *command) == 2
    assert_one_line(capsys, "no weight file")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--report", " "], "empty report"),
        (["generate"], "no reports given"),
        (["generate", "--report", "Hello."], "no finding, view, age or sex recognised"),
        (["generate", "--report", "Edema.", "--model", "nowhere"], "no model 'nowhere'"),
        (["generate", "--report", "Edema.", "--scheduler", "Magic"], "no scheduler 'Magic'"),
        (["generate", "--report", "Edema.", "--model", "lung-segmenter"], "it is for `skiagraph segment`"),
        (["generate", "--report", "Edema.", "--device", "banana"], "no device 'banana'"),
        (["generate", "--report", "Edema.", "--address", "head:6379"], "give --executor ray too"),
        (["segment", ".", "--device", "cpu", "--workers", "0"], "no GPU that this run can use"),
        (["generate", "--reports", "nowhere.csv"], "cannot be read"),
        (["train", "nowhere.yaml"], "cannot be read"),
        (["pairs", "--prompts", "nowhere.csv", "-n", "2"], "cannot be read"),
        (["augment", "nowhere", "--prompts", "nowhere.csv"], "cannot be read"),
        (["edit", "nowhere.png", "--to", "Left effusion."], "does not exist"),
    ],
)
def test_mistakes_end_in_one_line_and_write_nothing(monkeypatch, tmp_path, capsys, arguments, message):
    assert skiagraph(monkeypatch, *arguments, "-o", tmp_path / "o") == 2
    assert_one_line(capsys, message)
    assert not (tmp_path / "o").exists()


def assert_one_line(capsys, message):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skiagraph:")]
    assert len(lines) == 1
    assert message in lines[0]


def test_reports_of_a_file(monkeypatch, tmp_path, capsys):
    table = tmp_path / "r.csv"
    table.write_text("id,report\n1,Edema.\n2,\n")
    assert skiagraph(monkeypatch, "generate", "--reports", table, "-o", tmp_path / "o") == 2
    assert_one_line(capsys, "empty report in line 3")
    table.write_text("id,text\n1,Edema.\n")
    assert skiagraph(monkeypatch, "generate", "--reports", table, "-o", tmp_path / "o") == 2
    assert_one_line(capsys, "no column 'report'")


def test_info_counts_parameters_and_names_its_convention(monkeypatch, tmp_path):
    assert skiagraph(monkeypatch, "info", "-o", tmp_path) == 0
    info = json.loads((tmp_path / "info.json").read_text())
    denoiser = next(c for c in info["components"] if c["name"] == "denoiser")
    assert denoiser["flops"] == 2 * denoiser["macs"] > 0
    assert "2 FLOPs" in info["convention"]


def test_ctrl_c_keeps_finished_images_and_the_same_command_goes_on(tmp_path, monkeypatch):
    command = ["generate", "--report", "Edema.", "-n", "40", "--batch-size", "1", "--steps", "4", "-o", tmp_path / "o"]
    process = subprocess.Popen(
        [sys.executable, "-m", "skiagraph", *map(str, command)],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job inherits it ignored
        text=True,
    )
    deadline = time.monotonic() + 90
    while not (tmp_path / "o/00001.png").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "skiagraph: stopped" in errors
    assert "Traceback" not in errors
    assert 1 <= len((tmp_path / "o/journal.jsonl").read_text().splitlines()) < 40
    assert not [p for p in (tmp_path / "o").iterdir() if ".tmp" in p.name]
