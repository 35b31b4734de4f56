"""The built wheel holds everything and runs from a foreign folder."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from shell import environment

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built by pip; with a build environment of its own unless hatchling is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(folder), str(ROOT)]
    isolated = importlib.util.find_spec("hatchling") is None
    done = subprocess.run(
        command if isolated else [*command, "--no-build-isolation"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    if isolated and done.returncode and "hatchling" in done.stdout + done.stderr:
        pytest.skip("no hatchling here, and no index to get it from")
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("nmfnet-*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with the wheel alone; the rest comes from this environment."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(site), str(wheel)], check=True, capture_output=True)
    return site


def run(site: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=environment() | {"PYTHONPATH": str(site)},
    )


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_its_configuration(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "nmfnet/py.typed" in names  # annotations are for type checkers of users too
    for top, target in (("nmfnet", "nmfnet"), ("conf", "nmfnet/conf")):
        files = [path for path in (ROOT / top).rglob("*") if path.is_file()]
        expected = {
            f"{target}/{path.relative_to(ROOT / top)}"
            for path in files
            if "__pycache__" not in path.parts
        }
        assert expected <= names
    assert not [name for name in names if name.split("/")[0] in ("tests", "experiments", "runs")]
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_installed_command_trains_in_a_foreign_folder(installed, tmp_path):
    where = run(installed, "-c", "import nmfnet; print(nmfnet.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(installed)
    script = str(installed / "bin" / "nmfnet-train")
    words = ("model=convex_nmf", "max_iter=50", "model.n_components=3")
    done = run(installed, script, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "results in runs/convex_nmf/" in done.stdout
    assert len(list(tmp_path.glob("runs/convex_nmf/*/figures/components.png"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    refused = run(installed, script, "model=convexnmf", cwd=tmp_path)
    assert refused.returncode == 2
    assert "did you mean 'convex_nmf'" in refused.stderr
    listed = run(installed, str(installed / "bin" / "nmfnet"), "ls", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "convex_nmf/" in listed.stdout


@pytest.mark.slow
def test_python_needs_no_clone_either(installed, tmp_path):
    code = (
        "import numpy as np, nmfnet\n"
        "m = nmfnet.fit(np.random.default_rng(0).random((20, 8)), n_components=2, max_iter=20)\n"
        "print(m.components_.shape, m.transform(np.ones((3, 8))).shape)"
    )
    done = run(installed, "-c", code, cwd=tmp_path)
    assert done.stdout.strip() == "(2, 8) (3, 2)", done.stderr
    assert list(tmp_path.iterdir()) == []
