"""What README, the tutorial and docs/python.md show runs as it stands, with fewer denoising steps."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
STEPS = {"generate": 2, "pairs": 4, "edit": 4}
"""In the place of the defaults, which take minutes."""


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(encoding="utf-8"), flags=re.DOTALL)


def commands(path="README.md"):
    """A page's commands, but for those of training, which need data sets and hours."""
    lines = [line for block in blocks(path, "sh") for line in block.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(".venv/bin/skiagraph")]
    return [c for c in found if c[0] != "train" and not any(part.startswith("runs/") for part in c)]


def run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_every_command_of_the_readme_runs_one_after_the_other(tmp_path):
    found = commands()
    assert {c[0] for c in found} == {"generate", "info", "pairs", "prompts", "edit", "augment", "segment"}
    for command in found:
        steps = ["--steps", str(STEPS[command[0]])] if command[0] in STEPS else []
        run(tmp_path, "-m", "skiagraph", *command, *steps)


@pytest.mark.slow
def test_the_tutorial_runs_from_the_demo_to_its_end(tmp_path):
    run(tmp_path, "-m", "skiagraph", "generate", "--reports", "examples/reports.csv", "-o", "out/demo", "--steps", "2")
    found = commands("docs/tutorial.md")
    assert [c[0] for c in found] == ["generate", "segment", "edit", "pairs"]
    for command in found:
        run(tmp_path, "-m", "skiagraph", *[str(STEPS.get(command[0], 2)) if part == "20" else part for part in command])
    assert (tmp_path / "out/pairs/metadata.csv").is_file()


def test_options_of_the_pages_exist():
    from typer.main import get_command

    from skiagraph.cli.main import app

    known = {
        name: {o for p in c.params for o in (*p.opts, *p.secondary_opts)}
        for name, c in get_command(app).commands.items()
    }
    for verb, *rest in commands() + commands("docs/tutorial.md"):
        assert {part for part in rest if part.startswith("-")} <= known[verb], verb


@pytest.mark.slow
def test_from_dicom_files_to_dicom_masks(tmp_path, monkeypatch):
    """Its own pictures stand for an archive's; the archive itself is in tests/engine/test_archive.py."""
    pytest.importorskip("highdicom")
    from skiagraph.data.layouts import dicom
    from skiagraph.data.layouts.case import Case
    from skiagraph.pipelines.text_to_image import TextToImagePipeline

    monkeypatch.setenv("SKIAGRAPH_DATA", str(tmp_path / "data"))
    reports = ["Normal chest. PA view of an adult.", "Cardiomegaly. AP view of an adult."] * 22
    pictures = TextToImagePipeline.load()(reports, seeds=range(44), num_inference_steps=3).images
    cases = {}
    for number, (report, picture) in enumerate(zip(reports, pictures, strict=True)):
        Image.fromarray((picture * 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
        cases[f"{number}"] = Case(tmp_path / f"{number}.png", f"p{number}", report=report)
    list(dicom.write(cases, tmp_path / "study", ()))
    more = {
        "import": ["--shares", "40,10,50"],
        "train": ["optim.steps=2", "optim.batch_size=2", "optim.validate_every=0", "optim.warmup_steps=0"],
        "pairs": ["--steps", "4"],
    }
    lines = [line for block in blocks("docs/how-to/archive-to-archive.md", "sh") for line in block.splitlines()]
    found = [shlex.split(line)[1:] for line in lines if line.startswith("skiagraph")]
    assert [c[0] for c in found] == ["pull", "import", "train", "pairs", "train", "evaluate", "segment", "push"]
    for command in found[1:-1]:
        command = ["10" if part == "150" else part for part in command]
        run(tmp_path, "-m", "skiagraph", *command, *more.get(command[0], []))
    assert (tmp_path / "out/report/report.html").is_file()
    assert len(list((tmp_path / "out/seg/masks").rglob("*.dcm"))) == 44


@pytest.mark.slow
def test_the_examples_in_python_run(tmp_path):
    code = "\n".join(blocks("docs/python.md", "python"))
    assert "steps=30" in code
    fast = code.replace("steps=30", "steps=3").replace("steps=50", "steps=4")
    out = run(tmp_path, "-c", fast)
    assert "sliced Wasserstein" in out
    assert (tmp_path / "out/effusion.png").is_file()
    run(tmp_path, "-c", blocks("README.md", "python")[0].replace("num_inference_steps=30", "num_inference_steps=2"))
