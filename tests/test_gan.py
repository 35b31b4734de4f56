"""Generative adversarial network: two players, a judge, the search for codes, and what is refused."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from kinds import QUIET, assert_resumes, started
from scipy import stats
from shell import train

import nmfnet
from nmfnet.data import InMemory
from nmfnet.kernels.energy import energy_distance
from nmfnet.kernels.nearest import nearest
from nmfnet.metrics import energy_distance as by_numpy
from nmfnet.metrics import mode_coverage
from nmfnet.run.measures import unfinished_words

SMALL = {"model": "gan", "model.hidden": 8, "solver.rows": 16}
fit = functools.partial(nmfnet.fit, **SMALL, **QUIET)
CENTRES = 2 * np.column_stack([f(np.pi / 4 * np.arange(8)) for f in (np.cos, np.sin)])


def ring(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return CENTRES[rng.integers(8, size=n)] + 0.05 * rng.normal(size=(n, 2))


def moves(model, batch, n_iter: int = 1) -> None:
    model.solver.step(model, batch, n_iter, list(range(model.n_restarts)))
    model.iteration += n_iter


def test_the_energy_distance_is_scipys_in_one_dimension():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(1, 2, size=60)
    wanted = stats.energy_distance(a, b) ** 2
    found = energy_distance(torch.from_numpy(a)[:, None], torch.from_numpy(b)[:, None])
    assert float(found) == pytest.approx(wanted, rel=1e-9)
    assert by_numpy(a[:, None], b[:, None]) == pytest.approx(wanted, rel=1e-9)
    A, B = rng.normal(size=(50, 3)), rng.normal(size=(40, 3)) + 1
    both = energy_distance(torch.from_numpy(A), torch.from_numpy(np.stack([A[:40], B])))
    assert float(both[1]) == pytest.approx(by_numpy(A, B), rel=1e-9)
    assert by_numpy(A, A) == pytest.approx(0, abs=1e-12)


def test_modes_are_counted():
    rows = np.array([[2.0, 0.1], [2, -0.1], [-2, 0], [0, 0], [0, 5]])
    found = mode_coverage(rows, CENTRES, radius=0.25)
    assert found == (2, pytest.approx(3 / 5))


def test_losses_and_penalty_are_those_of_the_paper():
    """By hand, from the same numbers: a linear critic has the same slope everywhere."""
    model, batch = started(InMemory(X=ring(30)), **SMALL, penalty_weight=3.0)
    model.now = 5
    for weights, bias in model.critic.layers[:2]:  # |x| and so on: positive parts that add up
        weights.assign_(torch.zeros_like(weights.raw))
        bias.assign_(torch.ones_like(bias.raw))
    D1, D2, D3 = (weights for weights, _ in model.critic.layers)
    slope = torch.tensor([0.03, -0.04], dtype=torch.float64)
    D1.assign_(torch.zeros_like(D1.raw).index_fill(-1, torch.tensor(0), 1) * slope[:, None])
    one = torch.zeros_like(D2.raw)
    one[..., 0, 0] = 1
    D2.assign_(one)
    D3.assign_(torch.eye(8, 1, dtype=torch.float64).expand_as(D3.raw))
    loss = model.critic_loss(batch).detach()
    x = (batch.x - model.centre) / model.spread
    made = model.generator(model.noise(30, 4, draw=1)).detach()
    gap = (made @ slope).mean() - (x @ slope).mean()
    assert float(loss) == pytest.approx(float(gap + 3 * (0.05 - 1) ** 2), rel=1e-6)
    flat = model.critic(0 * x).detach().mean()
    wanted = -float((made @ slope).mean()) - float(flat)
    assert float(model.generator_loss(batch).detach()) == pytest.approx(wanted, rel=1e-6)


def test_who_is_held_does_not_move_and_who_moves_goes_down():
    model, batch = started(InMemory(X=ring(60)), **SMALL, **{"solver.turns": 2})
    critic, generator = model.players()
    rows = batch._replace(x=batch.x.expand(1, -1, -1))
    model.now = 0
    for player, other in ((critic, generator), (generator, critic)):
        before = [p.detach().clone() for p in (*player.parameters, *other.parameters)]
        first = player.loss(rows)
        gradients = torch.autograd.grad(first.sum(), player.parameters)
        with torch.no_grad():
            for parameter, gradient in zip(player.parameters, gradients, strict=True):
                parameter -= 1e-4 * gradient
        assert float(player.loss(rows).detach()) < float(first.detach())
        now = [*player.parameters, *other.parameters]
        moved = [not torch.equal(a, b) for a, b in zip(now, before, strict=True)]
        assert any(moved[: len(player.parameters)])
        assert not any(moved[len(player.parameters) :])
    model.now = None
    moves(model, batch)
    steps = [
        model.optimizers().optimizer.state[p.parameters[0]]["step"] for p in (critic, generator)
    ]
    assert [int(step) for step in steps] == [2, 1]


def test_the_code_is_the_nearest_generated_row():
    model, batch = started(InMemory(X=ring(40)), **SMALL)
    model.factors["G3"].assign_(3 * model.factors["G3"].raw)
    with torch.no_grad():
        z = model.noise(10, 4, draw=9)
        rows = model.decode(z)[0]
        found = model.encode(batch._replace(x=rows, index=torch.arange(10)))
        away = (model.decode(found)[0] - rows).norm(dim=1)
        drawn = torch.cdist(rows, model.decode(model.noise(1000, 4))[0]).amin(1)
    assert float(away.max()) < 0.05
    assert float(away.mean()) < float(drawn.mean())


def test_the_search_finds_what_linear_algebra_finds():
    """Of a flat surface the nearest point is that of ridge regression."""
    rng = np.random.default_rng(0)
    H, x = torch.from_numpy(rng.normal(size=(3, 7))), torch.from_numpy(rng.normal(size=(5, 7)))
    found = nearest(lambda z: z @ H, x, torch.zeros(5, 3, dtype=torch.float64), ridge=0.1)
    right = np.linalg.solve((H @ H.T + 0.1 * torch.eye(3)).numpy(), (x @ H.T).numpy().T).T
    np.testing.assert_allclose(found, right, atol=1e-6)


def test_a_run_ends_with_its_budget_and_never_converges():
    fitted = fit(ring(60), max_iter=40, tol=0.5, patience=1, window=1,
                 **{"solver.n_inner": 4})  # fmt: skip
    assert fitted.metrics["status"] == "budget"
    assert fitted.metrics["n_iter"] == 40
    assert fitted.metrics["certificate/fall"] is None
    assert not fitted.metrics["converged"]
    assert unfinished_words(fitted.metrics) == ""  # more iterations would not settle it


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_on_the_same_bits(tmp_path):
    assert_resumes(InMemory(X=ring(40)), tmp_path, **SMALL)


def test_rows_are_drawn_by_models_that_are_a_law_of_rows():
    fitted = fit(ring(60), max_iter=5)
    assert fitted.sample(7).shape == (7, 2)
    assert np.array_equal(fitted.sample(7, seed=1), fitted.sample(7, seed=1))
    assert not np.array_equal(fitted.sample(7, seed=1), fitted.sample(7, seed=2))
    flow = nmfnet.fit(ring(60), model="flow", max_iter=5, **QUIET)
    noise = np.random.default_rng(3).normal(size=(9, 2))
    np.testing.assert_allclose(flow.sample(9, seed=3), flow.inverse_transform(noise), atol=1e-6)
    with pytest.raises(nmfnet.UserError, match="n_samples >= 1"):
        flow.sample(0)
    with pytest.raises(nmfnet.UserError, match=r"no law of rows.*model=flow"):
        nmfnet.fit(np.abs(ring(20)), n_components=2, max_iter=5, **QUIET).sample(3)


def test_what_is_refused():
    X = ring(30)
    for settings, message in (
        ({"mask": np.arange(60).reshape(30, 2) != 3}, "every entry of a row"),
        ({"batch_size": 10}, "works on all rows at once"),
        ({"model.hidden": 0}, "hidden"),
        ({"model.penalty_weight": -1.0}, "penalty_weight"),
        ({"solver.turns": 0}, "turns"),
        ({"penalty": "l2"}, "penalty|no penalty"),
    ):
        with pytest.raises(nmfnet.UserError, match=message):
            fit(X, max_iter=2, **settings)
    for solver in ("adam", "lbfgs", "gd", "adam_lbfgs"):
        with pytest.raises(nmfnet.UserError, match=r"players with a loss each.*solver=adversarial"):
            nmfnet.fit(X, model="gan", solver=solver, **QUIET)
    with pytest.raises(nmfnet.UserError, match="players"):
        nmfnet.fit(np.abs(X), solver="adversarial", n_components=2, **QUIET)
    with pytest.raises(nmfnet.UserError, match="has no components"):
        _ = fit(X, max_iter=2).components_


@pytest.mark.slow
def test_all_modes_of_the_ring_are_found():
    fitted = nmfnet.fit(ring(1000), model="gan", max_iter=800, seed=0, **QUIET)
    modes, share = mode_coverage(fitted.sample(2000), CENTRES, radius=0.25)
    before = nmfnet.fit(ring(1000), model="gan", max_iter=1, seed=0, **QUIET)
    assert modes == 8
    assert share > 2 * mode_coverage(before.sample(2000), CENTRES, radius=0.25)[1]
    assert fitted.metrics["train/energy_distance"] < before.metrics["train/energy_distance"] / 5


def test_the_command(tmp_path):
    done = train("model=gan", "model.hidden=8", "solver.rows=16", "max_iter=5", "split=rows",
                 "figures=true", "run_dir=run", "data=planted", cwd=tmp_path)  # fmt: skip
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["status"] == "budget"
    assert np.isfinite(numbers["test/energy_distance"])
    assert "energy distance of drawn and held-out rows" in done.out
    assert (tmp_path / "run" / "figures" / "samples.png").is_file()
