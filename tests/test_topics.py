"""Models of documents beside NMF: unigrams, mixtures, LSI, pLSI; completion of documents."""

from __future__ import annotations

import functools
import itertools
import json
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from shell import refusal, the_run, train
from torch import distributions as D

import nmfnet
from nmfnet import metrics
from nmfnet.core.model import Factorization
from nmfnet.data import CompletionSplit, InMemory, Matrix, RowSplit
from nmfnet.data.formats.raw import numbered
from nmfnet.data.module import MatrixDataModule
from nmfnet.kernels import topics
from nmfnet.kernels.csr import csr_of
from nmfnet.kernels.multiplicative import nmf_sums_H, nmf_sums_W
from nmfnet.types import Batch

BASE: dict[str, Any] = {"figures": False, "threads": 1, "dtype": "float64", "progress": False}
fit = functools.partial(nmfnet.fit, **BASE)


@functools.cache
def counts(n: int = 40, f: int = 20, words: int = 60, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(3, 0.3), size=n) @ rng.dirichlet(np.full(f, 0.2), size=3)
    return np.stack([rng.multinomial(words, p) for p in shares]).astype(float)


def batch(X: np.ndarray) -> Batch:
    return Batch(torch.from_numpy(X), torch.arange(len(X)))


def objective(model: Any, X: np.ndarray) -> float:
    with torch.no_grad(), model.restarts(int(model.best)):
        return float(sum(model.objective(batch(X)).values()))


def table(X: Any) -> Matrix:
    return Matrix(X, numbered("d", X.shape[0]), numbered("w", X.shape[1]))


