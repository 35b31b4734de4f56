"""Figures of a model in memory: ``model.plot.components()``, the same that a run folder holds."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfnet.core.model import Factorization
from nmfnet.data.batches import to_numpy
from nmfnet.data.module import MatrixDataModule, some_rows
from nmfnet.errors import UserError
from nmfnet.run.callbacks.convergence import Record
from nmfnet.run.evaluate import Factors, clusters_of, layers_of, reconstruction, true_shares
from nmfnet.run.views import explained_components

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nmfnet.plots import Run

__all__ = ["Figures", "run_of", "stored"]

DRAWN = 1000
"""Most rows that are drawn for a figure."""


class Figures:
    """The figures of a fitted model, one method each; ``dir(model.plot)`` names those there are.

    ``model.plot.weights()`` shows the training rows, ``model.plot.weights(X)`` the rows of X. A model
    that was loaded or unpickled has no training rows, and needs X for what shows rows of it.

    Parameters
    ----------
    model : Factorization
    known : function
        Gives what the figures are drawn from; called for every figure that is asked for.
    """

    def __init__(self, model: Factorization, known: Callable[[], Run]) -> None:
        self._model, self._known = model, known

    @property
    def run(self) -> Run:
        """What the figures are drawn from."""
        return self._known()

    def __dir__(self) -> list[str]:
        from nmfnet.plots import FIGURES

        return list(FIGURES)

    def __repr__(self) -> str:
        return f"figures of {type(self._model).__name__}: {', '.join(dir(self))}"

    def __getattr__(self, name: str) -> Callable[..., Figure]:
        if name.startswith("_") or name not in dir(self):
            raise AttributeError(f"there is no figure {name!r}: there are {', '.join(dir(self))}")
        return partial(self._draw, name)

    def __getstate__(self) -> dict[str, Any]:
        """Without the training data."""
        return {"_model": self._model, "_known": partial(_same, _without_rows(self.run))}

    def _draw(self, name: str, X: Any = None) -> Figure:
        """A matplotlib figure.

        Parameters
        ----------
        X : array-like, DataFrame or sparse matrix, shape (n_samples, n_features), optional
            Rows to show instead of the training data.

        Raises
        ------
        UserError
            If there is nothing that the figure could be drawn from.
        """
        from nmfnet.plots import FIGURES

        run = self.run if X is None else _of_rows(self._model, self.run, X)
        draw, applies = FIGURES[name]
        if not applies(run):
            advice = f": give rows, model.plot.{name}(X)" if run.W is None else ""
            raise UserError(f"model.plot.{name}: this model has nothing to draw it from{advice}")
        return draw(run)


def run_of(
    datamodule: MatrixDataModule,
    model: Factorization,
    factors: Factors,
    records: Sequence[Record],
) -> Run:
    """What the figures of a run are drawn from."""
    from nmfnet.plots import Run

    matrix, rows, shown = datamodule.matrix, datamodule.train_rows, datamodule.rows_shown()
    sampled = datamodule.streamed
    sample = to_numpy(datamodule.sample.x) * datamodule.unit if sampled else None
    x = some_rows(matrix.values, rows) if sample is None else sample
    history = [record.row() for record in records]
    return Run(
        W=factors.W[shown],
        H=factors.H if model.has_components else None,
        x=x if model.estimates_x and not model.learns_graph else None,
        x_hat=model.inverse_transform
        if model.rows_independent
        else model.inverse_transform(factors.W[shown]),
        mask=None if datamodule.train.mask is None else to_numpy(datamodule.train.mask),
        uncertain=matrix.uncertain and model.estimates_x,
        history={key: np.array([row[key] for row in history]) for key in history[0]},
        kind=matrix.kind,
        image_shape=matrix.image_shape,
        sample_names=[datamodule.sample_names[i] for i in shown],
        feature_names=datamodule.feature_names,
        labels=None if matrix.labels is None else matrix.labels[rows],
        label_names=matrix.label_names,
        reference=matrix.reference,
        restarts_objective=objectives_of(model),
        layers=[H for _, H in layers_of(model, datamodule)],
        names=factors.names,
        shares=factors.shares,
        true_shares=true_shares(datamodule, factors),
        said=None
        if sampled or not model.overrides("outputs") or not model.rows_independent
        else reconstruction(model, factors.W, datamodule),
        power=1.0 if matrix.sound is None else matrix.sound.power,
        linear=model.linear and model.has_components,
        real_code=model.code == "real",
        batches=matrix.classes(rows[shown]),
        dispersion=_dispersion(factors),
        drawn=_drawn(model, x),
        **_nodes(model, datamodule, factors),
        coordinates=None
        if (held := matrix.extra.get("coordinates")) is None
        else held[rows[shown]],
        explained=explained_components(model, datamodule, factors.W),
        associations=None if factors.associations is None else factors.associations.rows,
    )


def _nodes(model: Factorization, datamodule: MatrixDataModule, factors: Factors) -> dict[str, Any]:
    """Links of the training rows, and the clusters of these, where there is a graph."""
    graph = None if datamodule.streamed else datamodule.train.context.get("graph")
    if graph is None:
        return {}
    names = datamodule.matrix.label_names  # k-means of codes: as many clusters as there are classes
    clusters = clusters_of(model, factors.W, len(names) if names else model.n_components)
    return {"links": to_numpy(graph), "clusters": clusters}


def _drawn(model: Factorization, x: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows of the data, evenly spaced, and as many of the model's own, where it can draw any."""
    if not model.generative:
        return None
    rows = np.asarray(x)[:: -(-x.shape[0] // DRAWN)]
    return rows, model.sample(len(rows))


def _dispersion(factors: Factors) -> np.ndarray | None:
    """One for each feature, where the loss learns one."""
    found = factors.tables.get("dispersion")
    return None if found is None else found[0]


def objectives_of(model: Factorization) -> np.ndarray:
    """The objective that every restart ended with, in the units of the user."""
    return model.objectives.cpu().numpy() * model.loss_unit


def stored(model: Factorization, folder: Path) -> Run:
    """What the figures of a run folder's model are drawn from, as far as the folder holds it."""
    run, history = _bare(model), _history(folder / "history.csv")
    return replace(run, history=history, restarts_objective=objectives_of(model))


def _bare(model: Factorization) -> Run:
    """What a model alone knows."""
    from nmfnet.plots import Run

    return Run(
        H=model.components_ if model.has_components else None,
        x_hat=model.inverse_transform if model.rows_independent else None,
        kind=model.recipe.get("kind", "generic"),
        image_shape=model.recipe.get("image_shape"),
        feature_names=model.feature_names,
        names=model.component_names,
        linear=model.linear and model.has_components,
        real_code=model.code == "real",
    )


def _same(run: Run) -> Run:
    return run


def _without_rows(run: Run) -> Run:
    absent: dict[str, Any] = dict.fromkeys(
        (
            *("W", "x", "mask", "labels", "sample_names", "shares", "true_shares", "said"),
            *("batches", "drawn", "links", "coordinates", "explained", "associations"),
        )
    )
    return replace(run, **absent, x_hat=run.x_hat if callable(run.x_hat) else None)


def _of_rows(model: Factorization, run: Run, X: Any) -> Run:
    x, _, names = (X, None, None) if model.reader is None else model.reader(X, None)
    code = model.transform(X)
    x_hat = model.inverse_transform
    return replace(
        _without_rows(run),
        W=code,
        x=x if model.estimates_x and not model.learns_graph else None,
        x_hat=x_hat if model.rows_independent else x_hat(code),
        sample_names=None if names is None else [str(name) for name in names],
    )


def _history(file: Path) -> dict[str, np.ndarray] | None:
    """The columns of ``history.csv``; None where there is none that is whole."""
    try:
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        columns = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
    except (OSError, ValueError, TypeError, IndexError):
        return None
    return columns if {"iteration", "seconds", "objective"} <= set(columns) else None
