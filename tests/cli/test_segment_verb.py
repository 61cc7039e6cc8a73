"""skiagraph segment with the shipped model: exit codes, and what is left after kill -9."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import phantoms
from skiagraph.cli.main import main


@pytest.fixture
def pictures(tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(phantoms.thorax(rng, side=96)[0][:80]).save(folder / f"{index}.png")
    return folder


def skiagraph(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["skiagraph", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code or 0


def test_masks_of_a_folder(monkeypatch, tmp_path, pictures, capsys):
    assert skiagraph(monkeypatch, "segment", pictures, "-o", tmp_path / "o") == 0
    assert "3 masks" in capsys.readouterr().out
    assert np.asarray(Image.open(tmp_path / "o/masks/0.png")).shape == (80, 96)


def test_corrupt_files_are_listed_and_the_others_done(monkeypatch, tmp_path, pictures, capsys):
    (pictures / "1.png").write_bytes(b"not a picture")
    assert skiagraph(monkeypatch, "segment", pictures, "-o", tmp_path / "o") == 1
    out, err = capsys.readouterr()
    assert "2 masks" in out
    assert len([line for line in err.splitlines() if "skipped" in line and "1.png" in line]) == 1
    assert skiagraph(monkeypatch, "segment", tmp_path / "gone", "-o", tmp_path / "p") == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_kill_9_loses_and_repeats_nothing(monkeypatch, tmp_path, pictures):
    for index in range(3, 400):
        (pictures / f"{index}.png").write_bytes((pictures / "0.png").read_bytes())
    command = ["segment", str(pictures), "-o", str(tmp_path / "o"), "--batch-size", "1"]
    process = subprocess.Popen([sys.executable, "-m", "skiagraph", *command], stdout=subprocess.DEVNULL)
    journal, deadline = tmp_path / "o/journal.jsonl", time.monotonic() + 120
    while (not journal.exists() or journal.read_bytes().count(b"\n") < 5) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = [json.loads(line) for line in journal.read_bytes().split(b"\n")[:-1]]
    assert 5 <= len(done) < 400
    files = [file for row in done for file in row["files"]]
    stamps = {file: (tmp_path / "o" / file).stat().st_mtime_ns for file in files}
    assert skiagraph(monkeypatch, *command) == 0
    rows = json.loads((tmp_path / "o/manifest.json").read_text())["images"]
    assert len({row["source"] for row in rows}) == len(rows) == 400
    assert all((tmp_path / "o" / mask).stat().st_mtime_ns == stamp for mask, stamp in stamps.items())