# ---------------------------------------------------------------------- the split
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_halves_of_the_test_documents_add_up_to_them(kind):
    X = counts().copy()
    X[:30, 0] += np.arange(30) % 2  # some lengths are odd
    X[31:35] = 0
    X[32, 4] = 1  # a document of one word: nothing of it is predicted
    before = kind(X.copy())
    found = CompletionSplit(test_fraction=0.5)(table(kind(X)), 3)
    rows = RowSplit(test_fraction=0.5)(table(kind(X)), 3)
    assert np.array_equal(found.test_rows, rows.test_rows)
    assert abs(before - kind(X)).sum() == 0
    predicted = np.asarray(sp.csr_matrix(found.predicted).todense())
    assert (predicted >= 0).all()
    assert (predicted <= X).all()
    assert predicted[found.train_rows].sum() == 0
    words = X[found.test_rows].sum(1)
    assert np.array_equal(predicted[found.test_rows].sum(1), words // 2)
    assert bool(found.remarks) == bool((words < 2).any())
    again, other = (CompletionSplit(test_fraction=0.5)(table(kind(X)), seed) for seed in (3, 4))
    assert abs(again.predicted - found.predicted).sum() == 0
    assert abs(other.predicted - found.predicted).sum() > 0


def test_halves_are_drawn_without_preference():
    """Of 60 words 20 of which are one word, 10 of 30 on average."""
    X = np.tile(np.array([20.0, 40.0]), (400, 1))
    found = CompletionSplit(test_fraction=0.99)(table(X), 0)
    drawn = found.predicted[found.test_rows, 0]
    assert drawn.mean() == pytest.approx(10, abs=0.4)
    assert drawn.var() == pytest.approx(30 * (1 / 3) * (2 / 3) * 30 / 59, rel=0.2)


def test_no_model_sees_what_is_predicted(monkeypatch):
    """A million times the predicted counts of every other word change the perplexity, nothing else."""
    plain = CompletionSplit.__call__
    scale = {"by": 1.0}

    def tampered(self: CompletionSplit, matrix: Matrix, seed: int) -> Any:
        found = plain(self, matrix, seed)
        more = found.predicted * (scale["by"] - 1) * (np.arange(matrix.values.shape[1]) % 2)
        matrix.values[:] += more
        return type(found)(**{**vars(found), "predicted": found.predicted + more})

    monkeypatch.setattr(CompletionSplit, "__call__", tampered)
    seen = []
    for by in (1.0, 1e6):
        scale["by"] = by
        data = MatrixDataModule(
            InMemory(X=counts().copy()), CompletionSplit(), dtype=torch.float64, seed=0,
            device=torch.device("cpu"),
        )  # fmt: skip
        data.setup()
        assert data.test is not None
        fitted = fit(counts().copy(), "plsi", n_components=3, split="completion", max_iter=20)
        seen.append((data.train.x, data.test.x, fitted.factors["H"]().detach(), fitted.metrics))
    for one, other in zip(seen[0][:3], seen[1][:3], strict=True):
        assert torch.equal(one, other)
    assert seen[0][3]["train/perplexity"] == seen[1][3]["train/perplexity"]
    assert seen[0][3]["test/perplexity"] != seen[1][3]["test/perplexity"]
    assert "test/loss" not in seen[0][3]  # which would be that of the half that was seen


def test_perplexity_is_that_of_its_definition():
    X, model = counts(), fit(counts(), "lda", n_components=3, split="completion", max_iter=10)
    found = CompletionSplit()(table(X), 0)
    words = X[found.train_rows].sum(0) + 1
    rest = found.predicted[found.test_rows]
    theta = model.transform(X[found.test_rows] - rest)
    p = 0.99 * theta @ model.components_ + 0.01 * words / words.sum()
    assert model.metrics["test/perplexity"] == pytest.approx(
        np.exp(-(rest * np.log(p)).sum() / rest.sum()), rel=1e-9
    )
    f = X.shape[1]
    assert metrics.perplexity(X, np.ones_like(X), np.zeros(f)) == pytest.approx(f)
    shares = metrics.smoothed_shares(words - 1)
    assert metrics.perplexity(X, np.zeros_like(X), words - 1) == pytest.approx(
        np.exp(-(X @ np.log(shares)).sum() / X.sum())
    )
    assert metrics.perplexity(X, -X, words - 1) == metrics.perplexity(X, 0 * X, words - 1)
    assert metrics.perplexity(X, 1 - np.minimum(X, 1), words, 0.0) == np.inf


def test_nmf_under_kl_is_in_the_same_table():
    """Its rows of W H, whatever their scale, are shares; it is pLSI at the same optimum."""
    settings: dict[str, Any] = {"split": "completion", "max_iter": 3000, "tol": 1e-9}
    nmf = fit(counts(), n_components=3, loss="kl", n_restarts=3, **settings)
    plsi = fit(counts(), "plsi", n_components=3, n_restarts=3, **settings)
    for part in ("train", "test"):
        one, other = (model.metrics[f"{part}/perplexity"] for model in (nmf, plsi))
        assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda X: X + 0.5, "values of X are fractions"),
        (lambda X: X - 5, "values of X are negative"),
        (lambda X: np.minimum(X, 0), "no test document has two words"),
    ],
)
def test_what_has_no_words_is_not_halved(change, said):
    with pytest.raises(nmfnet.UserError, match=said):
        CompletionSplit()(table(change(counts())), 0)


def test_missing_entries_are_not_halved():
    with pytest.raises(nmfnet.UserError, match="missing or weighted"):
        fit(counts(), "nmf", mask=counts() != 1, split="completion")


# ---------------------------------------------------------------------- unigrams
def test_the_unigram_is_the_closed_form_and_certified():
    fitted = fit(counts(), "unigram", pseudocount=0.5)
    words = counts().sum(0) + 0.5
    np.testing.assert_allclose(fitted.components_[0], words / words.sum(), rtol=1e-10)
    assert fitted.metrics["status"] == "converged"
    log = np.log(words / words.sum())
    assert objective(fitted, counts()) == pytest.approx(-((counts().sum(0) + 0.5) @ log))
    assert np.array_equal(fitted.transform(counts()), np.ones((40, 1)))


