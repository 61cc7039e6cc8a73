"""The program before any verb runs: what it imports, what it says, and how Ctrl-C ends it."""

import os
import subprocess
import sys

import pytest

import skiagraph

HEAVY = ("torch", "numpy", "diffusers", "transformers", "accelerate", "monai", "pydicom", "PIL")

COUNTING = """
import sys
sys.argv[0] = "skiagraph"
from skiagraph.__main__ import main
try:
    main()
finally:
    print("heavy:", *(set(sys.modules) & set({heavy})), file=sys.stderr)
"""


def run(*arguments, code=None, **environment):
    """The program in a process of its own, or Python `code`."""
    start = ["-m", "skiagraph"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *start, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "says"),
    [
        (["--help"], {}, 0, "segment"),
        (["--version"], {}, 0, f"skiagraph {skiagraph.__version__}"),
        (["generate", "--help"], {}, 0, "--report"),
        (["genrate"], {}, 2, "No such command 'genrate'"),
        (["generate", "--seeds", "1"], {}, 2, "No such option"),
        ([], {"_SKIAGRAPH_COMPLETE": "complete_bash", "COMP_WORDS": "skiagraph gen", "COMP_CWORD": "1"}, 0, "generate"),
        ([], {"_SKIAGRAPH_COMPLETE": "complete_bash", "COMP_WORDS": "skiagraph segment --u", "COMP_CWORD": "2"}, 0,
         "--uncertainty"),
    ],
)  # fmt: skip
def test_nothing_heavy_is_imported_before_a_verb_runs(arguments, environment, code, says):
    done = run(*arguments, code=COUNTING.format(heavy=HEAVY), **environment)
    assert done.returncode == code
    assert says in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].strip() == "heavy:"


def test_public_names_are_listed_and_loaded_on_first_use():
    light = "import skiagraph, sys; print('torch' in sys.modules, 'Segmenter' in dir(skiagraph))"
    assert run(code=light).stdout.split() == ["False", "True"]
    assert {"Segmenter", "TextToImagePipeline", "__version__"} <= set(dir(skiagraph))
    from skiagraph import Segmenter
    from skiagraph.models import segmenter

    assert Segmenter is segmenter.Segmenter
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        skiagraph.Nothing  # noqa: B018


def test_every_verb_can_be_called_from_python():
    from skiagraph.cli.main import app

    verbs = {command.name for command in app.registered_commands} - {"prompts", "import", "export", "app"}
    assert verbs <= set(dir(skiagraph))
    assert all(callable(getattr(skiagraph, name)) and getattr(skiagraph, name).__doc__ for name in skiagraph.__all__)
    assert callable(skiagraph.retrieve), "what the verb prompts calls"
    assert callable(skiagraph.import_set), "what the verb import calls, a word that Python keeps to itself"
    assert callable(skiagraph.export_set)


INTERRUPTED = {
    "typer": "raise KeyboardInterrupt",
    "torch": "raise KeyboardInterrupt",
    "numpy": 'try:\n    raise KeyboardInterrupt\nexcept BaseException as e:\n    raise ImportError("init") from e',
}


@pytest.mark.parametrize("library", INTERRUPTED)
def test_ctrl_c_during_imports_is_one_line(tmp_path, library):
    (tmp_path / f"{library}.py").write_text(INTERRUPTED[library])
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = run("generate", "--report", "Edema.", "-o", str(tmp_path / "o"), PYTHONPATH=path)
    assert done.returncode == 130
    assert done.stderr == "skiagraph: stopped; what was finished is kept, the same command continues\n"


def test_ctrl_c_between_verbs_and_imports_is_one_line():
    parsing = (
        "import skiagraph.cli.main as cli\n"
        "from skiagraph.__main__ import main\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        "cli.typer.core.TyperGroup.make_context = stop\n"
        "main()"
    )
    done = run(code=parsing)
    assert done.returncode == 130
    assert done.stderr.count("\n") == 1
    assert "skiagraph: stopped" in done.stderr
