"""The numbers of a finished run: the same code, on arrays, for every model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from nmfnet import metrics
from nmfnet.core.model import Factorization
from nmfnet.core.objective import kkt, misfit
from nmfnet.data.batches import to_numpy
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.channels import component_names
from nmfnet.run.asked import Asked
from nmfnet.run.association import said_of, tested
from nmfnet.run.callbacks.convergence import Convergence
from nmfnet.run.listed import is_listed, listed_scores, ranking
from nmfnet.run.sound import sound_scores
from nmfnet.run.topics import topic_scores
from nmfnet.run.views import view_scores
from nmfnet.types import Batch

Rows = Callable[[slice], np.ndarray]

FLOOR_ENTRIES = 4_000_000
"""The SVD floor is computed for dense matrices up to this many entries."""

CHANGED = (
    "X has been changed in place since the fit, so the numbers that need it are lost: ask for "
    "model.metrics before, or fit a copy of X"
)


@dataclass
class Factors:
    """Arrays of the best restart, and of all of them.

    Attributes
    ----------
    W : ndarray, shape (n_samples, n_components)
    H : ndarray, shape (n_components, n_features)
    W_test : ndarray, shape (n_test, n_components), or None
    all_W, all_H : ndarray, shape (n_finite, ...)
        Of the restarts whose objective is finite.
    tables : dict of str to ndarray
        Every factor of the model by its name.
    axes : dict of str to (str, str)
        What the rows and the columns of each of them are.
    names : list of str
        Of the components, in the order of W and H: the reference's, where they are its own.
    shares : ndarray, shape (n_samples, n_components), or None
        Of the components in the samples: rows sum to 1, or are NaN where nothing is known.

    associations : Associations or None
        Of the components with the phenotypes of held-out samples, or without any of training samples.

    A model without components has an H of no rows.
    """

    W: np.ndarray
    H: np.ndarray
    W_test: np.ndarray | None
    all_W: np.ndarray
    all_H: np.ndarray
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    axes: dict[str, tuple[str, str]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    shares: np.ndarray | None = None
    associations: metrics.Associations | None = None


@torch.no_grad()
def factors_of(model: Factorization, datamodule: MatrixDataModule) -> Factors:
    """W and H of every restart, and W of held-out rows."""
    model.eval()
    if model.inductive:
        codes = _joined([model.law(block).mean for block in datamodule.blocks("train")])
    else:
        codes = model.encode(datamodule.train)  # a table, which needs no X
    best, W_test = int(model.best), None
    every = codes.new_zeros(model.n_restarts, 0, model.sizes.n_features)
    own = every[best]
    if model.has_components:
        every = model.components()
        with model.restarts(best):  # a product alone may round otherwise than as one of several
            own = model.components().clone()
    if datamodule.test is not None and bool((datamodule.test.index < 0).any()):
        with model.restarts(best):
            found = _joined([model.infer(block) for block in datamodule.blocks("test")])
        W_test = (found * model.units.code).cpu().numpy()
    units = model.units
    all_W = (codes * units.code).cpu().numpy()
    all_H, H = ((part * units.components).cpu().numpy() for part in (every, own))
    W, finite = all_W[best], torch.isfinite(model.objectives).cpu().numpy()
    all_W, all_H = all_W[finite], all_H[finite]
    if lost := int((~finite).sum()):
        datamodule.notes.append(
            f"{lost} of {model.n_restarts} restarts ended without a finite objective and are left out: "
            f"{model.solver.calmer}"
        )
    tables = {
        name: (factor()[best] * units.components**factor.of_x).cpu().numpy()
        for name, factor in model.factors.items()
    }
    axes = {"W": ("sample", "component"), "H": ("component", "feature")}
    axes = {name: factor.axes for name, factor in model.factors.items()} | axes
    tables |= {"W": W, "H": H}
    known = datamodule.matrix.reference if model.named_components else None
    k = W.shape[-1]
    names = component_names(datamodule.feature_names, k) if known is None else list(known.names)
    names += [f"unknown {i + 1}" for i in range(k - len(names))]
    if model.component_classes:
        names = names_by_class(model.component_classes, datamodule.matrix.label_names or ())
    return Factors(
        W, H, W_test, all_W, all_H, tables, axes, names, shares_of(model, datamodule, W),
        _associations(datamodule, W, W_test, H, names),
    )  # fmt: skip


def _associations(
    datamodule: MatrixDataModule,
    W: np.ndarray,
    W_test: np.ndarray | None,
    H: np.ndarray,
    names: list[str],
) -> metrics.Associations | None:
    """Components against the phenotypes of samples, those that are held out if there are any."""
    if not (known := datamodule.matrix.phenotypes):
        return None
    rows = datamodule.train_rows if W_test is None else datamodule.partition.test_rows
    of_rows = {name: values[rows] for name, values in known.items()}
    found = tested(W if W_test is None else W_test, H, names, of_rows, datamodule.seed)
    datamodule.notes += said_of(found, len(rows), W_test is not None)
    return found


def names_by_class(classes: Sequence[int], label_names: Sequence[str]) -> list[str]:
    """``healthy 1``, ``healthy 2``, ``ill 1``, ...: components by the class they were learned from."""
    return [f"{label_names[c]} {classes[:i].count(c) + 1}" for i, c in enumerate(classes)]


def shares_of(
    model: Factorization, datamodule: MatrixDataModule, W: np.ndarray
) -> np.ndarray | None:
    """Shares of the components in training rows, for a model whose weights are such."""
    code = torch.from_numpy(W / model.units.code).to(model.device)
    with torch.no_grad(), model.restarts(int(model.best)):
        found = model.shares_of(code, datamodule.train)
    return None if found is None else found.cpu().numpy()


def _joined(blocks: list[torch.Tensor]) -> torch.Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, -2)


def reconstruction(
    model: Factorization,
    W: np.ndarray,
    datamodule: MatrixDataModule,
    part: Literal["train", "test"] = "train",
) -> Rows:
    """X_hat of the best restart for any slice of rows, which are read again where the decoder asks."""
    if datamodule.streamed and not model.overrides("outputs"):
        return lambda rows: model.inverse_transform(W[rows])
    if not model.rows_independent:
        whole = model.inverse_transform(W)
        return lambda rows: whole[rows]

    def said(rows: slice) -> np.ndarray:
        batch = datamodule.rows_of(part, rows)
        code = torch.from_numpy(W[rows] / model.units.code).to(batch.x)
        with torch.no_grad(), model.restarts(int(model.best)):
            return (model.outputs(code, batch)["x"].mean * model.units.data).cpu().numpy()

    return said


def run_metrics(
    model: Factorization,
    datamodule: MatrixDataModule,
    factors: Factors,
    convergence: Convergence,
) -> Mapping[str, Any]:
    """``metrics.json``: fit on training and held-out data, restarts, reference, how it ended.

    Losses and KL are sums over entries; ``relative_error`` is ||X - X_hat||_F / ||X||_F. What needs X is
    computed when it is asked for; nothing of it, with a warning, if X has changed since.
    """
    groups = (
        partial(_fit, "train", model, datamodule, factors.W),
        partial(_held_out, model, datamodule, factors),
        partial(ranking, model, datamodule, factors.W),
        partial(view_scores, model, datamodule, factors.W, factors.W_test),
        partial(_residuals, model, datamodule, factors.W),
        partial(_floor, model, datamodule),
        partial(_components, model, datamodule, factors),
        partial(_known, model, datamodule, factors),
        partial(_layers, model, datamodule),
        partial(_labels, model, datamodule, factors),
        partial(_batch_silhouettes, datamodule, factors.W),
        partial(topic_scores, datamodule, factors),
        partial(sound_scores, model, datamodule, factors),
    )

    def of_X(group: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        if datamodule.unchanged:
            return _anywhere(group)
        warnings.warn(CHANGED, stacklevel=2)
        return {}

    how = _ended(model, convergence)
    return Asked(lambda: how, *(partial(of_X, group) for group in groups))


def _anywhere(ask: Callable[[], Any]) -> Any:
    """The same answer inside ``torch.no_grad()`` and ``torch.inference_mode()``."""
    with torch.inference_mode(False), torch.enable_grad():
        return ask()


def _ended(model: Factorization, convergence: Convergence) -> dict[str, Any]:
    """How long it took, how it ended, and on which objective."""
    best, status = int(model.best), convergence.status(model)
    return {
        "n_iter": int(model.n_iter[best]),
        "seconds": convergence.seconds,
        "status": status,
        "converged": status == "converged",
        "budget/cut": status == "budget" and model.iteration < model.budget.max_iter,
        "budget/meant": convergence.ended_as_meant(model),
        "certificate/fall": partial(_anywhere, partial(convergence.fall, model)),
        "objective": float(model.objectives[best]) * model.loss_unit,
        "n_restarts": model.n_restarts,
        "solver": model.solver.name,
    }


def _held_out(
    model: Factorization, datamodule: MatrixDataModule, factors: Factors
) -> dict[str, float]:
    if datamodule.partition.predicted is not None:
        return _completion(model, datamodule, factors)
    if datamodule.test is None:
        return {}
    W = factors.W if factors.W_test is None else factors.W_test
    return _fit("test", model, datamodule, W)


def _residuals(
    model: Factorization, datamodule: MatrixDataModule, W: np.ndarray
) -> dict[str, float]:
    """How large residuals are beside known uncertainties."""
    mask = datamodule.train.mask
    if not datamodule.matrix.uncertain or mask is None or not model.estimates_x:
        return {}
    weights = to_numpy(mask)
    x_hat = reconstruction(model, W, datamodule)
    found = metrics.q_values(datamodule.values("train"), x_hat, weights, model.n_components)
    return {f"train/{name}": value for name, value in found.items()}


def _floor(model: Factorization, datamodule: MatrixDataModule) -> dict[str, float]:
    """What no model of this rank can be below."""
    matrix = datamodule.matrix.values
    small = isinstance(matrix, np.ndarray) and matrix.size <= FLOOR_ENTRIES
    rank = model.n_components + model.offset
    whole = model.linear and datamodule.train.mask is None
    if not (small and whole and rank <= min(model.sizes)):
        return {}
    trained_on = np.asarray(datamodule.values("train"), np.float64)
    return {"floor/relative_error": metrics.svd_floor(trained_on, rank)}


def _labels(
    model: Factorization, datamodule: MatrixDataModule, factors: Factors
) -> dict[str, float]:
    """Agreement of the codes with the labels."""
    if datamodule.matrix.labels is None:
        return {}
    labels = datamodule.matrix.labels[datamodule.train_rows]
    clusters = clusters_of(model, factors.W, len(np.unique(labels[labels >= 0])))
    return {
        "labels/ari": metrics.adjusted_rand(labels, clusters),
        "labels/nmi": metrics.normalized_mutual_information(labels, clusters),
        **_held_out_labels(datamodule, factors),
    }


def _batch_silhouettes(datamodule: MatrixDataModule, W: np.ndarray) -> dict[str, float]:
    """How far the codes of the levels of a covariate lie apart: near 0 = they are mixed."""
    named = datamodule.matrix.classes(datamodule.train_rows)
    return {
        f"covariate/{name}/silhouette": metrics.silhouette(W, levels)
        for name, levels in named.items()
        if 1 < len(set(levels)) < len(levels)
    }


def clusters_of(model: Factorization, W: np.ndarray, n_clusters: int) -> np.ndarray:
    """A model's own clusters; else the largest component of each sample, or k-means of signed codes."""
    with torch.no_grad(), model.restarts(int(model.best)):
        own = model.clusters(torch.from_numpy(W / model.units.code).to(model.device))
    if own is not None:
        return own.cpu().numpy()
    if model.code != "real":
        return metrics.clusters_of(W)
    from sklearn.cluster import KMeans

    return KMeans(n_clusters, n_init=10, random_state=0).fit_predict(W)


