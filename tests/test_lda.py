"""Latent Dirichlet allocation: the bound of scikit-learn, sweeps, gradients, documents, commands."""

from __future__ import annotations

import functools
import itertools
import json
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.special import digamma
from shell import refusal, the_run, train
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.exceptions import ConvergenceWarning

import nmfnet
from nmfnet.data import InMemory
from nmfnet.kernels import topics
from nmfnet.run.callbacks.history import History
from nmfnet.run.stopping import Interrupted
from nmfnet.run.train import train as run
from nmfnet.settings.words import configuration
from nmfnet.solvers.descent import Problem
from nmfnet.types import Batch

BASE: dict[str, Any] = {"figures": False, "threads": 1, "dtype": "float64", "progress": False}
fit = functools.partial(nmfnet.fit, model="lda", n_components=3, **BASE)


@functools.cache
def counts(n: int = 40, f: int = 20, words: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(3, 0.3), size=n) @ rng.dirichlet(np.full(f, 0.2), size=3)
    return np.stack([rng.multinomial(words, p) for p in shares]).astype(float)


def batch(X: np.ndarray) -> Batch:
    return Batch(torch.from_numpy(X), torch.arange(len(X)))


def concentrations_of(fitted: Any) -> np.ndarray:
    return fitted.factors["Lambda"]()[int(fitted.best)].detach().numpy()


def peer(Lambda: np.ndarray, **settings: Any) -> LatentDirichletAllocation:
    """scikit-learn's model with given topics."""
    made = LatentDirichletAllocation(len(Lambda), max_iter=1, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        made.fit(counts())
    made.components_ = Lambda
    log = digamma(Lambda) - digamma(Lambda.sum(1, keepdims=True))
    made.exp_dirichlet_component_ = np.exp(log)
    return made


# ---------------------------------------------------------------------- the bound
def test_the_bound_is_that_of_scikit_learn():
    """Both iterate a document from gamma = 1 until its mean change is below 1e-3."""
    fitted = fit(counts(), max_iter=5)
    by_peer = peer(concentrations_of(fitted))
    terms = {name: float(term) for name, term in objective(fitted, counts()).items()}
    assert set(terms) == {"data", "kl_theta", "kl_topics"}
    assert sum(terms.values()) == pytest.approx(-by_peer.score(counts()), rel=1e-8)
    np.testing.assert_allclose(
        fitted.transform(counts()), by_peer.transform(counts()), rtol=1e-6, atol=1e-9
    )
    words = counts().sum()
    assert fitted.metrics["train/perplexity_bound"] == pytest.approx(
        np.exp((terms["data"] + terms["kl_theta"]) / words), rel=1e-9
    )


def objective(fitted: Any, X: np.ndarray) -> dict[str, torch.Tensor]:
    with torch.no_grad(), fitted.restarts(int(fitted.best)):
        return fitted.objective(batch(X))


@pytest.mark.slow
def test_sweeps_never_lower_the_bound_and_end_where_those_of_scikit_learn_do():
    """From the same topics, as many sweeps: equal but for the laws that documents start from."""
    fitted = fit(counts(), max_iter=1)
    start = concentrations_of(fitted)
    by_peer = LatentDirichletAllocation(3, max_iter=10, learning_method="batch", random_state=0)
    by_peer._init_latent_vars = lambda n_features, dtype: None  # type: ignore[method-assign]
    by_peer.components_, by_peer.doc_topic_prior_, by_peer.topic_word_prior_ = start, 1 / 3, 1 / 3
    by_peer.exp_dirichlet_component_ = peer(start).exp_dirichlet_component_
    by_peer.random_state_ = np.random.RandomState(0)
    by_peer.n_batch_iter_, by_peer.n_iter_ = 1, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        by_peer.fit(counts())
    found = []
    with torch.no_grad(), fitted.restarts(int(fitted.best)):
        for _ in range(10):
            fitted.sweep(batch(counts()))
            found.append(float(sum(fitted.objective(batch(counts())).values())))
    assert all(b <= a * (1 + 1e-7) for a, b in itertools.pairwise(found))
    assert found[-1] < found[0] - 1
    assert found[-1] == pytest.approx(-by_peer.score(counts()), rel=1e-3)


@pytest.mark.slow
def test_the_gradient_holds_the_laws_of_documents(monkeypatch):
    """Exact where the laws are: they are iterated to the end here."""
    monkeypatch.setattr(topics, "STILL", 1e-13)
    monkeypatch.setattr(topics, "MOST", 10_000)
    fitted = fit(counts(), max_iter=3, n_restarts=2)
    problem = Problem(fitted, batch(counts()))
    _, (gradient,) = problem.differentiate()
    raw, step = fitted.factors["Lambda"].raw.data, 1e-4
    direction = torch.from_numpy(np.random.default_rng(1).normal(size=raw.shape))
    ends = []
    for sign in (1, -1):
        raw += sign * step * direction
        with torch.no_grad():
            ends.append(problem.value())
        raw -= sign * step * direction
    slope = (gradient * direction).sum((-2, -1))
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-5, atol=0)


