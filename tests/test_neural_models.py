"""The deep contenders: unrolled updates, the hybrid autoencoder, early stopping."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import advance, batch_of, make, planted, values

import nmfnet
from nmfnet.kernels.multiplicative import apply_update_, nmf_sums_W
from nmfnet.solvers.base import total
from nmfnet.solvers.gradient import judge

UNROLLED = {"model": "unrolled_nmf", "solver": "adam"}


def counts(n: int = 60, f: int = 15, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Poisson counts of planted factors, and the W behind them."""
    X, W, _ = planted(n, f, k, seed)
    return np.random.default_rng(seed).poisson(100 * X).astype(float), 100 * W


# ---------------------------------------------------------------------- unrolled updates
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "loss", [{"loss": "frobenius"}, {"loss": "kl"}, {"loss": "beta", "loss.beta": 0.5}]
)
@pytest.mark.parametrize("n_layers", [1, 7])
def test_untrained_layers_are_exactly_multiplicative_updates(loss, tied, n_layers):
    X = planted()[0] + 0.1
    model, batch = make(X, **UNROLLED, n_layers=n_layers, tied=tied, n_restarts=2, **loss)
    H, beta = values(model)["H"], model.loss.beta
    W = batch.x.sum(-1, keepdim=True) / H.sum((-2, -1), keepdim=True)
    W = W.expand(2, len(X), 3).clone()
    for _ in range(n_layers):
        neg, pos = nmf_sums_W(batch.x, W, H, beta)
        apply_update_(W, neg, pos, model.loss.exponent(1, 0))
    torch.testing.assert_close(model.encode(batch).detach(), W, rtol=1e-12, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_training_improves_on_the_updates_it_starts_from(loss):
    """H as NMF left it: what the layers add is better exposures in as many updates."""
    X = counts()[0]
    nmf = nmfnet.fit(X, loss=loss, n_components=3, dtype="float64", solver="mu")
    model, batch = make(X, model="unrolled_nmf", solver="lbfgs", n_layers=4, loss=loss)
    with torch.no_grad():
        model.start({"H": torch.from_numpy(nmf.components_).double()[None]}, batch)
        untrained = float(total(model.objective(batch)))
    trained = min(float(advance(model, batch, 50)) for _ in range(10))
    best = nmf.metrics["objective"]
    assert trained - best < 0.5 * (untrained - best)


def test_tied_layers_share_one_matrix():
    for tied, layers in ((True, 1), (False, 5)):
        model, _ = make(counts()[0], **UNROLLED, n_layers=5, tied=tied)
        assert len([name for name in model.factors if name[0] == "A"]) == layers


def test_a_learned_penalty_is_a_parameter_and_a_fixed_one_a_term():
    X = counts()[0]
    learned, batch = make(X, **UNROLLED, l1=0.5, learn_penalty=True)
    fixed, _ = make(X, **UNROLLED, l1=0.5, l2=0.1)
    assert set(learned.objective(batch)) == {"data"}
    assert set(fixed.objective(batch)) == {"data", "weights"}
    torch.testing.assert_close(learned.encode(batch), make(X, **UNROLLED, l1=0.5)[0].encode(batch))
    before = float(values(learned)["l1"])
    advance(learned, batch, 5)
    assert float(values(learned)["l1"]) != before


@pytest.mark.slow
def test_supervised_layers_learn_the_known_exposures_and_nothing_else(tmp_path):
    X, W = counts()
    np.save(tmp_path / "W.npy", W)
    own = UNROLLED | {"exposures": str(tmp_path / "W.npy")}
    model, batch = make(X, **own)
    model.train()
    terms = model.objective(batch)
    (slope,) = torch.autograd.grad(terms["data"].sum(), model.factors["A1"].raw, allow_unused=True)[
        :1
    ]
    assert slope is None
    first = float(terms["exposures"].detach())
    for _ in range(6):
        terms = model.solver.step(model, batch, 50, [0])
    assert float(terms["exposures"]) < 0.05 * first
    with pytest.raises(nmfnet.UserError, match=r"shape \(60, 3\).*5 components"):
        make(X, **own, n_components=5)
    with pytest.raises(nmfnet.UserError, match="cannot be read"):
        make(X, **(own | {"exposures": str(tmp_path / "no.npy")}))


def test_the_published_start_keeps_all_components_alike():
    """Constant layers see no difference between components: only H, drawn at random, tells them apart."""
    model, batch = make(counts()[0], **UNROLLED, draw="constant", n_layers=3)
    W = model.encode(batch)
    torch.testing.assert_close(W, W[..., :1].expand_as(W))


# ---------------------------------------------------------------------- free encoders
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("n", [60, 12])
@pytest.mark.parametrize("model", ["deep_autoencoder", "muse_xae"])
def test_a_free_encoder_starts_near_the_codes_of_an_nmf(model, n, loss):
    """Random weights start 80 times above and more, with units that are 0 in every row."""
    X = counts(n)[0]
    nmf = nmfnet.fit(X, loss=loss, n_components=3, dtype="float64")
    started, batch = make(X, model=model, solver="adam", loss=loss, n_restarts=2)
    with torch.no_grad():
        W, objective = started.encode(batch), total(started.eval().objective(batch))
    assert bool((W.amax(-2) > 0.1 * W.mean((-2, -1))[:, None]).all())
    assert float(objective.max()) < 20 * nmf.metrics["objective"]


@pytest.mark.parametrize("model", ["deep_autoencoder", "muse_xae"])
def test_a_free_encoder_of_one_row_starts(model):
    started, batch = make(counts(60)[0][:1], model=model, solver="adam", n_components=1)
    assert bool(started.encode(batch).isfinite().all())


# ---------------------------------------------------------------------- the hybrid autoencoder
def test_counts_are_resampled_and_fractions_are_not():
    X = counts()[0]
    model, batch = make(X, model="muse_xae", solver="adam")
    one, again, other = (model.augment(batch, i).x for i in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert bool((one == one.round()).all())
    assert one.mean() == pytest.approx(X.mean(), rel=0.02)
    model, batch = make(X + 0.5, model="muse_xae", solver="adam")
    assert model.augment(batch, 3).x is batch.x
    model, batch = make(X, model="muse_xae", solver="adam", augment_counts=False)
    assert model.augment(batch, 3).x is batch.x


def test_resampling_does_not_make_restarts_depend_on_each_other():
    X = counts()[0]
    own = {"model": "muse_xae", "solver": "adam_early", "n_restarts": 2, "hidden": [8]}
    together, batch = make(X, **own)
    advance(together, batch, 10)
    alone, _ = make(X, **own, restarts=range(1, 2))
    advance(alone, batch, 10)
    torch.testing.assert_close(
        values(together)["H"][1], values(alone)["H"][0], rtol=1e-8, atol=1e-9
    )


def test_a_sample_of_zeros_has_no_exposures():
    X = counts()[0]
    fitted = nmfnet.fit(X, "muse_xae", n_components=3, hidden=[8], max_iter=20)
    assert np.isfinite(fitted.transform(np.zeros((2, 15)))).all()


# ---------------------------------------------------------------------- early stopping
def test_held_out_rows_are_never_trained_on():
    """Whatever they are, the same step is taken; only what is reported differs."""
    X = planted()[0] + 0.1
    own = {"model": "autoencoder", "solver": "adam_early"}
    found, reported = [], []
    for factor in (1.0, 3.0):
        Y = X.copy()
        Y[5::10] *= factor
        model, batch = make(X, **own)  # the same start
        batch = batch._replace(x=torch.from_numpy(Y))
        reported.append(float(advance(model, batch, 20)))
        found.append(values(model))
    assert reported[0] != reported[1]
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name])