def layers_of(
    model: Factorization, datamodule: MatrixDataModule
) -> list[tuple[np.ndarray, np.ndarray]]:
    """W_l and H_l of every layer of the best restart of a hierarchical model, else nothing."""
    if datamodule.streamed:
        return []
    model.eval()
    with torch.no_grad(), model.restarts(int(model.best)):
        found = model.layers(datamodule.train)
        unit = model.units.data
        return [((W.detach() * unit).cpu().numpy(), H.detach().cpu().numpy()) for W, H in found]


def _layers(model: Factorization, datamodule: MatrixDataModule) -> dict[str, float]:
    matrix, rows = datamodule.matrix, datamodule.train_rows
    found = layers_of(model, datamodule)
    hierarchy = {name: level[rows] for name, level in matrix.hierarchy.items()}
    if not hierarchy and matrix.labels is not None:
        hierarchy = {"labels": matrix.labels[rows]}
    return metrics.layer_metrics(datamodule.values("train"), found, hierarchy) if found else {}


def _held_out_labels(datamodule: MatrixDataModule, factors: Factors) -> dict[str, float]:
    """How well labels are told that the training has not seen: hidden ones, or those of held-out rows."""
    truth, partition = datamodule.matrix.labels, datamodule.partition
    assert truth is not None
    seen = truth.copy()
    seen[partition.hidden_labels] = -1
    known = seen[partition.train_rows]
    if partition.hidden_labels.size:
        hidden = np.where(known < 0, truth[partition.train_rows], -1)
        found = metrics.readout_metrics(factors.W, known, factors.W, hidden)
    elif factors.W_test is not None:
        fresh = truth[partition.test_rows]
        found = metrics.readout_metrics(factors.W, known, factors.W_test, fresh)
    else:
        return {}
    return {f"labels/{name}": value for name, value in found.items()}


