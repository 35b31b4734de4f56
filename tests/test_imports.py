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
"""Rooms that know no model: they are imported from above, and import only kernels and each other."""

ROOF = ("api", "cli", "commands", "estimator")

GROUND = ("settings",)
"""Rooms under all others: they import nothing but each other."""

BELOW_DATA = ("kernels", "core", "solvers", "models")
"""Rooms that see tensors only: no reader of files, no measure, no figure, no tracker."""

FORBIDDEN = {
    **{room: (*ORDER[i + 1 :], *ROOF) for i, room in enumerate(ORDER)},
    **dict.fromkeys(LEAVES, (*ORDER[1:], *ROOF)),
    **dict.fromkeys(GROUND, (*ORDER, *LEAVES, *ROOF)),
}
"""What each room must not import."""

for room in BELOW_DATA:
    FORBIDDEN[room] = (*FORBIDDEN[room], *LEAVES)


def module_name(file: Path, package: Path) -> str:
    """``nmfnet.core.model`` for its file; a folder's name for its ``__init__.py``."""
    parts = (package.name, *file.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph(package: Path) -> dict[str, set[str]]:
    """What every module imports when it runs, inside functions too, not for type checkers only."""
    files = {module_name(file, package): file for file in sorted(package.rglob("*.py"))}
    return {name: imports(file, set(files)) for name, file in files.items()}


def imports(file: Path, known: set[str]) -> set[str]:
    """Known modules that a file imports; ``from a import b`` names ``a.b``, or else ``a``."""
    tree = ast.parse(file.read_text())
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}, line {node.lineno}: write imports in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else str(node.module) for name in names}
    return found & known


def circle(edges: dict[str, set[str]]) -> list[str]:
    """A path of modules that import each other and ends where it began; [] if there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges[name]):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in edges if (found := visit(name, []))), [])


@pytest.fixture(scope="module")
def edges() -> dict[str, set[str]]:
    return graph(PACKAGE)


@pytest.mark.parametrize("room", FORBIDDEN)
def test_nothing_is_imported_from_above(room, edges):
    inside = [name for name in edges if name.split(".")[1:2] == [room]]
    assert inside, f"there is no room {room}"
    wrong = {
        name: sorted(other for other in edges[name] if other.split(".")[1:2] == [above])
        for name in inside
        for above in FORBIDDEN[room]
        if any(other.split(".")[1:2] == [above] for other in edges[name])
    }
    assert not wrong


def test_every_room_has_its_place():
    rooms = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert rooms == {*ORDER, *LEAVES, *GROUND}


def test_no_modules_import_each_other_in_a_circle(edges):
    assert circle(edges) == []


def test_a_circle_is_found_wherever_the_import_is_written(tmp_path):
    package = tmp_path / "nmfnet"
    (package / "b").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "a.py": "from nmfnet.b import c",
        "b/__init__.py": "",
        "b/c.py": "def later():\n    import nmfnet.d",
        "d.py": "from typing import TYPE_CHECKING\nfrom nmfnet.a import x",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    assert circle(graph(package)) == ["nmfnet.a", "nmfnet.b.c", "nmfnet.d", "nmfnet.a"]
    (package / "d.py").write_text("if TYPE_CHECKING:\n    from nmfnet.a import x")
    assert circle(graph(package)) == []


def test_importing_nmfnet_imports_nothing_heavy():
    code = "import sys, nmfnet; print({'torch', 'lightning', 'matplotlib', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