@pytest.mark.slow
def test_a_fit_converges_and_another_descent_agrees():
    fitted = fit(counts(), max_iter=400)
    assert fitted.metrics["solver"] == "variational"
    assert fitted.metrics["status"] == "converged"
    assert fitted.metrics["certificate/fall"] <= 1e-3


# ---------------------------------------------------------------------- priors and minibatches
def test_learned_priors_are_where_the_bound_is_highest():
    """Every sweep raises the bound, and at the end no change of alpha or eta does."""
    fitted = fit(counts(), learn_priors=True, max_iter=400, tol=1e-9, certificate_tol=None)
    plain = fit(counts(), max_iter=400, tol=1e-9, certificate_tol=None)
    assert fitted.metrics["objective"] < plain.metrics["objective"] - 1
    alpha, eta = (fitted.factors[name]().detach()[0] for name in ("alpha", "eta"))
    assert alpha.shape == (1, 3)
    assert eta.shape == (1, 1)
    assert float(alpha.max() / alpha.min()) > 1.01
    _, gradients = Problem(fitted, batch(counts())).differentiate()
    slopes = dict(zip(fitted.factors, gradients, strict=True))
    assert float(slopes["alpha"].abs().max()) < 1e-2
    assert float(slopes["eta"].abs().max()) < 1e-2


def test_sweeps_that_learn_the_priors_never_lower_the_bound():
    fitted = fit(counts(), learn_priors=True, max_iter=1)
    found = []
    with torch.no_grad(), fitted.restarts(int(fitted.best)):
        for _ in range(10):
            fitted.sweep(batch(counts()))
            found.append(float(sum(fitted.objective(batch(counts())).values())))
    assert all(b <= a * (1 + 1e-7) for a, b in itertools.pairwise(found))


def test_one_minibatch_is_a_step_of_the_published_rule():
    """lambda <- (1 - rho) lambda + rho (eta + n / |batch| B ∘ Tᵀ(X / (T B))), rho = (tau + t)^-kappa."""
    fitted = fit(counts(), max_iter=1, n_restarts=1)
    few, rate = batch(counts()[:10]), 0.25
    with torch.no_grad(), fitted.restarts(0):
        before = fitted.Lambda().clone()
        B = topics.expected_log(before).exp()
        gamma = fitted.law(few).concentration
        T = topics.expected_log(gamma).exp()
        wanted = B * (T.mT @ (few.x / (T @ B)))
        fitted.sweep(few, rate)
        wanted = (1 - rate) * before + rate * (1 / 3 + 40 / 10 * wanted)
        torch.testing.assert_close(fitted.Lambda(), wanted, rtol=1e-8, atol=0)


def test_minibatches_come_near_the_bound_of_all_rows():
    whole = fit(counts(200), max_iter=60, certificate_tol=None)
    online = fit(counts(200), batch_size=20, max_iter=300)
    assert online.metrics["solver"] == "variational"
    assert online.metrics["objective"] == pytest.approx(whole.metrics["objective"], rel=0.02)