def _fit(
    part: Literal["train", "test"],
    model: Factorization,
    datamodule: MatrixDataModule,
    W: np.ndarray,
) -> dict[str, float]:
    whole = datamodule.train if part == "train" else datamodule.test
    assert whole is not None
    mask = None if whole.mask is None else to_numpy(whole.mask)
    scores: dict[str, float] = {}
    of_pairs = part == "test" and bool(datamodule.partition.pairs)  # and so not of X
    if is_listed(model, datamodule):
        scores |= listed_scores(part, model, datamodule, W)
    elif model.estimates_x and not model.learns_graph and not of_pairs:
        x_hat = reconstruction(model, W, datamodule, part)
        means = _training_means(datamodule) if part == "test" else None
        scores |= metrics.fit_metrics(datamodule.values(part), x_hat, mask, means)
    loss, start = 0.0, 0
    own: dict[str, float] = {}
    with torch.no_grad(), model.restarts(int(model.best)):
        for block in datamodule.blocks(part):
            code = torch.from_numpy(W[start : start + block.x.shape[0]] / model.units.code)
            code = code.to(block.x.device)
            loss += float(misfit(model, block, code)) * model.loss_unit
            start += block.x.shape[0]
            share = block.x.shape[0] / whole.x.shape[0]  # scores are means over rows
            for name, value in model.scores(code, block, part).items():
                own[name] = own.get(name, 0.0) + share * value
            own |= _links(model, code, block) if of_pairs else {}
    if of_pairs and not model.learns_graph:
        return own
    return {f"{part}/loss": loss} | {f"{part}/{k}": v for k, v in scores.items()} | own