def test_the_unigram_predicts_what_smoothing_does():
    fitted = fit(counts(), "unigram", split="completion")
    found = CompletionSplit()(table(counts()), 0)
    rest = found.predicted[found.test_rows]
    words = counts()[found.train_rows].sum(0)
    wanted = metrics.perplexity(rest, np.zeros_like(rest), words)
    assert fitted.metrics["test/perplexity"] == pytest.approx(wanted, rel=1e-9)


def test_em_of_the_mixture_never_rises_and_is_bayes():
    fitted = fit(counts(), "mixture_of_unigrams", n_components=3, max_iter=1)
    found = []
    with torch.no_grad(), fitted.restarts(0):
        for _ in range(30):
            fitted.sweep(batch(counts()))
            found.append(float(sum(fitted.objective(batch(counts())).values())))
    assert all(b <= a + 1e-9 * abs(a) for a, b in itertools.pairwise(found))
    assert found[-1] < found[0]
    H = torch.from_numpy(fitted.components_)
    pi = fitted.factors["pi"]()[0, 0].detach()
    X = torch.from_numpy(counts())
    joint = torch.stack([D.Multinomial(60, probs=h).log_prob(X) for h in H], -1) + pi.log()
    np.testing.assert_allclose(fitted.transform(counts()), joint.softmax(-1), atol=1e-9)
    fixed = D.Multinomial(60, probs=torch.full((20,), 0.05).double()).log_prob(X) + 60 * np.log(20)
    data = float(-(joint.logsumexp(-1) - fixed).sum())  # coefficients left out
    with torch.no_grad(), fitted.restarts(0):
        assert float(fitted.terms(batch(counts()))["data"]) == pytest.approx(data, rel=1e-10)


def test_a_mixture_finds_documents_of_one_topic():
    rng = np.random.default_rng(0)
    H = rng.dirichlet(np.full(30, 0.1), size=3)
    X = np.stack([rng.multinomial(50, H[i % 3]) for i in range(90)]).astype(float)
    fitted = fit(X, "mixture_of_unigrams", n_components=3, n_restarts=5, max_iter=200)
    assert fitted.metrics["status"] == "converged"
    assert metrics.adjusted_rand(np.arange(90) % 3, fitted.transform(X).argmax(1)) == 1
    X[4] = 0
    np.testing.assert_allclose(fitted.transform(X)[4], fitted.factors["pi"]()[
        int(fitted.best), 0].detach())  # fmt: skip


# ---------------------------------------------------------------------- LSI
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_lsi_is_the_singular_value_decomposition(kind):
    X = kind(counts())
    fitted = fit(X, "lsi", n_components=4)
    U, S, Vt = np.linalg.svd(counts(), full_matrices=False)
    best = (U[:, :4] * S[:4]) @ Vt[:4]
    np.testing.assert_allclose(fitted.reconstruct(X), best, atol=1e-9)
    np.testing.assert_allclose(fitted.components_ @ fitted.components_.T, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(fitted.transform(X), axis=0), S[:4], rtol=1e-9)
    assert fitted.metrics["train/loss"] == pytest.approx(0.5 * (S[4:] ** 2).sum(), rel=1e-9)
    assert fitted.metrics["status"] == "converged"
    new = kind(counts(seed=1))
    np.testing.assert_allclose(fitted.transform(new), new @ fitted.components_.T, atol=1e-9)
    assert (fitted.components_[range(4), np.abs(fitted.components_).argmax(1)] > 0).all()


def test_lsi_takes_any_rank_and_sign_and_refuses_other_losses():
    X = counts()[:, :5] - 2
    every = fit(X, "lsi", n_components=5)
    np.testing.assert_allclose(every.reconstruct(X), X, atol=1e-9)
    with pytest.raises(nmfnet.UserError, match="at most 5 singular vectors"):
        fit(X, "lsi", n_components=6)
    with pytest.raises(nmfnet.UserError, match="use loss=frobenius"):
        fit(counts(), "lsi", loss="kl")


