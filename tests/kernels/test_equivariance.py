"""What must not matter does not: other restarts, masked entries, units, and the order of things."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import (
    LOSSES,
    MULTILINEAR,
    advance,
    batch_of,
    make,
    multilinear,
    planted,
    positive,
    reconstruct,
    some_mask,
    values,
)

from nmfnet.types import Batch

SOLVERS = {"mu": {"solver": "mu"}, "adam": {"solver": "adam"}}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("variant", MULTILINEAR)
def test_restarts_together_are_restarts_apart(variant, solver):
    X = positive(12, 7)
    settings = {**MULTILINEAR[variant], **SOLVERS[solver], "n_restarts": 3, "seed": 5}
    together, batch = make(X, **settings)
    advance(together, batch, 15)
    advance(together, batch, 15)
    for i in range(3):
        alone, _ = make(X, **settings, restarts=range(i, i + 1))
        advance(alone, batch, 15)
        advance(alone, batch, 15)
        for name, value in values(alone).items():
            torch.testing.assert_close(values(together)[name][i], value[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_stopped_restarts_stand_still_and_the_others_go_on_as_alone(solver):
    X = positive(12, 7)
    model, batch = make(X, n_restarts=3, **SOLVERS[solver])
    advance(model, batch, 20)
    before = values(model)
    model.solver.step(model, batch, 20, [0, 2])
    after = values(model)
    alone, _ = make(X, n_restarts=3, **SOLVERS[solver], restarts=range(2, 3))
    advance(alone, batch, 20)
    advance(alone, batch, 20)
    for name in before:
        assert torch.equal(before[name][1], after[name][1])
        assert not torch.equal(before[name][0], after[name][0])
        torch.testing.assert_close(after[name][2], values(alone)[name][0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("variant", "loss"), multilinear(LOSSES))
def test_masked_entries_have_no_influence(variant, loss):
    """Whatever is stored under the mask, every bit of the result is the same."""
    X = positive(12, 7)
    mask = some_mask(12, 7)
    changed = np.where(mask, X, 1e6)
    found = []
    for data in (X, changed):
        model, batch = make(data, mask=mask, n_restarts=2, **MULTILINEAR[variant], **LOSSES[loss])
        advance(model, batch, 20)
        found.append(values(model))
    for name in found[0]:
        assert torch.isfinite(found[0][name]).all()
        assert torch.equal(found[0][name], found[1][name])


@pytest.mark.parametrize("variant", ["nmf", "convex-samples", "ae"])
def test_a_mask_of_ones_is_no_mask(variant):
    X = positive(12, 7)
    for loss in LOSSES.values():
        plain, batch = make(X, **MULTILINEAR[variant], **loss)
        masked, seen = make(X, mask=np.ones(X.shape, bool), **MULTILINEAR[variant], **loss)
        torch.testing.assert_close(
            advance(plain, batch, 30), advance(masked, seen, 30), rtol=1e-9, atol=0
        )


@pytest.mark.parametrize("scale", [1e-3, 1e4])
@pytest.mark.parametrize(("variant", "loss"), multilinear(LOSSES))
def test_units_of_x_do_not_matter(variant, loss, scale):
    """cX gives c X_hat after the same updates, from the start that the code chooses."""
    X = positive(12, 7)
    model, batch = make(X, **MULTILINEAR[variant], **LOSSES[loss])
    scaled, larger = make(scale * X, **MULTILINEAR[variant], **LOSSES[loss])
    advance(model, batch, 20)
    advance(scaled, larger, 20)
    torch.testing.assert_close(
        reconstruct(scaled, larger) / scale, reconstruct(model, batch), rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("scale", [1e-3, 1e4])
@pytest.mark.parametrize("model", ["nmf", "convex_nmf", "projective_nmf", "autoencoder"])
def test_units_of_x_do_not_matter_to_adam(model, scale):
    X = positive(12, 7)
    plain, batch = make(X, model=model, solver="adam")
    scaled, larger = make(scale * X, model=model, solver="adam")
    advance(plain, batch, 50)
    advance(scaled, larger, 50)
    torch.testing.assert_close(
        reconstruct(scaled, larger) / scale, reconstruct(plain, batch), rtol=1e-6, atol=1e-8
    )


def reordered(model, batch, rows, columns, components):
    """Permute the state of a model as X is permuted (NMF and convex NMF by samples)."""
    axes = {
        "W": (rows, components),
        "H": (components, columns),
        "A": (components, rows),
        "G": (columns, components),
        "E": (columns, components),
    }
    for name, factor in model.factors.items():
        first, second = axes[name]
        factor.raw.data = factor.raw.data[:, first][:, :, second].clone()
    mask = None if batch.mask is None else batch.mask[rows][:, columns]
    moved = Batch(batch.x[rows][:, columns], batch.index, mask)
    if hasattr(model, "x"):
        model.x = moved.x
    return moved


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize(
    "variant", ["nmf", "projective", "convex-samples", "convex-features", "ae", "ae-tied"]
)
def test_order_of_rows_columns_and_components_does_not_matter(variant, loss, masked):
    X = positive(12, 7)
    mask = some_mask(12, 7) if masked else None
    rng = np.random.default_rng(3)
    rows, columns, components = (torch.from_numpy(rng.permutation(n)) for n in (12, 7, 3))
    model, batch = make(X, mask=mask, **MULTILINEAR[variant], **LOSSES[loss])
    other, _ = make(X, mask=mask, **MULTILINEAR[variant], **LOSSES[loss])
    moved = reordered(other, batch, rows, columns, components)
    one, two = advance(model, batch, 30), advance(other, moved, 30)
    torch.testing.assert_close(one, two, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        reconstruct(model, batch)[:, rows][:, :, columns],
        reconstruct(other, moved),
        rtol=1e-8,
        atol=1e-10,
    )


def test_same_seed_same_bits_and_another_seed_other_bits():
    X, _, _ = planted(20, 8)
    found = []
    for seed in (1, 1, 2):
        model, batch = make(X, seed=seed, n_restarts=2)
        advance(model, batch, 30)
        found.append(values(model)["H"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0][0], found[0][1])


def test_batch_of_keeps_zeros_under_the_mask():
    mask = some_mask(12, 7)
    assert float(batch_of(positive(12, 7), mask).x[torch.from_numpy(~mask)].abs().max()) == 0
