"""Imports point one way, so that a reader can start at the bottom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "nmfnet"

ORDER = ("kernels", "core", "solvers", "models", "run", "selection", "sweep", "report")
"""Rooms from the bottom up: each imports itself and what stands before it."""

LEAVES = ("data", "metrics", "plots", "loggers")
"""Rooms that know no model: they are imported from above, and import only each other."""

ROOF = ("api", "cli", "commands", "estimator")

FORBIDDEN = {
    "kernels": (*ORDER[1:], *LEAVES, *ROOF),
    "core": (*ORDER[2:], "data", "metrics", "plots", "loggers", *ROOF),
    "solvers": ("models", "run", "data", "metrics", "plots", "loggers", *ORDER[5:], *ROOF),
    "models": ("run", "data", "metrics", "plots", "loggers", *ORDER[5:], *ROOF),
    **dict.fromkeys(LEAVES, (*ORDER[1:], *ROOF)),
}


def imported(file: Path) -> set[str]:
    """Parts of nmfnet that a file imports when it runs (not for type checkers only)."""
    found = set()
    tree = ast.parse(file.read_text())
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in skipped and node.module:
            parts = node.module.split(".")
            if parts[0] == "nmfnet" and len(parts) > 1:
                found.add(parts[1])
    return found


@pytest.mark.parametrize("part", FORBIDDEN)
def test_nothing_is_imported_from_above(part):
    wrong = {
        str(file.relative_to(PACKAGE)): sorted(imported(file) & set(FORBIDDEN[part]))
        for file in sorted((PACKAGE / part).rglob("*.py"))
        if imported(file) & set(FORBIDDEN[part])
    }
    assert not wrong


def test_importing_nmfnet_imports_nothing_heavy():
    code = "import sys, nmfnet; print({'torch', 'lightning', 'matplotlib', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