# ---------------------------------------------------------------------- pLSI
def test_plsi_iterates_are_the_multiplicative_ones_of_kl_nmf():
    """Both factors at once, rows of H scaled to sum 1: W is the shares times the lengths."""
    fitted = fit(counts(), "plsi", n_components=3, max_iter=1)
    X = torch.from_numpy(counts())
    length = X.sum(1, keepdim=True)
    with torch.no_grad(), fitted.restarts(0):
        W, H = length * fitted.W(), fitted.H()
        for _ in range(25):
            fitted.sweep(batch(counts()))
            (up_W, down_W), (up_H, down_H) = nmf_sums_W(X, W, H, 1), nmf_sums_H(X, W, H, 1)
            W, H = W * up_W / down_W, H * up_H / down_H
            H = H / H.sum(-1, keepdim=True)
            torch.testing.assert_close(length * fitted.W(), W, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(fitted.H(), H, rtol=1e-10, atol=1e-11)


def test_plsi_is_lda_at_the_mode_under_flat_priors():
    """Log-densities of documents, shares and topics under Dirichlet(1): equal up to a constant."""
    fitted = fit(counts(), "plsi", n_components=3, max_iter=1)
    X, rng = torch.from_numpy(counts()), np.random.default_rng(0)
    gaps = []
    for _ in range(3):
        W = torch.from_numpy(rng.dirichlet(np.ones(3), size=40))
        H = torch.from_numpy(rng.dirichlet(np.ones(20), size=3))
        flat = D.Dirichlet(torch.ones(3).double()).log_prob(W).sum()
        flat = flat + D.Dirichlet(torch.ones(20).double()).log_prob(H).sum()
        density = sum(D.Multinomial(60, probs=p).log_prob(x) for p, x in zip(W @ H, X, strict=True))
        with torch.no_grad(), fitted.restarts(0), fitted.W.at(W), fitted.H.at(H):
            gaps.append(float(sum(fitted.objective(batch(counts())).values()) + density + flat))
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-10)


@pytest.mark.parametrize("beta", [1.0, 0.7])
def test_em_of_plsi_never_rises_and_tempering_fits_less(beta):
    fitted = fit(counts(), "plsi", n_components=3, max_iter=1, temperature=beta)
    found = []
    with torch.no_grad(), fitted.restarts(0):
        for _ in range(40):
            fitted.sweep(batch(counts()))
            found.append(float(sum(fitted.objective(batch(counts())).values())))
    assert all(b <= a + 1e-9 * abs(a) for a, b in itertools.pairwise(found))
    assert found[-1] < found[0]


@pytest.mark.slow
def test_tempering_trades_the_training_words_for_new_ones():
    settings: dict[str, Any] = {"n_components": 8, "split": "completion", "max_iter": 500}
    cold, warm = (fit(counts(), "plsi", temperature=t, **settings).metrics for t in (1.0, 0.6))
    assert warm["train/perplexity"] > cold["train/perplexity"]


def test_unseen_documents_are_folded_in_at_their_optimum():
    fitted = fit(counts(), "plsi", n_components=3, max_iter=300)
    new = counts(seed=0, n=60)[40:].copy()
    new[3] = 0
    W, H = fitted.transform(new), fitted.components_
    np.testing.assert_allclose(W.sum(1), 1)
    np.testing.assert_allclose(W[3], 1 / 3)
    live = np.arange(len(new)) != 3
    slope = (new / (W @ H))[live] @ H.T  # KKT on the simplex: n where W > 0, at most n elsewhere
    n = new[live].sum(1, keepdims=True)
    assert (slope <= n * (1 + 1e-2)).all()
    np.testing.assert_allclose((W[live] * (slope - n)).sum(1), 0, atol=1e-3 * 60)
    alone = np.concatenate([fitted.transform(row[None]) for row in new])
    np.testing.assert_allclose(alone, W, atol=1e-12)


