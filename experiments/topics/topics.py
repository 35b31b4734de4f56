"""Every topic model beside NMF: completion of documents, coherence, stability, labels, time.

``python experiments/topics/topics.py`` writes ``topics.csv``, ``peer.csv`` and ``limits.csv`` here
(about a quarter of an hour on one core); ``... study dblp-titles`` only one corpus, ``... figures``
draws the figures again from the tables.
"""

from __future__ import annotations

import csv
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

import nmfnet
from nmfnet import metrics
from nmfnet.data import CompletionSplit, Matrix, Table
from nmfnet.data.sources.origin import cache_folder
from nmfnet.settings.objects import build
from nmfnet.settings.words import configuration

HERE = Path(__file__).parent
SEEDS = (0, 1)
PEER_SEEDS = range(5)
SWEEPS = 30
"""Of our LDA and of scikit-learn's, where they are compared."""

BUDGET = 200
"""Most iterations."""

QUIET: dict[str, Any] = {"figures": False, "threads": 1, "progress": False}
MODELS: dict[str, dict[str, Any]] = {
    "unigram": {"model": "unigram"},
    "mixture_of_unigrams": {"model": "mixture_of_unigrams"},
    "lsi": {"model": "lsi"},
    "plsi": {"model": "plsi"},
    "lda": {"model": "lda"},
    "lda learn_priors": {"model": "lda", "model.learn_priors": True},
    "prodlda": {"model": "prodlda", "max_iter": 2 * BUDGET},
    "etm": {"model": "etm", "max_iter": 2 * BUDGET},
    "nmf kl": {"model": "nmf", "loss": "kl"},
}
"""Settings beside the budget; networks have twice as many iterations."""


# ---------------------------------------------------------------------- corpora
def corpora() -> Iterator[tuple[str, int, Matrix]]:
    """Name, number of topics, counts."""
    yield "20news-bow", 20, some(build(configuration({"data": "20news-bow"}).data).read(), 3000, 10)
    yield (
        "dblp-titles",
        20,
        some(build(configuration({"data": "dblp-titles"}).data).read(), 3000, 4),
    )
    yield "microbiome-kostic", 8, microbes()


def some(matrix: Matrix, documents: int, least: int, words: int = 2000) -> Matrix:
    """The words that are in most documents, but in no more than half; documents of some length."""
    there = np.asarray((matrix.values > 0).sum(0)).ravel()
    there[there > 0.5 * matrix.shape[0]] = 0
    columns = np.sort(np.argsort(-there, kind="stable")[:words])
    columns = columns[there[columns] > 0]
    values = sp.csr_matrix(matrix.values[:, columns])
    long = np.flatnonzero(np.asarray(values.sum(1)).ravel() >= least)
    rows = np.sort(np.random.default_rng(0).permutation(long)[:documents])
    return chosen(matrix, values, rows, columns)


def chosen(matrix: Matrix, values: Any, rows: np.ndarray, columns: np.ndarray) -> Matrix:
    """Some documents and words."""
    labels = None if matrix.labels is None else matrix.labels[rows]
    return Matrix(
        sp.csr_matrix(values[rows]),
        [matrix.sample_names[i] for i in rows],
        [matrix.feature_names[j] for j in columns],
        kind="text",
        labels=labels,
        label_names=matrix.label_names,
    )


def microbes() -> Matrix:
    """Bacteria in samples of tumours and of healthy tissue: documents of reads."""
    folder = cache_folder() / "microbiome-kostic"
    table = Table(path=str(folder / "otutable.txt"), orientation="features_by_samples").read()
    with (folder / "task.txt").open() as stream:
        kinds = {row["#SampleID"]: row["Var"] for row in csv.DictReader(stream, delimiter="\t")}
    names = ["Healthy", "Tumor"]
    labels = np.array([names.index(kinds[n]) if n in kinds else -1 for n in table.sample_names])
    there = np.asarray((table.values > 0).sum(0)).ravel()
    columns = np.flatnonzero(there >= 5)
    rows = np.flatnonzero(labels >= 0)
    values = sp.csr_matrix(table.values[:, columns])
    whole = Matrix(
        table.values, table.sample_names, table.feature_names, labels=labels, label_names=names
    )
    return chosen(whole, values, rows, columns)


