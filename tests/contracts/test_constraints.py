"""What every constraint promises, for each file of ``conf/constraint``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from making import config

from nmfnet.config import options
from nmfnet.core.constraints import Hoyer
from nmfnet.core.factor import Factor
from nmfnet.metrics import hoyer_sparsity
from nmfnet.settings.objects import build

CONSTRAINTS = options("constraint")
SMOOTH = ["softplus", "square", "exp", "simplex", "free"]
few = settings(max_examples=20, deadline=None, derandomize=True)


def constraint_of(name):
    return build(config({"constraint": name}).constraint)


def raws(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", CONSTRAINTS)
@few
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 30.0]))
def test_every_value_is_feasible(name, seed, scale):
    constraint, raw = constraint_of(name), scale * raws(seed)
    constraint.project_(raw)
    value = constraint(raw)
    assert value.shape == raw.shape
    assert torch.isfinite(value).all()
    assert float(constraint.violation(value)) <= 1e-12


@pytest.mark.parametrize("name", CONSTRAINTS)
@few
@given(seed=st.integers(0, 10**6))
def test_right_inverse_finds_a_raw_parameter_of_a_feasible_value(name, seed):
    constraint, raw = constraint_of(name), raws(seed)
    constraint.project_(raw)
    value = constraint(raw)
    again = constraint(constraint.right_inverse(value))
    torch.testing.assert_close(again, value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_right_inverse_of_zero_and_of_large_values_is_finite(name):
    constraint = constraint_of(name)
    for dtype in (torch.float32, torch.float64):
        value = torch.tensor([[0.0, 1e-20, 1.0, 1e6]], dtype=dtype)
        raw = constraint.right_inverse(value)
        assert torch.isfinite(raw).all()
        if not name.startswith(("simplex", "orthogonal", "hoyer")):
            torch.testing.assert_close(constraint(raw), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_projection_is_idempotent_and_leaves_feasible_points(name):
    constraint, raw = constraint_of(name), raws(0)
    constraint.project_(raw)
    once = raw.clone()
    constraint.project_(raw)
    torch.testing.assert_close(raw, once, rtol=0, atol=1e-15)


def test_projection_is_the_nearest_point():
    constraint, raw = constraint_of("project"), raws(0)
    projected = raw.clone()
    constraint.project_(projected)
    assert torch.equal(projected, raw.clamp_min(0))


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_identity_says_whether_the_value_is_the_parameter(name):
    constraint, raw = constraint_of(name), raws(0)
    if constraint.identity:
        assert constraint(raw) is raw


@pytest.mark.parametrize("name", SMOOTH)
def test_gradcheck(name):
    constraint = constraint_of(name)
    assert torch.autograd.gradcheck(constraint, raws(0).requires_grad_())


@pytest.mark.parametrize("name", [name for name in CONSTRAINTS if name not in SMOOTH])
def test_gradcheck_away_from_the_kink(name):
    constraint, raw = constraint_of(name), raws(0)
    raw = torch.where(raw.abs() < 0.1, 0.5, raw)
    assert torch.autograd.gradcheck(constraint, raw.requires_grad_())


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_violation_sees_an_infeasible_value(name):
    constraint = constraint_of(name)
    bad = torch.tensor([[0.5, -0.25, 0.5]], dtype=torch.float64)
    wanted = {"free": 0.0, "orthogonal": 0.5}
    wanted["hoyer"] = float((constraint.project(bad) - bad).abs().max())
    assert float(constraint.violation(bad)) == pytest.approx(wanted.get(name, 0.25))
    assert (float(constraint.violation(bad)) > 0.2) == (name != "free")


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_factor_holds_what_it_is_assigned(name):
    factor = Factor(2, 3, 4, constraint_of(name)).double()
    value = constraint_of(name).project(raws(1).abs() + 0.1)
    factor.assign_(value)
    torch.testing.assert_close(factor(), value)
    factor.assign_(value[:1])  # broadcast over restarts
    torch.testing.assert_close(factor()[1], value[0])


@pytest.mark.parametrize("name", CONSTRAINTS)
@few
@given(seed=st.integers(0, 10**6))
def test_project_finds_the_nearest_feasible_value(name, seed):
    """No feasible value is nearer than the projection; all of a convex set lies behind it."""
    constraint, wanted = constraint_of(name), 2 * raws(seed)
    nearest = constraint.project(wanted)
    assert constraint.contains(nearest, 1e-9)
    torch.testing.assert_close(constraint.project(nearest), nearest, rtol=1e-9, atol=1e-12)
    other = constraint.project(raws(seed + 1))
    gap, further = ((wanted - point).square().sum(-1) for point in (nearest, other))
    assert bool((gap <= further + 1e-9).all())
    angle = ((wanted - nearest) * (other - nearest)).sum(-1)
    assert not constraint.convex or float(angle.max()) <= 1e-9


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_bounds_and_scaling_are_what_they_say(name):
    constraint, value = constraint_of(name), constraint_of(name).project(raws(3))
    if constraint.bounds is not None:
        low, high = constraint.bounds
        anything = raws(5).clamp(low, high)
        assert constraint.contains(anything, 1e-9)
    scaled = value * (raws(4).abs() + 0.1)
    assert constraint.contains(scaled, 1e-9) == constraint.closed_under_scaling


@few
@given(seed=st.integers(0, 10**6), sparseness=st.floats(0.02, 0.99), tied=st.booleans())
def test_hoyer_rows_have_their_sparseness_exactly_and_none_is_nearer(seed, sparseness, tied):
    """Also where entries are equal, so that the nearest row is not unique."""
    wanted = raws(seed)
    wanted = wanted.round() if tied else wanted
    limits = Hoyer(sparseness=sparseness)
    nearest = limits.project(wanted)
    dead = (nearest == 0).all(-1)
    np.testing.assert_allclose(hoyer_sparsity(nearest)[~dead.numpy()], sparseness, atol=1e-9)
    towards = torch.rand(
        500, 1, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    others = limits.project(towards - 0.3)
    units = others / others.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    reach = (
        (wanted * units).sum(-1).clamp_min(0).amax(0)
    )  # how much of it the best of them explains
    assert bool((reach <= nearest.norm(dim=-1) + 1e-9).all())
    one = Hoyer(sparseness=sparseness, norm=2.0).project(wanted)
    torch.testing.assert_close(one.norm(dim=-1), torch.full((2, 3), 2.0, dtype=torch.float64))
    torch.testing.assert_close(
        one[~dead] / 2, nearest[~dead] / nearest[~dead].norm(dim=-1)[:, None]
    )


def test_hoyer_refuses_rows_of_one_entry():
    import nmfnet

    X = raws(0)[0].abs().numpy()
    with pytest.raises(nmfnet.UserError, match="a single entry"):
        nmfnet.fit(X, n_components=1, **{"constraint.W": "hoyer"})


def test_a_single_factor_has_a_constraint_of_its_own():
    import nmfnet

    X = raws(0)[0].abs().numpy()
    fitted = nmfnet.fit(X, n_components=2, solver="gd", max_iter=5, **{"constraint.W": "simplex"})
    assert type(fitted.factors["W"].constraint).__name__ == "Simplex"
    assert type(fitted.factors["H"].constraint).__name__ == "Project"
    with pytest.raises(nmfnet.UserError, match=r"constraint\.W=simplx.*did you mean 'simplex'"):
        nmfnet.fit(X, n_components=2, **{"constraint.W": "simplx"})
    with pytest.raises(
        nmfnet.UserError, match=r"constraint\.Q: NMF has no such factor; it has W, H"
    ):
        nmfnet.fit(X, n_components=2, **{"constraint.Q": "simplex"})
