"""What is known of chests is asked of the domain: nothing else imports `skiagraph.data.chest`."""

import ast
from pathlib import Path

import skiagraph

ROOT = Path(skiagraph.__file__).parent
CHEST = "skiagraph.data.chest"


def _imported(module):
    """Full names that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_domains_import_what_is_known_of_chests():
    found = {
        module.relative_to(ROOT).as_posix()
        for module in ROOT.rglob("*.py")
        if any(f"{name}.".startswith(f"{CHEST}.") for name in _imported(module))
    }
    assert not {m for m in found if not m.startswith(("domains/", "data/chest/"))}
