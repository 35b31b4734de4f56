"""The KKT residual: 0 exactly at a fixed point, and in no units."""

from __future__ import annotations

import pytest
import torch
from making import LOSSES, MULTILINEAR, advance, make, planted

from nmfnet.core.objective import kkt
from nmfnet.kernels.optimality import kkt_residual


@pytest.mark.parametrize("variant", ["nmf", "projective", "convex-samples", "convex-features"])
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_falls_to_zero_at_convergence(variant, loss):
    """Convex NMF under multiplicative updates converges sublinearly: there it only falls far."""
    X, _, _ = planted(8, 20, 2)
    X += 0.1
    model, batch = make(X, **{**MULTILINEAR[variant], **LOSSES[loss], "n_components": 2})
    first = float(kkt(model, batch))
    advance(model, batch, 400 if "convex" in variant else 1000)
    last = float(kkt(model, batch))
    assert first > 0.1
    assert last < (1e-2 if "convex" in variant else 1e-5)


def test_zero_exactly_at_the_conditions():
    theta = torch.tensor([[0.0, 2.0, 0.0]])
    pos = torch.tensor([[3.0, 1.0, 1.0]])
    neg = torch.tensor([[1.0, 1.0, 1.0]])  # gradients 2 at a zero, 0 inside, 0 at a zero
    assert float(kkt_residual(theta, neg, pos)) < 1e-15
    assert float(kkt_residual(theta, neg + torch.tensor([[0.0, 0.5, 0.0]]), pos)) > 0.1
    assert float(kkt_residual(theta, neg + torch.tensor([[0.0, 0.0, 0.5]]), pos)) > 0.1
    assert float(kkt_residual(theta + torch.tensor([[0.5, 0.0, 0.0]]), neg, pos)) > 0.1


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_does_not_depend_on_units(loss):
    X, _, _ = planted(20, 8, 2)
    found = []
    for scale in (1.0, 1e4):
        model, batch = make(scale * X + scale * 0.1, loss=loss)
        advance(model, batch, 5)
        found.append(float(kkt(model, batch)))
    assert found[1] == pytest.approx(found[0], rel=1e-8)


def test_one_number_for_each_restart():
    X, _, _ = planted(20, 8, 2)
    model, batch = make(X, n_restarts=3)
    assert kkt(model, batch).shape == (3,)


def test_undefined_for_curved_models():
    X, _, _ = planted(20, 8, 2)
    for settings in ({"activation": "softplus", "hidden": [4]}, {"constraint": "softplus"}):
        model, batch = make(X, model="autoencoder", **settings)
        assert kkt(model, batch) is None
