"""Packages that wait for their first use are whole when it comes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nmfnet.settings import deferred


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package on the path that is deferred, with a module of its own."""
    name = "waits_here"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(
        "from waits_here import part\nfrom waits_here.part import value\nloads = []\n"
    )
    (tmp_path / name / "part.py").write_text(
        "import sys\nvalue = object()\nsys.counted.append(1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(deferred.DEFERRED, name, {"given": lambda module: module.__name__})
    monkeypatch.setattr(sys, "counted", [], raising=False)
    yield name
    for key in (name, f"{name}.part"):
        sys.modules.pop(key, None)


def test_a_package_is_loaded_at_its_first_use_in_the_same_object(package: str) -> None:
    module = importlib.import_module(package)
    assert module.given == package
    assert f"{package}.part" not in sys.modules
    assert module.value is sys.modules[f"{package}.part"].value
    assert module is sys.modules[package]
    assert type(module) is ModuleType
    assert not hasattr(module, "nothing")


def test_a_part_of_a_package_is_run_once_and_after_the_whole(package: str) -> None:
    module = importlib.import_module(package)
    part = importlib.import_module(f"{package}.part")
    assert type(module) is ModuleType
    assert module.part is part is sys.modules[f"{package}.part"]
    assert sys.counted == [1]  # type: ignore[attr-defined]
    assert importlib.reload(part) is part


def test_a_package_that_fails_says_so_every_time(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "part.py").write_text("raise ImportError('broken')\n")
    module = importlib.import_module(package)
    for _ in range(2):
        with pytest.raises(ImportError, match="broken"):
            module.value  # noqa: B018


def test_a_module_gets_proxies_of_what_it_imports_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "takes_later.py").write_text(
        "import rarely_used as r\nfrom rarely_used import g\ndef f(): return r.x + g(1)\n"
    )
    (tmp_path / "rarely_used.py").write_text("x = 3\ndef g(y): return y\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(deferred.PROXIES, "takes_later", {"rarely_used": ("g",)})
    module = importlib.import_module("takes_later")
    assert "rarely_used" not in sys.modules
    assert module.f() == 4
    assert sys.modules.pop("rarely_used").x == 3
    del sys.modules["takes_later"]


THE_REAL_ONES = """
import numpy as np, sys, nmfnet
X = np.random.default_rng(0).random((12, 6))
nmfnet.fit(X, "autoencoder", solver="adam", max_iter=20)
import sklearn.datasets, sklearn.metrics
for name in ("torch._dynamo.eval_frame", "torchmetrics.functional", "pandas", "scipy.stats"):
    assert name not in sys.modules, name

import lightning.pytorch.core.module as of_lightning, torch, torchmetrics
from lightning.fabric.wrappers import _unwrap_compiled
from torch.optim import Optimizer
held = torch.compiler.disable(lambda x: x + 1)
layer = torch.nn.Linear(2, 2)
compiled = torch.compile(layer, backend="eager")  # loads the compiler
assert isinstance(compiled, sys.modules["torch._dynamo"].OptimizedModule)
assert _unwrap_compiled(compiled)[0] is layer and _unwrap_compiled(layer)[0] is layer
x = torch.ones(2, 2)
assert torch.equal(compiled(x), layer(x))
try:
    torch.compile(lambda x: held(x) * 2, backend="eager", fullgraph=True)(x)
except torch._dynamo.exc.Unsupported:
    pass
else:
    raise AssertionError("a function that was held back was compiled")
assert torch.equal(torch.compile(lambda x: held(x) * 2, backend="eager")(x), (x + 1) * 2)

from torchmetrics.classification import MulticlassAccuracy
assert issubclass(MulticlassAccuracy, of_lightning.Metric)
assert torchmetrics.Metric is of_lightning.Metric
assert float(MulticlassAccuracy(2, average="micro")(torch.tensor([0, 1]), torch.tensor([0, 0]))) == 0.5
import pandas
assert sklearn.metrics.label_ranking_average_precision_score([[1, 0]], [[0.9, 0.1]]) == 1
from sklearn.preprocessing import StandardScaler
from sklearn.preprocessing import PowerTransformer, QuantileTransformer
even = QuantileTransformer(n_quantiles=4, output_distribution="normal")
Z = even.fit_transform(np.arange(8.0)[:, None])
assert np.allclose(Z, -Z[::-1])
assert PowerTransformer(method="box-cox").fit([[1.0], [2.0], [4.0]]).lambdas_.shape == (1,)
assert list(StandardScaler().fit(pandas.DataFrame({"a": [1, 2]})).feature_names_in_) == ["a"]
"""


@pytest.mark.slow
def test_runs_do_without_and_every_other_use_finds_the_real_thing() -> None:
    subprocess.run([sys.executable, "-c", THE_REAL_ONES], check=True, timeout=600)
