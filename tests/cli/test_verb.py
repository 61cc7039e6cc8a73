"""What all verbs share: options from a file, the result as JSON, silence, exit codes."""

import json

import pytest

from commands import skiagraph
from skiagraph.cli import main as program
from skiagraph.errors import DataError


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Options that `generate`'s work was called with; the work itself is left out."""
    import skiagraph.engine.generate as engine
    from skiagraph.progress import progress

    calls = []

    def generate(config, output, **_):
        with progress("generating", 2) as update:
            update(1)
        calls.append(config)
        return {"images": [], "failed": [{"error": "x"}] if config.seed == 7 else []}

    monkeypatch.setattr(engine, "generate", generate)
    return calls


def test_a_file_gives_options_and_the_command_line_goes_first(monkeypatch, asked, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(f"report: [Effusion., Normal chest.]\noutput: {tmp_path / 'o'}\nbatch-size: 3\nsteps: 5\n")
    assert skiagraph(monkeypatch, "generate", "--config", file, "--steps", 9) == 0
    [config] = asked
    assert (config.reports, config.batch_size, config.steps) == (("Effusion.", "Normal chest."), 3, 9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stepz: 5", "generate has no option 'stepz'"),
        ("- 5", "holds no options"),
        ("steps: [1", "cannot be read as YAML"),
        ("steps: many", "Invalid value for '--steps'"),
    ],
)
def test_bad_files_are_named(monkeypatch, asked, tmp_path, capsys, text, says):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    assert skiagraph(monkeypatch, "generate", "--report", "x", "-o", tmp_path / "o", "--config", file) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not asked


def test_json_is_all_that_is_printed(monkeypatch, asked, tmp_path, capsys):
    assert skiagraph(monkeypatch, "generate", "--report", "x", "-o", tmp_path, "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"images": [], "failed": []}
    assert said.err == ""


def test_quiet_prints_nothing(monkeypatch, asked, tmp_path, capsys):
    assert skiagraph(monkeypatch, "generate", "--report", "x", "-o", tmp_path, "-q") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_inputs_that_failed_make_the_exit_code_1(monkeypatch, asked, tmp_path):
    assert skiagraph(monkeypatch, "generate", "--report", "x", "-o", tmp_path, "--seed", 7) == 1


def test_every_verb_has_the_common_options():
    for command in program.app.registered_commands:
        assert {"as_json", "quiet", "config"} <= set(command.callback.__annotations__), command.name


def test_errors_are_one_line_also_when_quiet(monkeypatch, asked, tmp_path, capsys):
    import skiagraph.engine.generate as engine

    def refuse(*_, **__):
        raise DataError("bad\ninput")

    monkeypatch.setattr(engine, "generate", refuse)
    assert skiagraph(monkeypatch, "generate", "--report", "x", "-o", tmp_path, "-q") == 2
    assert capsys.readouterr().err == "skiagraph: bad input\n"


@pytest.mark.parametrize(
    ("has", "dtype", "warns"), [(False, "bfloat16", True), (True, "bfloat16", False), (False, "float32", False)]
)
def test_an_emulated_precision_is_warned_of_and_used(monkeypatch, asked, tmp_path, capsys, has, dtype, warns):
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has}, raising=False)
    args = ("--report", "x", "-o", tmp_path, "--dtype", dtype, "--device", "cpu", "--quiet")
    assert skiagraph(monkeypatch, "generate", *args) == 0
    assert ("only emulates bfloat16" in capsys.readouterr().err) == warns
    assert asked[0].dtype == dtype