# ---------------------------------------------------------------------- documents
@pytest.mark.slow
def test_sparse_and_dense_counts_are_the_same():
    dense, sparse = (fit(X, max_iter=10, n_restarts=2) for X in (counts(), sp.csr_matrix(counts())))
    torch.testing.assert_close(dense.objectives, sparse.objectives, rtol=1e-10, atol=0)
    np.testing.assert_allclose(
        dense.transform(counts()), sparse.transform(sp.csr_matrix(counts())), rtol=1e-8
    )


@pytest.mark.slow
def test_codes_and_topics_are_shares_and_no_words_are_the_prior():
    X = counts().copy()
    X[3] = 0
    fitted = fit(X, max_iter=20, alpha=0.1)
    code = fitted.transform(X)
    np.testing.assert_allclose(code.sum(1), 1)
    np.testing.assert_allclose(fitted.components_.sum(1), 1)
    np.testing.assert_allclose(code[3], 1 / 3)
    np.testing.assert_allclose(fitted.reconstruct(X).sum(1), X.sum(1), atol=1e-9)
    alone = np.concatenate([fitted.transform(row[None]) for row in X])
    np.testing.assert_allclose(alone, code, rtol=1e-10)


@pytest.mark.slow
def test_a_restart_of_many_is_the_run_alone():
    three = fit(counts(), max_iter=10, n_restarts=3)
    one = fit(counts(), max_iter=10)
    torch.testing.assert_close(three.factors["Lambda"]()[0], one.factors["Lambda"]()[0])
    assert len(set(three.objectives.tolist())) == 3


# ---------------------------------------------------------------------- runs
def result(folder: Any) -> Any:
    own = {"model": "lda", "n_components": 3, "n_restarts": 2, "max_iter": 30, "tol": 0.0, **BASE}
    return run(configuration(own | {"run_dir": str(folder)}), InMemory(X=counts()))


@pytest.mark.slow
def test_a_continued_run_is_the_unbroken_run(tmp_path, monkeypatch):
    unbroken = result(tmp_path / "unbroken")
    plain = History.on_train_epoch_end

    def on_train_epoch_end(self, trainer, model):
        plain(self, trainer, model)
        if model.iteration >= 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_end", on_train_epoch_end)
        with pytest.raises(Interrupted):
            result(tmp_path / "broken")
    continued = result(tmp_path / "broken")
    assert torch.equal(unbroken.model.factors["Lambda"](), continued.model.factors["Lambda"]())


def test_a_command_fits_and_writes_topics(tmp_path):
    np.savetxt(tmp_path / "X.csv", counts(), delimiter=",", fmt="%d")
    words = ["model=lda", "data=table", "data.path=X.csv", "data.orientation=samples_by_features"]
    words += ["model.n_components=3", "split=rows", "max_iter=20"]
    done = train(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    numbers = json.loads((the_run(tmp_path) / "metrics.json").read_text())
    assert 1 < numbers["train/perplexity_bound"] < 20
    assert 1 < numbers["test/perplexity_bound"] < 20
    with np.load(the_run(tmp_path) / "factors.npz") as arrays:
        np.testing.assert_allclose(arrays["H"].sum(1), 1, rtol=1e-5)
    assert "model.alpha=-1: must be a finite number > 0" in refusal(
        *words, "model.alpha=-1", cwd=tmp_path
    )


def test_what_it_cannot_take_is_refused():
    with pytest.raises(nmfnet.UserError, match="negative values and LDA needs X >= 0"):
        fit(counts() - 1)
    with pytest.raises(nmfnet.UserError, match="loss=negative_binomial is not used"):
        fit(counts(), loss="negative_binomial")
    with pytest.raises(nmfnet.UserError, match="works on all rows at once"):
        fit(counts(), model="plsi", solver="variational", batch_size=10)
    with pytest.raises(nmfnet.UserError, match="is for models with a variational bound"):
        nmfnet.fit(counts(), solver="variational", n_components=3, **BASE)