def test_the_compiled_passes_are_the_plain_ones(monkeypatch):
    monkeypatch.setattr(topics, "MOST", 10_000)
    rng = np.random.default_rng(0)
    x = csr_of(torch.from_numpy(counts()))
    T = torch.from_numpy(rng.dirichlet(np.ones(3), size=40)).requires_grad_()
    B = torch.from_numpy(rng.dirichlet(np.ones(20), size=3)).requires_grad_()
    weight = torch.from_numpy(rng.random(40))
    ours = (weight * topics.log_mixture(x, T, B)).sum()
    plain = (weight * torch.xlogy(torch.from_numpy(counts()), T @ B).sum(-1)).sum()
    torch.testing.assert_close(ours, plain)
    for one, other in zip(*(torch.autograd.grad(v, (T, B)) for v in (ours, plain)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    alpha, B = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64), B.detach()
    found = topics.concentrations(x, B, alpha)
    t = topics.expected_log(found.gamma).exp()
    torch.testing.assert_close(found.logs, torch.xlogy(x.to_dense(), t @ B).sum(-1))
    again = alpha + t * ((x.to_dense() / (t @ B)) @ B.mT)
    assert float((again - found.gamma).abs().mean(-1).max()) < 2e-3
    wanted = B * (t.mT @ (x.to_dense() / (t @ B)))
    torch.testing.assert_close(found.counts, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("symmetric", [False, True])
def test_priors_are_the_most_likely_ones(symmetric):
    truth = torch.full((4,), 0.7, dtype=torch.float64)
    truth = truth if symmetric else torch.tensor([0.2, 0.7, 1.5, 4.0], dtype=torch.float64)
    torch.manual_seed(0)
    draws = D.Dirichlet(truth).sample((20_000,)).clamp_min(1e-300)
    log = draws.log().mean(0)
    found = topics.prior_of(torch.ones_like(truth), log, len(draws), symmetric=symmetric)
    torch.testing.assert_close(found, truth, rtol=0.05, atol=0)
    free = found.clone().requires_grad_()
    D.Dirichlet(free).log_prob(draws).mean().backward()
    slope = free.grad.mean() if symmetric else free.grad
    assert float(slope.abs().max()) < 1e-6


# ---------------------------------------------------------------------- networks
@pytest.mark.parametrize("model", ["prodlda", "etm"])
def test_a_network_pays_what_its_shares_say(model):
    """The misfit of every document is minus the log-likelihood of its words, coefficients left out."""
    fitted = fit(counts(), model, n_components=3, max_iter=20, n_restarts=2)
    X = torch.from_numpy(counts())
    fitted.eval()
    with torch.no_grad():
        code = fitted.law(batch(counts())).mean
        p = fitted.decode(code)
        found = fitted.row_misfit(batch(counts()), code)
        torch.testing.assert_close(p.sum(-1), torch.ones_like(p[..., 0]))
        torch.testing.assert_close(found, -(X * p.log()).sum(-1), rtol=1e-9, atol=1e-9)
        sparse = Batch(csr_of(X), torch.arange(40))
        torch.testing.assert_close(fitted.law(sparse).mean, code)
        torch.testing.assert_close(fitted.row_misfit(sparse, code), found)
    with torch.no_grad(), fitted.restarts(int(fitted.best)):
        terms = {k: float(v) for k, v in fitted.terms(batch(counts())).items()}
    assert set(terms) == {"data", "kl"}
    assert fitted.metrics["train/elbo"] == pytest.approx(-sum(terms.values()) / 40, rel=1e-9)


def test_prodlda_normalises_as_a_layer_of_batch_normalisation_does():
    fitted = fit(counts(), "prodlda", n_components=3, max_iter=5)
    theta = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(3), size=(1, 40)))
    fitted.train()
    fitted.now = 0
    with torch.no_grad():
        ours = fitted.logits(theta)
        raw = theta @ fitted.H()
        spread, middle = torch.var_mean(raw, -2, correction=0, keepdim=True)
        wanted = (raw - middle) / (spread + 1e-5).sqrt() * fitted.scale + fitted.shift
    fitted.now = None
    torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["prodlda", "etm"])