# ---------------------------------------------------------------------- one fit
def halves(matrix: Matrix, seed: int) -> Any:
    """The split that the fits of a seed have."""
    return CompletionSplit()(matrix, seed)


def fitted(matrix: Matrix, k: int, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """A row of the table, with the topics under ``H``."""
    own = {"max_iter": BUDGET, "split": "completion", "seed": seed, **QUIET, **settings}
    if own["model"] != "unigram":
        own["n_components"] = k
    began = time.process_time()
    model = nmfnet.fit(matrix.values, labels=matrix.labels, **own)
    seconds = time.process_time() - began
    found = model.metrics
    return {
        "train_perplexity": found["train/perplexity"],
        "perplexity": found["test/perplexity"],
        "accuracy": found.get("labels/accuracy"),
        "cpu_seconds": seconds,
        "iterations": found["n_iter"],
        "status": found["status"],
        "H": model.components_,
    }


def on_tfidf(matrix: Matrix, k: int, seed: int) -> dict[str, Any]:
    """NMF under squared errors on tf-idf; what it predicts is divided by the idf again."""
    part = halves(matrix, seed)
    seen = sp.csr_matrix(matrix.values - part.predicted)
    train, half = seen[part.train_rows], seen[part.test_rows]
    idf = np.log((1 + train.shape[0]) / (1 + np.asarray((train > 0).sum(0)).ravel())) + 1

    def weighted(X: Any) -> Any:
        values = sp.csr_matrix(X.multiply(idf))
        size = np.sqrt(np.asarray(values.multiply(values).sum(1)).ravel())
        return sp.csr_matrix(sp.diags(1 / np.maximum(size, 1e-12)) @ values)

    began = time.process_time()
    model = nmfnet.fit(weighted(train), "nmf", n_components=k, seed=seed, max_iter=BUDGET, **QUIET)
    seconds = time.process_time() - began
    W, H = model.transform(weighted(half)), model.components_
    W_train = model.transform(weighted(train))
    words = np.asarray(train.sum(0)).ravel()
    rest = part.predicted[part.test_rows]
    assert matrix.labels is not None
    labels = (matrix.labels[part.train_rows], matrix.labels[part.test_rows])
    return {
        "train_perplexity": metrics.perplexity(train, (W_train @ H) / idf, words),
        "perplexity": metrics.perplexity(rest, (W @ H) / idf, words),
        "accuracy": metrics.readout_accuracy(W_train, labels[0], W, labels[1]),
        "cpu_seconds": seconds,
        "iterations": model.metrics["n_iter"],
        "status": model.metrics["status"],
        "H": H,
    }


def with_topics(row: dict[str, Any], matrix: Matrix, seed: int) -> dict[str, Any]:
    """Coherence (ten words, training documents) and diversity (25 words)."""
    H, train = row["H"], matrix.values[halves(matrix, seed).train_rows]
    top = metrics.top_features(H, 10)
    return {
        **row,
        "npmi": float(metrics.npmi_coherence(top, train).mean()),
        "cv": float(metrics.cv_coherence(top, train).mean()),
        "diversity": metrics.topic_diversity(metrics.top_features(H, 25)),
    }


def study(*names: str) -> None:
    """``topics.csv``: every model on these corpora (all, without names); lines of others stay."""
    fields = [
        "corpus",
        "model",
        "seed",
        "perplexity",
        "train_perplexity",
        "npmi",
        "cv",
        "diversity",
    ]
    fields += ["stability", "accuracy", "cpu_seconds", "iterations", "status"]
    kept = [row for row in read("topics") if names and row["corpus"] not in names]
    with (HERE / "topics.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fields, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        for corpus, k, matrix in corpora():
            if names and corpus not in names:
                continue
            print(corpus, matrix.shape, int(matrix.values.sum()), flush=True)
            for name, fit in methods(matrix, k).items():
                rows = [with_topics(fit(seed), matrix, seed) for seed in SEEDS]
                stable = metrics.matched_cosine(rows[0]["H"], rows[1]["H"])
                for seed, row in zip(SEEDS, rows, strict=True):
                    told = {"corpus": corpus, "model": name, "seed": seed, "stability": stable}
                    writer.writerow({key: short(v) for key, v in (told | row).items()})
                stream.flush()
                print(" ", name, short(rows[0]["perplexity"]), rows[0]["status"], flush=True)


def methods(matrix: Matrix, k: int) -> dict[str, Callable[[int], dict[str, Any]]]:
    """What is compared, by name: functions of a seed."""
    found: dict[str, Callable[[int], dict[str, Any]]] = {
        name: lambda seed, own=own: fitted(matrix, k, seed, own)  # type: ignore[misc]
        for name, own in MODELS.items()
    }
    return found | {"nmf frobenius, tf-idf": lambda seed: on_tfidf(matrix, k, seed)}


def short(value: Any) -> Any:
    """Five digits of a number."""
    return f"{value:.5g}" if isinstance(value, float) else value


# ---------------------------------------------------------------------- scikit-learn's LDA
def peer() -> None:
    """``peer.csv``: as many sweeps of both, their bounds, what they predict, their time."""
    from sklearn.decomposition import LatentDirichletAllocation

    warnings.simplefilter("ignore")
    name, k, matrix = next(corpora())
    with (HERE / "peer.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["corpus", "seed", "who", "sweeps", "bound", "perplexity", "cpu_seconds"])
        for seed in PEER_SEEDS:
            part = halves(matrix, seed)
            seen = sp.csr_matrix(matrix.values - part.predicted)
            train, half = seen[part.train_rows], seen[part.test_rows]
            rest, words = part.predicted[part.test_rows], np.asarray(train.sum(0)).ravel()
            own = {"max_iter": SWEEPS, "tol": 0.0, "certificate_tol": None, "seed": seed, **QUIET}
            own |= {"solver": "variational", "solver.n_inner": SWEEPS, "dtype": "float64"}
            nmfnet.fit(train, "lda", n_components=k, **{**own, "max_iter": 1})  # compiled by now
            began = time.process_time()
            ours = nmfnet.fit(train, "lda", n_components=k, **own)
            seconds = [time.process_time() - began]
            began = time.process_time()
            theirs = LatentDirichletAllocation(
                k, max_iter=SWEEPS, learning_method="batch", random_state=seed, evaluate_every=-1
            ).fit(train)
            seconds.append(time.process_time() - began)
            topics = theirs.components_ / theirs.components_.sum(1, keepdims=True)
            told = (
                ("nmfnet", -ours.metrics["objective"], ours.transform(half) @ ours.components_),
                ("scikit-learn", theirs.score(train), theirs.transform(half) @ topics),
            )
            for (who, bound, x_hat), cpu in zip(told, seconds, strict=True):
                row = [name, seed, who, SWEEPS, f"{bound:.7g}"]
                row += [short(metrics.perplexity(rest, x_hat, words)), short(cpu)]
                writer.writerow(row)
                print(row, flush=True)


# ---------------------------------------------------------------------- the limitations of pLSI
def limits() -> None:
    """``limits.csv``: pLSI and LDA on more and more documents; the same test documents."""
    name, k, matrix = next(corpora())
    part = halves(matrix, 0)
    rest = part.predicted[part.test_rows]
    half = matrix.values[part.test_rows] - rest
    with (HERE / "limits.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["corpus", "model", "documents", "parameters", "training_perplexity", "perplexity"]
        )
        for n in (300, 600, 1200, 2400):
            rows = np.sort(np.random.default_rng(1).permutation(part.train_rows)[:n])
            train = sp.csr_matrix(matrix.values[rows])
            words = np.asarray(train.sum(0)).ravel()
            for model in ("plsi", "lda"):
                fit = nmfnet.fit(train, model, n_components=k, max_iter=BUDGET, **QUIET)
                H, f = fit.components_, matrix.shape[1]
                parameters = k * (f - 1) + n * (k - 1) if model == "plsi" else k * f
                seen = metrics.perplexity(train, fit.transform(train) @ H, words)
                new = metrics.perplexity(rest, fit.transform(half) @ H, words)
                row = [name, model, n, parameters, short(seen), short(new)]
                writer.writerow(row)
                print(row, flush=True)


# ---------------------------------------------------------------------- figures
def read(name: str) -> list[dict[str, str]]:
    """A table of this folder; nothing where there is none."""
    if not (HERE / f"{name}.csv").exists():
        return []
    with (HERE / f"{name}.csv").open() as stream:
        return list(csv.DictReader(stream))


def figures() -> None:
    """``figures/models.png`` and ``figures/limits.png``."""
    from matplotlib.figure import Figure

    from nmfnet.plots import save

    rows = read("topics")
    names = list(dict.fromkeys(row["corpus"] for row in rows))
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    axes = figure.subplots(2, len(names), sharey=True)
    for column, corpus in enumerate(names):
        own = [row for row in rows if row["corpus"] == corpus]
        models = list(dict.fromkeys(row["model"] for row in own))
        for line, (key, words) in enumerate(
            (("perplexity", "perplexity of the other half"), ("npmi", "coherence (NPMI)"))
        ):
            place = axes[line][column]
            at = {model: i for i, model in enumerate(models)}
            for row in own:
                place.plot(float(row[key]), at[row["model"]], "o", color="#0072b2", ms=4, alpha=0.8)
            if key == "perplexity":
                least = next(float(row[key]) for row in own if row["model"] == "unigram")
                if max(float(row[key]) for row in own) > 10 * least:
                    place.set_xscale("log")
                place.axvline(least, color="#999999", lw=0.8, ls=":")
            place.set_yticks(range(len(models)), models)
            place.set_xlabel(words)
            place.grid(axis="x", color="#e5e5e5")
            place.set_axisbelow(True)
            if line == 0:
                place.set_title(corpus, fontsize=10)
        if column == 0:
            axes[0][0].invert_yaxis()
    save(figure, HERE / "figures" / "models.png")

    figure = Figure(figsize=(7, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for model, colour in (("plsi", "#d55e00"), ("lda", "#0072b2")):
        own = [row for row in read("limits") if row["model"] == model]
        n = [int(row["documents"]) for row in own]
        left.plot(n, [int(row["parameters"]) for row in own], "o-", color=colour, ms=4, label=model)
        for key, style, what in (
            ("training_perplexity", "--", "training words"),
            ("perplexity", "-", "new documents"),
        ):
            values = [float(row[key]) for row in own]
            right.plot(n, values, "o", ls=style, color=colour, ms=4, label=f"{model}, {what}")
    left.set(xlabel="training documents", ylabel="parameters", ylim=(0, None))
    right.set(xlabel="training documents", ylabel="perplexity", ylim=(0, None))
    for place in (left, right):
        place.legend(fontsize=7, frameon=False)
        place.grid(color="#e5e5e5")
    save(figure, HERE / "figures" / "limits.png")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
    parts = {"study": study, "peer": peer, "limits": limits, "figures": figures}
    asked = [word for word in sys.argv[1:] if word not in parts]
    for word in [word for word in sys.argv[1:] if word in parts] or parts:
        parts[word](*asked) if word == "study" else parts[word]()
