"""Imports point one way, so that a reader can start at the bottom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "nmfnet"

FORBIDDEN = {
    "functional": ("losses", "penalties", "constraints", "inits", "factor", "solvers", "models",
                   "factorization", "train", "cli", "callbacks", "report", "data", "metrics", "plots"),
    "data": ("models", "solvers", "factorization", "train", "cli", "callbacks", "report", "plots"),
    "metrics": ("models", "solvers", "factorization", "train", "cli", "callbacks", "report", "plots"),
    "plots": ("models", "solvers", "factorization", "train", "cli", "callbacks", "report", "data"),
    "models": ("solvers", "train", "cli", "callbacks", "report", "data", "metrics", "plots"),
    "nn": ("models", "solvers", "factorization", "train", "cli", "data", "metrics", "plots"),
    "solvers": ("models", "train", "cli", "callbacks", "report", "data", "metrics", "plots"),
}  # fmt: skip


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