def test_the_objective_reported_in_the_end_is_of_all_rows():
    X = planted()[0] + 0.1
    fitted = nmfnet.fit(
        X, "autoencoder", solver="adam_early", n_components=3, max_iter=200, n_restarts=2
    )
    assert fitted.metrics["objective"] == pytest.approx(fitted.metrics["train/loss"], rel=1e-5)


def test_early_stopping_ends_soon_after_the_lowest_and_keeps_its_parameters():
    """A network that learns 60 rows of noise by heart: the held-out rows are lowest at once."""
    X = np.random.default_rng(0).normal(size=(60, 8))
    own = {"n_components": 4, "hidden": [32], "decoder": [32], "solver.n_inner": 10}
    fitted = nmfnet.fit(X, "autoencoder_free", max_iter=2000, dtype="float64", **own)
    assert fitted.metrics["status"] == "stopped early"
    assert int(fitted.n_iter[0]) < 500
    judged = fitted.solver._parted(batch_of(X))[1]
    kept = total(judge(fitted, judged, 60 / judged.x.shape[0]))
    torch.testing.assert_close(kept, fitted.solver.lowest, rtol=1e-5, atol=0)


def test_early_stopping_is_refused_where_it_means_nothing():
    X = planted()[0]
    for own, word in (
        ({"model": "nmf"}, "encoder"),
        ({"model": "autoencoder", "batch_size": 10}, "all rows"),
        ({"model": "autoencoder", "solver.heldout": 0.01}, "at least 200 rows"),
        ({"model": "autoencoder", "solver.heldout": 0.9}, r"\[0, 0.5\]"),
    ):
        with pytest.raises(nmfnet.UserError, match=word):
            nmfnet.fit(X, solver="adam_early", n_components=3, max_iter=5, **own)


# ---------------------------------------------------------------------- the linear autoencoder
@pytest.mark.slow
def test_the_linear_autoencoder_is_convex_nmf_of_the_transpose():
    """Rows and columns exchanged, and from starts of its own: the same optimum."""
    X = counts(20, 15)[0]
    own = {"n_components": 3, "n_restarts": 10, "solver": "cd", "dtype": "float64", "tol": 1e-9}
    convex = nmfnet.fit(X, "convex_nmf", **own)
    network = nmfnet.fit(X.T, "autoencoder", **own)
    assert network.metrics["objective"] == pytest.approx(convex.metrics["objective"], rel=1e-5)
    np.testing.assert_allclose(
        network.reconstruct(X.T).T,
        convex.inverse_transform(convex.transform(X)),
        atol=0.05 * X.max(),
    )


def test_weights_drawn_as_published_ignore_the_scale_of_the_data():
    X = counts()[0]
    for constraint in ("abs", "project"):
        model, _ = make(
            X, model="autoencoder", solver="adam", draw="uniform", constraint=constraint
        )
        for value in values(model).values():
            assert 0 <= float(value.min()) < 0.1
            assert 0.9 < float(value.max()) < 1


def test_a_fit_that_explains_nothing_says_so():
    """A rectified code is 0 where X has another sign than its start, and stays there."""
    X = np.random.default_rng(0).gamma(2, 1, (20, 8))
    off = nmfnet.fit(-X, "autoencoder", n_components=2, constraint="free", max_iter=50)
    assert off.metrics["train/relative_error"] == 1
    assert any("explains nothing" in note for note in off.notes)
    assert not any("explains nothing" in n for n in nmfnet.fit(X, n_components=2).notes)