def _completion(
    model: Factorization, datamodule: MatrixDataModule, factors: Factors
) -> dict[str, float]:
    """Perplexity of the words that test documents were halved of, and of the training documents."""
    partition, W_test = datamodule.partition, factors.W_test
    assert W_test is not None
    seen = datamodule.values("train")
    words = np.asarray(seen.sum(axis=0)).ravel()
    parts: dict[Literal["train", "test"], tuple[Any, np.ndarray]] = {
        "train": (seen, factors.W),
        "test": (partition.predicted[partition.test_rows], W_test),
    }
    return {
        f"{part}/perplexity": metrics.perplexity(
            counts, reconstruction(model, W, datamodule, part), words, partition.smoothing
        )
        for part, (counts, W) in parts.items()
    }


def _training_means(datamodule: MatrixDataModule) -> np.ndarray:
    """What a prediction without any model would be: the mean of every feature in the training data."""
    mask = datamodule.train.mask
    return metrics.feature_means(
        datamodule.values("train"), None if mask is None else to_numpy(mask)
    )


def _links(model: Factorization, code: torch.Tensor, batch: Batch) -> dict[str, float]:
    """How well held-out links are told from pairs without one, of the test and validation part."""
    found: dict[str, float] = {}
    for part, prefix in (("test", ""), ("val", "val_")):
        if f"{part} links" in batch.context:
            linked, others = (
                model.link_scores(code, batch.context[f"{part} {word}"]).cpu().numpy()
                for word in ("links", "others")
            )
            scores = metrics.link_metrics(linked, others)
            found |= {f"link/{prefix}{name}": value for name, value in scores.items()}
    return found