def test_networks_stop_early_and_beat_the_unigram(model):
    X = counts(n=150, f=40, words=80)
    fitted = fit(X, model, n_components=5, split="completion", max_iter=1500, tol=1e-3)
    unigram = fit(X, "unigram", split="completion")
    assert fitted.metrics["status"] == "stopped early"
    assert fitted.metrics["test/perplexity"] < 0.95 * unigram.metrics["test/perplexity"]


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_a_start_of_lda_is_finite_whatever_is_drawn(monkeypatch, end):
    """A uniform number just below 1 is 1 in float32."""
    drawn, calls = Factorization.uniform, itertools.count()

    def uniform(self: Factorization, factor: Any) -> torch.Tensor:
        value = drawn(self, factor)
        return value if next(calls) else torch.full_like(value, end)

    monkeypatch.setattr(Factorization, "uniform", uniform)
    fitted = fit(counts(), "lda", n_components=3, max_iter=1)
    assert torch.isfinite(fitted.objectives).all()


# ---------------------------------------------------------------------- bad input and commands
@pytest.mark.parametrize("model", ["unigram", "mixture_of_unigrams", "plsi", "lda", "etm"])
def test_fractions_are_said_and_no_words_are_refused(model):
    fitted = fit(counts() + 0.25, model, max_iter=2)
    assert any("are fractions" in note for note in fitted.notes)
    assert not any("are fractions" in note for note in fit(counts(), model, max_iter=2).notes)
    with pytest.raises(nmfnet.UserError, match="none of the documents has a word"):
        fit(0 * counts(), model)
    with pytest.raises(nmfnet.UserError, match="cannot leave entries out"):
        fit(counts(), model, mask=counts() != 1)
    with pytest.raises(nmfnet.UserError, match=r"negative values and \w+ needs X >= 0"):
        fit(counts() - 1, model)


def test_a_sweep_over_topic_models_ends_in_one_table(tmp_path):
    rng = np.random.default_rng(0)
    words = np.array([f"word{chr(97 + i)}" for i in range(20)])
    rows = [" ".join(np.repeat(words, row.astype(int))) for row in counts(30)]
    rng.shuffle(rows)
    (tmp_path / "posts.csv").write_text("text\n" + "\n".join(rows) + "\n")
    done = train(
        *("-m", "model=lda,plsi,nmf", "loss=kl", "data=text", "data.path=posts.csv"),
        *("split=completion", "model.n_components=3", "max_iter=30", "figures=false"),
        cwd=tmp_path,
    )
    assert done.code == 0, done.err + done.out
    found = nmfnet.runs(tmp_path / "runs")
    assert set(found["model"]) == {"lda", "plsi", "nmf"}
    assert found["test/perplexity"].between(1, 20).all()


def test_a_run_says_what_it_completed(tmp_path):
    np.savetxt(tmp_path / "X.csv", counts(), delimiter=",", fmt="%d")
    words = ["data=table", "data.path=X.csv", "data.orientation=samples_by_features"]
    words += ["split=completion", "model=plsi", "model.n_components=3", "max_iter=20"]
    done = train(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "perplexity of completed documents" in done.out
    numbers = json.loads((the_run(tmp_path) / "metrics.json").read_text())
    assert 1 < numbers["train/perplexity"] < 20
    assert "temperature=2: must be" in refusal(*words, "model.temperature=2", cwd=tmp_path)
    assert "smoothing" in refusal(*words, "split.smoothing=1", cwd=tmp_path)
