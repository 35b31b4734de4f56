"""What only a GPU can show: the same objective as on the CPU, the kernel equal to the eager rules.

``pytest -m gpu -n0 -s tests/gpu`` on a machine with a CUDA device; skipped elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from making import planted, positive, some_mask

import nmfnet
from nmfnet.kernels.multiplicative import kernels_for, nmf_sums_H, nmf_sums_W

pytestmark = pytest.mark.gpu

MODELS: dict[str, dict[str, Any]] = {
    "nmf": {"model": "nmf"},
    "nmf-masked": {"model": "nmf"},
    "convex-samples": {"model": "convex_nmf", "solver": "mu"},
    "convex-features": {"model": "convex_nmf", "solver": "mu", "model.convex_axis": "features"},
    "autoencoder": {"model": "autoencoder", "solver": "mu"},
    "autoencoder-adam": {"model": "autoencoder", "solver": "adam"},
}
RULES = {"W": nmf_sums_W, "H": nmf_sums_H}


def fit(X: np.ndarray, device: str, mask: np.ndarray | None = None, **settings: Any) -> Any:
    settings = {"n_components": 4, "max_iter": 200, "tol": 0.0, "n_restarts": 2, **settings}
    return nmfnet.fit(X, mask=mask, device=device, seed=0, **settings)


def data(n: int = 120, f: int = 64) -> np.ndarray:
    return planted(n, f, 4)[0] + positive(n, f) / 10


@pytest.mark.parametrize("loss", ["kl", "frobenius"])
@pytest.mark.parametrize("case", MODELS)
def test_trains_to_the_objective_of_the_cpu(case, loss):
    X = data()
    mask = some_mask(*X.shape) if case == "nmf-masked" else None
    found = {}
    for device in ("cpu", "cuda"):
        settings = {"solver": "mu", **MODELS[case], "loss": loss}
        model = fit(X, device, mask, **settings)
        assert model.components_.shape == (4, X.shape[1])
        found[device] = model.metrics["train/loss"]
    assert found["cuda"] == pytest.approx(found["cpu"], rel=1e-4)


@pytest.mark.parametrize("solver", ["auto", "hals", "newton", "anls", "pgd", "adam"])
def test_other_solvers_do_too(solver):
    """Compiled kernels on the CPU, torch here: another order of the same sums."""
    loss = "kl" if solver == "newton" else "frobenius"
    X, found = data(), {}
    for device in ("cpu", "cuda"):
        model = fit(X, device, loss=loss, solver=solver, dtype="float64")
        found[device] = model.metrics["train/loss"]
    assert found["cuda"] == pytest.approx(found["cpu"], rel=1e-3)


@pytest.mark.parametrize("loss", ["kl", "itakura_saito"])
def test_graphs_replay_the_very_same_operations(loss):
    X = data()
    settings: dict[str, Any] = {"solver": "mu", "loss": loss, "max_iter": 500}
    eager = fit(X, "cuda", **settings)
    replayed = fit(X, "cuda", **settings, **{"solver.loop": "graph"})
    np.testing.assert_array_equal(replayed.components_, eager.components_)


# ---------------------------------------------------------------------- the kernel
def problem(n, f, k, lead, *, masked):
    generator = torch.Generator(device="cuda").manual_seed(0)

    def draw(*size):
        return torch.rand(size, generator=generator, device="cuda") + 0.01

    x, mask = draw(n, f), None
    if masked:
        mask = (draw(n, f) < 0.8).float()
        x = x * mask
    return x, draw(*lead, n, k), draw(*lead, k, f), mask


def oracle(name, x, W, H, beta, mask):
    given = [None if v is None else v.double() for v in (x, W, H, mask)]
    return RULES[name](*given[:3], beta, given[3])


SIZES = [((16, 16), 1, ()), ((17, 33), 3, (2,)), ((1000, 501), 20, ()), ((300, 1004), 64, (3,))]
SIZES += [((257, 130), 65, ()), ((515, 96), 128, ())]


@pytest.mark.parametrize("beta", [1.0, 0.0, 1.5])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize(("shape", "k", "lead"), SIZES)
def test_kernel_is_the_eager_rule(shape, k, lead, beta, masked):
    x, W, H, mask = problem(*shape, k, lead, masked=masked)
    kernels = kernels_for(x)
    assert kernels is not None
    assert kernels.usable(x, W, H, mask)
    for name in "WH":
        found, wanted = kernels.sums(name, x, W, H, beta, mask), oracle(name, x, W, H, beta, mask)
        again = kernels.sums(name, x, W, H, beta, mask)
        for one, two, other in zip(found, again, wanted, strict=True):
            torch.testing.assert_close(one.double(), other.expand_as(one), rtol=1e-5, atol=0)
            assert torch.equal(one, two)