def _components(
    model: Factorization, datamodule: MatrixDataModule, factors: Factors
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "codes/sparsity": float(np.mean(metrics.hoyer_sparsity(factors.W, axis=0)))
    }
    if model.has_components:
        result["components/negative"] = float(np.mean(factors.H < 0))
        result["components/sparsity"] = float(np.mean(metrics.hoyer_sparsity(factors.H)))
        result["components/collapsed"] = metrics.collapse_count(factors.H)
    if not datamodule.streamed:  # it needs all rows at once
        with torch.no_grad(), model.restarts(int(model.best)):
            residual = kkt(model, datamodule.train)
        if residual is not None:
            result["kkt_residual"] = result["certificate/kkt"] = float(residual)
    if model.n_restarts > 1:
        finite = model.objectives[torch.isfinite(model.objectives)]
        result["stability/objective_spread"] = metrics.objective_spread(finite.cpu().numpy())
        if model.has_components and len(finite) > 1:
            stable = metrics.stability_metrics(factors.all_H, factors.all_W)
            result |= {f"stability/{name}": value for name, value in stable.items()}
    return result


def _known(
    model: Factorization, datamodule: MatrixDataModule, factors: Factors
) -> dict[str, float]:
    """Agreement with a reference dictionary, and with the truth of simulated data."""
    matrix, result = datamodule.matrix, dict[str, float]()
    if not model.has_components:
        return result
    if matrix.reference is not None:
        matches = metrics.match_reference(
            factors.H, matrix.reference.values, reference_names=matrix.reference.names
        )
        for key in ("assigned_cosine", "best_cosine"):
            values = [getattr(match, key) for match in matches]
            result[f"reference/{key}"] = float(np.nanmean(values))
    if matrix.truth is not None and matrix.truth.H is not None:
        result["truth/matched_cosine"] = metrics.matched_cosine(factors.H, matrix.truth.H)
    if (pair := true_shares(datamodule, factors)) is not None:
        names, found, true = pair
        result |= {f"truth/{key}": v for key, v in metrics.share_errors(found, true, names).items()}
    return result


def true_shares(
    datamodule: MatrixDataModule, factors: Factors
) -> tuple[list[str], np.ndarray, np.ndarray] | None:
    """Names, shares found and true shares of the components that both have; None without any."""
    truth = datamodule.matrix.truth
    if truth is None or factors.shares is None:
        return None
    names = [name for name in factors.names if name in truth.names]
    W = truth.W[datamodule.train_rows]
    total = W.sum(1, keepdims=True)
    true = np.divide(W, total, out=np.full_like(W, np.nan), where=total > 0)
    found = factors.shares[:, [factors.names.index(name) for name in names]]
    return (names, found, true[:, [truth.names.index(name) for name in names]]) if names else None
