"""skiagraph prompts: a table that generate and pairs take, and errors of one line."""

import sys

import pytest

from skiagraph.cli.main import main
from skiagraph.data.tables import read_reports


def skiagraph(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["skiagraph", "prompts", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code or 0


@pytest.fixture
def bank(tmp_path):
    path = tmp_path / "bank.csv"
    path.write_text('report\n"Cardiomegaly, PA view."\nNormal chest.\nLeft pneumothorax.\n')
    return path


def test_chosen_reports_complete_what_one_has(monkeypatch, tmp_path, capsys, bank):
    have, out = tmp_path / "mine.txt", tmp_path / "chosen/prompts.csv"
    have.write_text("Normal chest.\n" * 4)
    assert skiagraph(monkeypatch, bank, "--have", have, "-n", 8, "-o", out) == 0
    chosen = read_reports(out)
    assert len(chosen) == 8
    assert chosen.count("Cardiomegaly, PA view.") == chosen.count("Left pneumothorax.") == 4
    row = next(line for line in capsys.readouterr().out.splitlines() if "normal" in line)
    assert [cell.strip() for cell in row.split("│")[2:5]] == ["33.3%", "100.0%", "33.3%"]


def test_what_is_there_is_not_replaced_unless_asked_for(monkeypatch, tmp_path, capsys, bank):
    out = tmp_path / "prompts.csv"
    out.write_text("mine")
    assert skiagraph(monkeypatch, bank, "-n", 2, "-o", out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert skiagraph(monkeypatch, bank, "-n", 2, "-o", out, "--overwrite") == 0
    assert len(read_reports(out)) == 2


def test_a_bank_that_nobody_understands_is_refused(monkeypatch, tmp_path, capsys):
    bank = tmp_path / "bank.txt"
    bank.write_text("Lorem ipsum dolor.\n")
    assert skiagraph(monkeypatch, bank, "-n", 2, "-o", tmp_path / "o.csv") == 2
    assert "nothing is understood in any report of the bank" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()
