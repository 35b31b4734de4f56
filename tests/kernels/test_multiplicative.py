"""Multiplicative rules never raise the objective, and their closed forms are its derivative."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import KINDS, LOSSES, MULTILINEAR, advance, make, planted, positive, values

from nmfnet.core.objective import factor_sums
from nmfnet.kernels.multiplicative import apply_update_
from nmfnet.solvers.base import total
from nmfnet.solvers.multiplicative import exponent_of

PENALTIES = ["l1", "l2", "orthogonal"]
FACTORS = {
    "nmf": ["W", "H"],
    "projective": ["H"],
    "convex-samples": ["A", "W"],
    "convex-features": ["G", "H"],
    "ae-tied": ["E"],
}


def assert_never_rises(model, batch, iterations=12):
    """One factor at a time, at the exponent that the code chooses."""
    exponents = {name: exponent_of(model, name) for name in model.factors}
    with torch.no_grad():
        first = before = total(model.objective(batch))
        for i in range(iterations):
            for name, factor in model.factors.items():
                neg, pos = factor_sums(model, name, batch)
                assert float(neg.detach().min()) >= 0
                assert float(pos.detach().min()) >= 0
                apply_update_(factor.raw.data, neg, pos, exponents[name])
                after = total(model.objective(batch))
                rise = ((after - before) / before).max()
                assert float(rise) <= 1e-13, f"{name} in iteration {i}"
                before = after
        assert bool((before < first).all())


@pytest.mark.parametrize("beside", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("variant", MULTILINEAR)
def test_objective_never_rises(variant, loss, beside):
    X = positive()
    mask = beside and beside(*X.shape)
    model, batch = make(X, mask=mask, n_restarts=4, **MULTILINEAR[variant], **LOSSES[loss])
    assert_never_rises(model, batch)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("variant", "on"), [(variant, name) for variant, names in FACTORS.items() for name in names]
)
def test_objective_never_rises_under_a_penalty(variant, on, loss, penalty):
    X = positive()
    model, batch = make(
        X,
        n_restarts=3,
        penalty=penalty,
        **{f"penalty.{penalty}.on": on, f"penalty.{penalty}.weight": 2.0},
        **MULTILINEAR[variant],
        **LOSSES[loss],
    )
    assert_never_rises(model, batch, iterations=6)


@pytest.mark.parametrize("axis", ["samples", "features"])
@pytest.mark.parametrize("beside", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("square_root", [False, True])
def test_objective_never_rises_for_data_of_any_sign(axis, beside, square_root):
    X = np.random.default_rng(0).normal(size=(9, 7))
    mask = beside and beside(*X.shape)
    model, batch = make(
        X, mask=mask, model="convex_nmf", convex_axis=axis, square_root=square_root, n_restarts=4
    )
    assert_never_rises(model, batch)


@pytest.mark.parametrize("beside", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("variant", MULTILINEAR)
def test_closed_form_is_the_autograd_oracle(variant, loss, beside):
    X = positive()
    mask = beside and beside(*X.shape)
    model, batch = make(X, mask=mask, n_restarts=2, **MULTILINEAR[variant], **LOSSES[loss])
    assert_fused_is_generic(model, batch)


@pytest.mark.parametrize("axis", ["samples", "features"])
def test_closed_form_splits_the_gradient_for_data_of_any_sign(axis):
    """Here the halves are another split of the same derivative: their difference must agree."""
    X = np.random.default_rng(0).normal(size=(9, 7))
    for mask in (beside and beside(*X.shape) for beside in KINDS.values()):
        model, batch = make(X, mask=mask, model="convex_nmf", convex_axis=axis, n_restarts=2)
        for name in model.factors:
            neg, pos = factor_sums(model, name, batch)
            assert float(neg.detach().min()) >= 0
            assert float(pos.detach().min()) >= 0
            slope = gradient(model, batch, name)
            torch.testing.assert_close(pos - neg, slope, rtol=1e-10, atol=1e-10)


def gradient(model, batch, name):
    (slope,) = torch.autograd.grad(total(model.objective(batch)).sum(), model.factors[name].raw)
    return slope


def assert_fused_is_generic(model, batch):
    for name, factor in model.factors.items():
        fused = factor_sums(model, name, batch, fused=True)
        oracle = factor_sums(model, name, batch, fused=False)
        for one, other in zip(fused, oracle, strict=True):
            torch.testing.assert_close(
                one.expand_as(factor.raw), other, rtol=1e-10, atol=1e-12, check_stride=False
            )
        neg, pos = oracle
        slope = gradient(model, batch, name)
        torch.testing.assert_close(pos - neg, slope, rtol=1e-9, atol=1e-9)


def test_sums_have_the_penalties_in_them():
    X = positive()
    for penalty in PENALTIES:
        model, batch = make(X, penalty=penalty, **{f"penalty.{penalty}.on": "W"})
        assert_fused_is_generic(model, batch)


def test_fused_and_generic_runs_agree():
    X = positive()
    fused, batch = make(X, loss="kl")
    generic, _ = make(X, loss="kl", **{"solver.fused": False})
    torch.testing.assert_close(
        advance(fused, batch, 50), advance(generic, batch, 50), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("variant", MULTILINEAR)
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_extrapolated_steps_never_rise(variant, loss):
    """The safeguard of the solver: what it records only falls, step by step."""
    X, _, _ = planted(20, 10)
    model, batch = make(
        X, n_restarts=5, **MULTILINEAR[variant], **LOSSES[loss], **{"solver.extrapolation": True}
    )
    with torch.no_grad():
        before = total(model.objective(batch))
    for length in (1, 2, 3, 5, 10, 20, 30, 40):
        after = advance(model, batch, length)
        assert bool((after <= before * (1 + 1e-13)).all())
        with torch.no_grad():  # what is recorded is the objective of the factors as they are
            torch.testing.assert_close(total(model.objective(batch)), after, rtol=1e-12, atol=0)
        before = after


def test_update_of_a_factor_that_does_not_act_stays_finite():
    theta = torch.ones(2, 3, dtype=torch.float64)
    apply_update_(theta, torch.zeros_like(theta), torch.zeros_like(theta), 1.0)
    assert torch.isfinite(theta).all()


def test_a_column_of_zeros_does_no_harm():
    X = positive()
    X[:, 2] = 0
    X[4] = 0
    for loss in ("frobenius", "kl"):
        model, batch = make(X, loss=loss)
        assert torch.isfinite(advance(model, batch, 200)).all()
        assert float(values(model)["H"][..., 2].max()) < 1e-10
