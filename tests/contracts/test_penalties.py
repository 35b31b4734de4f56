"""What every penalty promises, for each file of ``conf/penalty``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import advance, batch_of, config, make, positive, values

import nmfnet
from nmfnet.config import options
from nmfnet.core.constraints import Project
from nmfnet.core.factor import Factor
from nmfnet.settings.objects import build

PENALTIES = [name for name in options("penalty") if name != "none"]


AXES = {"W": ("sample", "component"), "G": ("feature", "component"), "E": ("feature", "component")}


OWN = {"laplacian": {"graph": "knn", "neighbours": 1}}
"""Options without which a penalty cannot be of these factors."""


def penalty_of(name, **own):
    own = {"on": "H", **OWN.get(name, {}), **own}
    settings = {f"penalty.{name}.{key}": value for key, value in own.items()}
    made = build(config({"penalty": name, **settings}).penalty[name])
    axes = AXES.get(made.on, ("component", "feature"))
    made.attach({made.on: Factor(1, 3, 4, Project(), axes=axes)})
    made.start(batch_of(positive(3, 4 if axes[1] == "feature" else 3)))
    return made


def value(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 4, generator=generator, dtype=torch.float64) + 0.05


@pytest.mark.parametrize("on", ["W", "H", "A", "G", "E"])
@pytest.mark.parametrize("name", PENALTIES)
def test_split_is_the_gradient_in_two_halves(name, on):
    penalty, v = penalty_of(name, on=on, weight=0.3), value().requires_grad_()
    assert penalty(v).shape == (2,)
    (slope,) = torch.autograd.grad(penalty(v).sum(), v)
    neg, pos = (torch.as_tensor(half).expand_as(v) for half in penalty.split(v.detach()))
    assert float(neg.min()) >= 0
    assert float(pos.min()) >= 0
    torch.testing.assert_close((pos - neg).double(), slope)
    assert torch.autograd.gradcheck(penalty, v)


@pytest.mark.parametrize("name", PENALTIES)
def test_never_negative_and_proportional_to_its_weight(name):
    one, three = (penalty_of(name, weight=weight)(value()) for weight in (1.0, 3.0))
    assert float(one.min()) >= 0
    torch.testing.assert_close(three, 3 * one)
    assert float(penalty_of(name, weight=0.0)(value()).abs().max()) == 0


@pytest.mark.parametrize("name", PENALTIES)
def test_an_additive_penalty_of_samples_is_the_sum_over_blocks_of_them(name):
    penalty, v = penalty_of(name, on="W"), value()
    if penalty.additive:
        torch.testing.assert_close(penalty(v[:, :1]) + penalty(v[:, 1:]), penalty(v))


def test_values_by_hand():
    v = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])
    assert float(penalty_of("l1", weight=0.5)(v)) == 3
    assert float(penalty_of("l2", weight=0.5)(v)) == 0.25 * 14
    assert float(penalty_of("orthogonal", on="H", weight=1.0)(v)) == 3  # rows: 1 * 3 + 2 * 0
    assert float(penalty_of("orthogonal", on="W", weight=1.0)(v)) == 2  # columns: 1 * 2 + 3 * 0


def test_volume_by_hand():
    v = value()[0]
    penalty = penalty_of("min_volume", weight=0.5, delta=0.2)
    expected = np.linalg.slogdet(np.eye(3) + (v @ v.T).numpy() / 0.2)[1]
    assert float(penalty(v)) == pytest.approx(0.5 * expected, rel=1e-12)
    with pytest.raises(nmfnet.UserError, match="delta=0"):
        penalty_of("min_volume", delta=0.0)


@pytest.mark.parametrize("on", ["W", "H"])
@pytest.mark.parametrize("name", [name for name in PENALTIES if name not in OWN])
def test_the_normal_equations_touch_the_penalty_from_above(name, on):
    """Equal in slope where they are made, and nowhere below the penalty."""
    penalty, here = penalty_of(name, on=on, weight=0.3), value(1).requires_grad_()
    rows = here.mT if on == "H" else here
    k = rows.shape[-1]
    quadratic, linear = penalty.normal(torch.zeros(2, k, k, dtype=torch.float64), here.detach())

    def bound(v: torch.Tensor) -> torch.Tensor:
        theta = v.mT if on == "H" else v
        return 0.5 * ((theta @ quadratic) * theta).sum((-2, -1)) + linear * theta.sum((-2, -1))

    wanted, found = (torch.autograd.grad(f(here).sum(), here)[0] for f in (penalty, bound))
    torch.testing.assert_close(found, wanted)
    for seed in range(2, 20):
        there = 3 * value(seed)
        gap = (bound(there) - bound(here)) - (penalty(there) - penalty(here))
        assert float(gap.detach().min()) >= -1e-9


@pytest.mark.parametrize("loss", ["frobenius", "kl", "itakura_saito"])
@pytest.mark.parametrize("name", PENALTIES)
def test_multiplicative_updates_never_raise_a_penalised_objective(name, loss):
    own = {f"penalty.{name}.{key}": value for key, value in OWN.get(name, {}).items()}
    own |= {f"penalty.{name}.weight": 3.0, "solver.extrapolation": False, "solver": "mu"}
    model, batch = make(positive(20, 8), loss=loss, penalty=name, n_restarts=3, **own)
    before = advance(model, batch, 1)
    for _ in range(60):
        now = advance(model, batch, 1)
        assert bool((now <= before * (1 + 1e-12)).all())
        before = now


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("name", PENALTIES)
def test_a_heavier_penalty_lowers_what_it_penalises(name, loss):
    X = positive(20, 8)
    found = []
    for weight in (0.0, 1.0, 10.0):
        own = {"on": "H", **OWN.get(name, {}), "weight": weight}
        own = {f"penalty.{name}.{key}": value for key, value in own.items()}
        model, batch = make(X, loss=loss, penalty=name, **own)
        advance(model, batch, 200)
        (unit,) = model.penalty_list
        unit.weight = 1.0
        found.append(float(unit(values(model)["H"]).detach()))
    assert found[0] > found[1] > found[2]


def test_several_penalties_add_up_and_are_reported_apart():
    X = positive(20, 8)
    chosen = {"penalty": ["l1", "l2"], "penalty.l1.weight": 0.5, "penalty.l2.on": "W"}
    fitted = nmfnet.fit(X, n_components=3, max_iter=30, dtype="float64", **chosen)
    W, H = fitted.transform(X), fitted.components_
    assert W.shape == (20, 3)
    factors = {name: factor()[0].detach().numpy() for name, factor in fitted.factors.items()}
    wanted = (
        0.5 * ((X - factors["W"] @ factors["H"]) ** 2).sum()
        + 0.5 * np.abs(H).sum()
        + 0.05 * (factors["W"] ** 2).sum()
    )
    assert fitted.metrics["objective"] == pytest.approx(wanted, rel=1e-9)


def test_a_penalty_on_a_factor_that_is_not_there_is_refused():
    with pytest.raises(nmfnet.UserError, match=r"'Q'.*W, H.*penalty"):
        nmfnet.fit(positive(), penalty="l1", **{"penalty.l1.on": "Q"})
    with pytest.raises(nmfnet.UserError, match="weight is -1"):
        nmfnet.fit(positive(), penalty="l1", **{"penalty.l1.weight": -1.0})


@pytest.mark.quick("l1")
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_new_rows_are_fitted_under_the_penalty_of_w(name):
    """The W of the training rows is also what transform gives for them."""
    X = positive(20, 8)
    chosen = {"penalty": name, f"penalty.{name}.on": "W", f"penalty.{name}.weight": 0.5}
    fitted = nmfnet.fit(
        X, n_components=3, dtype="float64", tol=1e-6, max_iter=2000, solver="hals", **chosen
    )
    W = fitted.factors["W"]()[0].detach().numpy()
    np.testing.assert_allclose(fitted.transform(X), W, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in PENALTIES if name not in OWN])
def test_a_loaded_model_penalises_the_codes_of_new_rows_alike(name, tmp_path):
    settings = {"penalty": name, f"penalty.{name}.on": "W", f"penalty.{name}.weight": 1.0}
    fitted = nmfnet.fit(
        positive(20, 8), n_components=3, max_iter=50, dtype="float64",
        run_dir=tmp_path / "run", figures=False, **settings,
    )  # fmt: skip
    new = positive(6, 8, seed=1)
    loaded = nmfnet.load(tmp_path / "run")
    np.testing.assert_allclose(loaded.transform(new), fitted.transform(new), rtol=1e-9)


@pytest.mark.parametrize("solver", ["hals", "mu", "anls", "adam"])
def test_a_list_of_factors_is_a_penalty_of_each(solver):
    X = positive(12, 8)
    own = {"n_components": 2, "solver": solver, "max_iter": 40, "dtype": "float64", "seed": 0}
    both = nmfnet.fit(X, penalty="l1", **{"penalty.l1.on": ["W", "H"]}, **own)
    assert [(p.name, p.on) for p in both.penalty_list] == [("l1", "W"), ("l1", "H")]
    W, H = (both.factors[name]()[0].detach() for name in ("W", "H"))
    misfit = 0.5 * float((torch.from_numpy(X) - W @ H).square().sum())
    wanted = misfit + 0.1 * float(W.sum() + H.sum())
    assert both.metrics["objective"] == pytest.approx(wanted, rel=1e-6)


def test_a_list_names_every_factor_once():
    for factors in ([], ["W", "W"], ["W", "Q"]):
        with pytest.raises(nmfnet.UserError, match=r"penalty\.l1\.on|penalty\.on"):
            nmfnet.fit(positive(12, 8), penalty="l1", **{"penalty.l1.on": factors})


def test_a_penalty_that_scale_can_dodge_says_so():
    def notes(**settings) -> list[str]:
        own = {"n_components": 2, "max_iter": 2, "penalty": "l1"}
        return nmfnet.fit(positive(12, 8), **own, **settings).notes

    with pytest.warns(UserWarning, match="alone, and the scale of W is free"):
        (said,) = notes()
    assert "the scale of W is free" in said
    assert "penalty.l1.on=[W,H]" in said
    assert not notes(**{"penalty.l1.on": ["W", "H"]})
    assert not notes(**{"constraint.W": "simplex_project", "solver": "gd"})
    assert not notes(H=positive(2, 8))
    assert not notes(**{"penalty.l1.weight": 0.0})


def shrunk(values: np.ndarray, by: float) -> np.ndarray:
    return np.sign(values) * np.maximum(np.abs(values) - by, 0)


@pytest.mark.parametrize("solver", ["auto", "lbfgs"])
def test_absolute_values_of_any_sign_are_what_is_penalised(solver):
    """Proximal steps of both factors, which know where the kink is, find no lower objective."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 2)) @ rng.normal(size=(2, 8)) + 0.1 * rng.normal(size=(20, 8))
    fitted = nmfnet.fit(
        X,
        n_components=2,
        dtype="float64",
        constraint="free",
        penalty="l1",
        solver=solver,
        **{"penalty.l1.on": ["W", "H"]},
    )
    W, H = (found[0].numpy() for found in values(fitted).values())

    def objective() -> float:
        return ((X - W @ H) ** 2).sum() / 2 + 0.1 * (np.abs(W).sum() + np.abs(H).sum())

    before = objective()
    assert fitted.metrics["converged"]
    assert fitted.metrics["objective"] == pytest.approx(before, rel=1e-9)
    for _ in range(3000):
        step = 1 / np.linalg.norm(H @ H.T, 2)
        W = shrunk(W - step * (W @ H - X) @ H.T, 0.1 * step)
        step = 1 / np.linalg.norm(W.T @ W, 2)
        H = shrunk(H - step * W.T @ (W @ H - X), 0.1 * step)
    assert objective() > before * (1 - 1e-3)


@pytest.mark.parametrize("solver", ["anls", "pgd"])
def test_solvers_to_which_absolute_values_are_a_sum_refuse_any_sign(solver):
    with pytest.raises(nmfnet.UserError, match="takes penalty=l1 of factors >= 0, and H has any"):
        nmfnet.fit(positive(9, 5), "semi_nmf", n_components=2, penalty="l1", solver=solver)


def test_overlap_of_any_sign_has_no_lower_bound():
    with pytest.raises(nmfnet.UserError, match=r"no lower bound.*constraint\.H=project"):
        nmfnet.fit(positive(9, 5), "semi_nmf", n_components=2, penalty="orthogonal")
