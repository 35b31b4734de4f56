"""Variational autoencoders: terms by hand, warm-up, special cases, resumed, saved, on cells."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy import stats
from scipy.special import expit, softmax
from shell import nmfnet as command
from shell import refusal, the_run, train
from sklearn.exceptions import ConvergenceWarning

import nmfnet
from nmfnet.core.losses import Loss
from nmfnet.core.reading import new_rows
from nmfnet.data import InMemory
from nmfnet.models.vae import VAE
from nmfnet.run.callbacks.history import History
from nmfnet.run.stopping import Interrupted
from nmfnet.run.train import train as run
from nmfnet.settings.words import configuration
from nmfnet.types import Batch

BASE: dict[str, Any] = {"figures": False, "threads": 1, "dtype": "float64", "progress": False}
SMALL: dict[str, Any] = {"n_components": 2, "model.hidden": [6], "model.decoder": [6]}
fit = functools.partial(nmfnet.fit, model="vae", **BASE)


@functools.cache
def counts() -> np.ndarray:
    return VAE.example(None, np.random.default_rng(0))["X"]  # type: ignore[arg-type]


def batch(X: np.ndarray) -> Batch:
    return Batch(torch.from_numpy(X), torch.arange(len(X)))


def tables(fitted: Any) -> dict[str, np.ndarray]:
    return {name: f()[0].detach().numpy() for name, f in fitted.factors.items()}


# ---------------------------------------------------------------------- terms by hand
@pytest.mark.parametrize(
    ("loss", "more"),
    [
        *((loss, {}) for loss in ("poisson", "negative_binomial", "zinb")),
        ("negative_binomial", {"model.size": "latent", "model.beta": 2.0}),
        ("negative_binomial", {"model.batch_norm": True, "model.reads": "scaled"}),
        ("bernoulli", {}),
        ("normal", {}),
    ],
    ids=["poisson", "negative_binomial", "zinb", "latent size", "norms", "bernoulli", "normal"],
)
def test_terms_are_the_closed_forms(loss, more):
    """One draw of the code, as in a gradient step of the warm-up, against scipy."""
    X = counts() if loss != "bernoulli" else (counts() > 8).astype(float)
    fitted = fit(X, loss=loss, max_iter=30, **SMALL, **{"model.warm_up": 400}, **more)
    F, latent = tables(fitted), "model.size" in more
    with torch.no_grad(), fitted.restarts(0):
        fitted.now = 99
        noise = fitted.noise(30, 2 + latent).numpy()
        rows = {name: term.numpy() for name, term in fitted.row_terms(batch(X)).items()}
        fitted.now = None
        spread, centre, depth = (getattr(fitted, n)[0] for n in ("spread", "centre", "depth"))
        prior = fitted.log_sizes.numpy()[0]
        norms = [fitted.E[0].norm, fitted.D[0].norm]
    total = X.sum(1, keepdims=True)

    def hidden(h: np.ndarray, name: str, norm: Any = None) -> np.ndarray:
        h = h @ F[f"{name}1"] + F.get(f"{name}1_bias", 0)
        if norm is not None:
            own = [getattr(norm, word)[0].detach().numpy() for word in ("mean", "variance")]
            gain = [getattr(norm, word)[0].detach().numpy() for word in ("scale", "shift")]
            h = (h - own[0]) / np.sqrt(own[1] + 1e-3) * gain[0] + gain[1]
        return np.maximum(h, 0)

    read = np.log1p(X) if loss not in ("bernoulli", "normal") else X
    if "model.reads" in more:
        read = (np.log1p(X / total * depth.numpy()) - centre.numpy()) / spread.numpy()
    h = hidden(read, "E", norms[0])
    m, log_v = h @ F["M"] + F["M_bias"], np.clip(h @ F["V"] + F["V_bias"], -12, 8)
    z = m + np.exp(log_v / 2) * noise[:, :2]
    said = (h := hidden(z, "D", norms[1])) @ F["H"] + F["H_bias"]
    kl, size = 0.5 * (np.exp(log_v) + m**2 - 1 - log_v).sum(1), total
    if latent:
        h_size = hidden(read, "L")
        a, b = h_size @ F["SM"] + F["SM_bias"], h_size @ F["SV"] + F["SV_bias"]
        size = np.exp(a + np.exp(b / 2) * noise[:, 2:])
        ratio = np.exp(b) / prior[1] ** 2
        kl = kl + 0.5 * (ratio + ((a - prior[0]) / prior[1]) ** 2 - 1 - np.log(ratio)).sum(1)
    mean = size * softmax(said, 1)
    if loss == "poisson":
        log_p = stats.poisson.logpmf(X, mean)
    elif loss == "bernoulli":
        log_p = stats.bernoulli.logpmf(X, expit(said))
    elif loss == "normal":
        log_p = stats.norm.logpdf(X, said, F["scale"])
    else:
        theta = F["dispersion"]
        log_p = stats.nbinom.logpmf(X, theta, theta / (theta + mean))
    if loss == "zinb":
        zero = expit(h @ F["P"] + F["P_bias"])
        log_p = np.log(zero * (X == 0) + (1 - zero) * np.exp(log_p))
    np.testing.assert_allclose(rows["data"], -log_p.sum(1), rtol=1e-9)
    np.testing.assert_allclose(rows["kl"], more.get("model.beta", 1) * 100 / 400 * kl, rtol=1e-9)


def test_dropout_is_for_gradient_steps_alone():
    fitted = fit(counts(), max_iter=30, **SMALL, **{"model.dropout": 0.5})
    rows = batch(counts())
    with torch.no_grad(), fitted.restarts(0):
        calm = [fitted.law(rows).mean for _ in range(2)]
        fitted.now = 5
        one, two = fitted.law(rows).mean, fitted.law(rows).mean
        fitted.now = 6
        other = fitted.law(rows).mean
        fitted.now = None
    assert torch.equal(*calm)
    assert torch.equal(one, two)  # of the same iteration
    assert not torch.equal(one, other)
    assert not torch.equal(one, calm[0])


def test_the_importance_weighted_bound_is_above_the_other_and_near_the_integral():
    """One component: log p(x) by Gauss-Hermite quadrature over the prior."""
    fitted = fit(counts(), n_components=1, max_iter=300, decoder=[], split="rows",
                 **{"model.hidden": [6], "model.importance": 200})  # fmt: skip
    rows, (nodes, weights) = batch(counts()), np.polynomial.hermite_e.hermegauss(200)
    with torch.no_grad(), fitted.restarts(0):
        bound = fitted.importance_bound(rows, 500)
        single = fitted.importance_bound(rows, 1)
        elbo = -sum(fitted.row_terms(rows).values())
        codes = torch.from_numpy(nodes)[:, None, None].expand(-1, 30, 1)
        losses = torch.stack(
            [fitted.loss(rows.x, fitted.outputs(z, rows)["x"].mean) for z in codes]
        )
        logs = torch.log(torch.from_numpy(weights / weights.sum()))[:, None] - losses
        exact = logs.logsumexp(0)
    np.testing.assert_allclose(bound, exact, atol=0.2)
    assert float((bound - exact).mean()) < 0.05
    assert float(bound.mean()) > float(elbo.mean()) > float(single.mean()) - 2
    assert fitted.metrics["test/iw_draws"] == 200
    assert fitted.metrics["test/iw_bound"] >= fitted.metrics["test/elbo"]


def test_the_bound_in_the_metrics_is_that_of_eight_fixed_draws():
    fitted = fit(counts(), max_iter=20, **SMALL)
    with torch.no_grad(), fitted.restarts(0):
        terms = fitted.terms(batch(counts()))
    assert fitted.metrics["train/elbo"] == pytest.approx(
        -float(sum(terms.values())) / 30, rel=1e-12
    )
    plain = fit(counts(), max_iter=20, **{**SMALL, "model.law": "point"})
    assert "train/elbo" not in plain.metrics


# ---------------------------------------------------------------------- warm-up
@pytest.mark.slow
def test_nothing_settles_or_halves_before_the_warm_up_is_over(tmp_path):
    """A tolerance that every step is within, so that a run ends as soon as it may."""
    own = {**SMALL, "solver": "adam", "solver.n_inner": 10, "tol": 1e6, "certificate_tol": None}
    early = fit(counts(), max_iter=500, **{**own, "model.warm_up": 0})
    late = fit(counts(), max_iter=500, **{**own, "model.warm_up": 200})
    assert early.metrics["n_iter"] < 200 < late.metrics["n_iter"] < 500
    own |= {"max_iter": 190, "solver.lr": 0.5, "figures": False}  # in folders: a Trainer keeps Adam
    still = fit(counts(), run_dir=tmp_path / "a", **{**own, "model.warm_up": 200})
    at_once = fit(counts(), run_dir=tmp_path / "b", **{**own, "model.warm_up": 0, "tol": 0})
    assert float(rate(still)) == 1
    assert float(rate(at_once)) < 1


def rate(fitted: Any) -> torch.Tensor:
    """What is left of the learning rate."""
    return fitted.optimizers().optimizer.param_groups[0]["multiplier"][0]


# ---------------------------------------------------------------------- special cases
@pytest.mark.slow
def test_a_linear_point_with_squared_errors_is_pca():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 8)) + 0.3 * rng.normal(size=(40, 8)) + 5
    fitted = fit(
        X, loss="frobenius", solver="lbfgs", law="point", hidden=[], decoder=[], n_components=2,
        max_iter=2000,
    )  # fmt: skip
    s = np.linalg.svd(X - X.mean(0), compute_uv=False) ** 2
    left = np.square(X - fitted.reconstruct(X)).sum() / s.sum()
    assert 1 - left == pytest.approx(s[:2].sum() / s.sum(), abs=1e-4)
    assert fitted.components_.shape == (2, 8)


def test_a_linear_decoder_has_components_of_any_sign():
    fitted = fit(counts(), n_components=2, decoder=[], max_iter=100)
    assert fitted.components_.shape == (2, 12)
    assert fitted.components_.min() < 0 < fitted.components_.max()
    z = fitted.transform(counts())
    shares = softmax(z @ fitted.components_ + tables(fitted)["H_bias"], 1)
    np.testing.assert_allclose(fitted.inverse_transform(z), shares, rtol=1e-10)
    np.testing.assert_allclose(
        fitted.reconstruct(counts()), counts().sum(1, keepdims=True) * shares, rtol=1e-10
    )


def test_the_size_of_a_row_is_given_or_its_sum():
    fitted = fit(counts(), max_iter=5, **SMALL)
    rows, size = batch(counts()), torch.full((30,), 7.0, dtype=torch.float64)
    mask = torch.from_numpy((np.random.default_rng(0).random((30, 12)) < 0.7).astype(float))
    with torch.no_grad(), fitted.restarts(0):
        code = fitted.encode(rows)
        sized = fitted.outputs(code, rows._replace(extra={"size": size}))["x"].mean
        torch.testing.assert_close(sized.sum(-1), size)
        part = rows._replace(x=rows.x * mask, mask=mask)
        seen = (fitted.outputs(code, part)["x"].mean * mask).sum(-1)
    torch.testing.assert_close(seen, part.x.sum(-1))


def test_the_size_of_a_single_row_has_a_prior():
    fitted = fit(counts()[:1], max_iter=2, solver="adam_lbfgs", **{**SMALL, "model.size": "latent"})
    assert np.isfinite(fitted.metrics["train/elbo"])


def test_restarts_draw_noise_of_their_own():
    three = fit(counts(), max_iter=20, n_restarts=3, **SMALL)
    one = fit(counts(), max_iter=20, **SMALL)
    for name, factor in one.factors.items():
        torch.testing.assert_close(three.factors[name]()[0], factor()[0], rtol=1e-8, atol=1e-9)
    assert len(set(three.objectives.tolist())) == 3


# ---------------------------------------------------------------------- runs
def result(folder: Any) -> Any:
    own = {"model": "vae", "n_restarts": 2, "max_iter": 60, "tol": 0.0, "solver.n_inner": 10}
    cfg = configuration({**BASE, **SMALL, **own, "model.warm_up": 40})
    return run(cfg.but(run_dir=str(folder)), InMemory(X=counts()))


def test_a_continued_run_is_the_unbroken_run(tmp_path, monkeypatch):
    unbroken = result(tmp_path / "unbroken")
    plain = History.on_train_epoch_end

    def on_train_epoch_end(self, trainer, model):
        plain(self, trainer, model)
        if model.iteration >= 30:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_end", on_train_epoch_end)
        with pytest.raises(Interrupted):
            result(tmp_path / "broken")
    continued = result(tmp_path / "broken")
    for name, factor in unbroken.model.factors.items():
        assert torch.equal(factor(), continued.model.factors[name]())


def test_a_command_fits_and_reports_the_bound(tmp_path):
    np.savetxt(tmp_path / "X.csv", counts(), delimiter=",", fmt="%d")
    words = ["model=vae", "data=table", "data.path=X.csv", "data.orientation=samples_by_features"]
    words += ["model.n_components=2", "split=rows", "max_iter=20", "model.hidden=[6]"]
    done = train(*words, "loss=zinb", "model.decoder=[]", cwd=tmp_path)
    assert done.code == 0, done.err
    numbers = json.loads((the_run(tmp_path) / "metrics.json").read_text())
    assert numbers["train/elbo"] < 0
    assert numbers["test/elbo"] < 0
    with np.load(the_run(tmp_path) / "factors.npz") as arrays:
        assert arrays["H"].shape == (2, 12)
        assert arrays["dispersion"].shape == (1, 12)
    message = refusal(*words, "model.decoder=[0]", cwd=tmp_path)
    assert "model.decoder has a width of 0" in message


def test_nats_are_never_ranked_against_relative_errors(tmp_path):
    np.savetxt(tmp_path / "X.csv", counts(), delimiter=",", fmt="%d")
    words = ["data=table", "data.path=X.csv", "data.orientation=samples_by_features", "split=rows"]
    words += ["model.n_components=2", "max_iter=20", "figures=false"]
    for own in (
        ["model=nmf"],
        ["model=projective_nmf"],
        ["model=nmf", "loss=negative_binomial"],
        ["model=vae", "model.hidden=[6]", "model.decoder=[6]"],
    ):
        assert train(*own, *words, cwd=tmp_path).code == 0
    done = command("report", "runs", "-o", "report.html", cwd=tmp_path)
    assert done.code == 0, done.err
    text = (tmp_path / "report.html").read_text()
    data = json.loads(re.search(r'json" id="data">(.*?)</script>', text)[1])  # type: ignore[index]
    ranked = {group["main"]: sorted(group["methods"]) for group in data["groups"]}
    assert ranked == {
        "test/relative_error": ["nmf", "projective_nmf"],
        "test/loss": ["nmf", "vae"],
    }
    assert any("loss: " in text for text in data["refused"])


def test_an_estimator_without_components_transforms():
    from nmfnet.estimator import Estimator

    with pytest.warns(ConvergenceWarning, match="not converged"):
        made = Estimator("vae", 2, max_iter=5, settings={**SMALL, "figures": False}).fit(counts())
    assert made.model_.loss.name == "negative_binomial"
    assert made.transform(counts()).shape == (30, 2)
    assert made.get_feature_names_out().tolist() == ["estimator0", "estimator1"]
    assert not hasattr(made, "components_")


class Scaled(Loss):
    """A loss that asks for what no decoder gives."""

    name = "scaled"
    heads = ("scale",)

    def entries(self, x, x_hat, mask, heads):  # type: ignore[no-untyped-def]
        raise NotImplementedError


def test_what_it_cannot_take_is_refused(monkeypatch):
    import nmfnet.core.losses

    with pytest.raises(nmfnet.UserError, match="negative values, and loss=negative_binomial"):
        fit(counts() - 1, n_components=2)
    with pytest.raises(nmfnet.UserError, match="needs a dense X"):
        fit(sp.csr_matrix(counts()), n_components=2)
    with pytest.raises(nmfnet.UserError, match=r"model\.warm_up=-1: must be a whole number >= 0"):
        fit(counts(), n_components=2, **{"model.warm_up": -1})
    monkeypatch.setattr(nmfnet.core.losses, "KL", Scaled)
    with pytest.raises(nmfnet.UserError, match=r"loss=scaled needs the head 'scale'.*VAE does not"):
        fit(counts(), n_components=2, loss="kl")


# ---------------------------------------------------------------------- published data
@pytest.mark.catalogue
@pytest.mark.slow
def test_cells_are_overdispersed():
    """Held-out bounds in nats per cell: 326 with negative binomial counts, 499 with Poisson ones."""
    found = {}
    for name, own in {
        "poisson": {"loss": "poisson"},
        "nb": {},
        "linear": {"model.decoder": []},
    }.items():
        cfg = configuration({
            "model": "vae", "data": "sc-mixology-5cl", "split": "rows", "max_iter": 1200,
            "data.top_genes": 120, "model.hidden": [32], "model.decoder": [32],
            "figures": False, "progress": False, **own,
        })  # fmt: skip
        found[name] = run(cfg, write=False).metrics
    assert found["nb"]["test/elbo"] - found["poisson"]["test/elbo"] >= 100
    assert found["linear"]["test/elbo"] >= found["nb"]["test/elbo"]
    assert all(metrics["labels/ari"] >= 0.85 for metrics in found.values())


def test_draws_that_judge_have_the_moments_of_the_law():
    """The mean of a quadratic over them is its expectation, whatever the few numbers are."""
    C = np.random.default_rng(0).poisson(3.0, (24, 6)).astype(float)
    fitted = nmfnet.fit(C, "vae", n_components=2, max_iter=2, threads=1)
    with torch.no_grad(), fitted.restarts(0):
        batch = new_rows(fitted, C, None)
        law = fitted.law(batch)
        drawn = torch.stack([law.sample(eps) for eps in fitted.draws(law, 1)])
    torch.testing.assert_close(drawn.mean(0), law.mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(drawn.var(0, correction=0), law.scale**2, rtol=1e-4, atol=1e-6)
