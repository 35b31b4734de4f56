"""nmfnet from Python: :func:`fit` for one matrix, without the command line."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfnet.config import Config, plain
from nmfnet.errors import UserError
from nmfnet.settings.words import configuration

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization
    from nmfnet.data.sources.source import Source
    from nmfnet.selection.run import Selected


def fit(
    X: Any,
    model: str = "nmf",
    *,
    mask: Any = None,
    uncertainty: Any = None,
    labels: Any = None,
    graph: Any = None,
    views: Mapping[str, Any] | None = None,
    covariates: Any = None,
    W: Any = None,
    H: Any = None,
    run_dir: str | Path | None = None,
    **settings: Any,
) -> Factorization:
    """Fit a model to an array, by the same code and defaults as the command line.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor or sparse matrix, shape (n_samples, n_features)
        A DataFrame's index and columns become the names. The first modality of a MuData is X, and the
        others are ``views``.
    model : str
        A choice of the group ``model``.
    mask : array-like, shape (n_samples, n_features), optional
        Weights >= 0: 1 or True = observed, 0 = missing.
    uncertainty : array-like, shape (n_samples, n_features), optional
        How far every entry may be off, > 0, in the unit of X: weights 1/u², and ``metrics`` and ``plot``
        tell of residuals in u (``train/q_ratio``, ``plot.scaled_residuals()``).
    labels : array-like, shape (n_samples,), optional
        Class of each row, for figures and scores.
    graph : array-like or sparse matrix, shape (n_samples, n_samples), optional
        Weights >= 0 of links between the rows, for models that read them; 0 = no link. A DataFrame is
        joined by the names of its rows and columns.
    views : mapping of str to array-like, optional
        Further matrices of the same samples, for models that explain several: joined by name if X and
        the view are DataFrames, else row by row. Rows of NaN are samples that a view lacks.
    covariates : DataFrame, mapping of str to sequence, or sequence of length n_samples, optional
        What is known of every row beside X (batch, donor, depth), for models that read it. Text is
        one column for each level, numbers are used as they are. A DataFrame is joined by its index.
    W : array-like, shape (n_samples, n_components), optional
    H : array-like, shape (n_components, n_features), optional
        Values of these factors, which are held while the others are fitted; with ``init="given"`` they
        are a start instead.
    run_dir : str or Path, optional
        Write the run folder here; by default nothing is written.
    **settings
        Root keys (``n_restarts=10``, ``seed=1``, ``tol=1e-6``), choices of groups (``loss="kl"``,
        ``solver="adam"``), options of the model (``n_components=5``), or any dotted key as
        ``**{"solver.extrapolation": False}``. ``n_components="auto"`` is the number that a given W or H
        has, else the number of features: no choice by the data, which is :func:`select_rank`.

    Returns
    -------
    Factorization
        Fitted: ``transform``, ``inverse_transform``, ``reconstruct``, ``components_``; the best of
        the restarts. ``model.metrics`` gives the numbers of ``metrics.json``, computed when first
        asked for (so ask before X is changed), ``model.notes`` what there is to know about the data,
        ``model.plot.components()`` and its like figures, and the model prints as a short table of how
        well it fits.

    Raises
    ------
    UserError
        For unknown settings ("did you mean"), and for data that the loss or model cannot take.

    Warns
    -----
    UserWarning
        For a penalty that a change of scale lowers at no cost.

    Examples
    --------
    >>> import nmfnet
    >>> model = nmfnet.fit([[1, 0], [0, 1], [1, 1]], n_components=2, loss="kl")
    >>> model.transform([[2, 1]]).shape
    (1, 2)
    """
    from nmfnet.core.penalties import dodged
    from nmfnet.run.memory import hold, in_memory
    from nmfnet.run.train import train

    source = in_memory(
        X,
        mask=mask,
        uncertainty=uncertainty,
        labels=labels,
        graph=graph,
        views=views,
        covariates=covariates,
    )
    if H is not None and model == "nmf":
        settings.setdefault("n_components", len(H))
    if isinstance(settings.get("n_components"), str):
        settings["n_components"] = _auto(settings["n_components"], source.read().shape[1], W, H)
    cfg = _configured(source, run_dir, {"model": model, **settings})
    if cfg.ranks is not None:
        raise UserError("ranks=...: use nmfnet.select_rank(X, ranks=...), which tries several")
    source, given = hold(cfg, source, W=W, H=H)
    result = train(cfg, source, write=run_dir is not None, given=given)
    fitted = result.model
    fitted.notes = result.notes
    if said := dodged(fitted.penalty_list, fitted.factors, fitted.scale_pair()):
        warnings.warn(said, stacklevel=2)
    return fitted


def _auto(word: str, n_features: int, W: Any, H: Any) -> int:
    """``n_components="auto"``."""
    if word != "auto":
        raise UserError(f"n_components={word!r}: give a number, or 'auto'")
    if H is not None:
        return len(H)
    return n_features if W is None else int(np.shape(W)[1])


def _configured(source: Source, run_dir: str | Path | None, settings: dict[str, Any]) -> Config:
    cfg = configuration(plain({"progress": False, **settings}))
    return cfg.but(
        run_dir=None if run_dir is None else str(run_dir),
        choices=cfg.choices | {"data": "memory"},
        data={} if run_dir is None else {"sha256": source.read().fingerprint()},
    )


def project(X: Any, H: Any, *, mask: Any = None, **settings: Any) -> np.ndarray:
    """W >= 0 for given components: ``argmin_W loss(X, W H)``.

    Parameters
    ----------
    X : array-like, DataFrame or sparse matrix, shape (n_samples, n_features)
    H : array-like, shape (n_components, n_features)
    mask : array-like, shape (n_samples, n_features), optional
        Weights >= 0, as for :func:`fit`.
    **settings
        As for :func:`fit`: ``loss="kl"``, ``constraint="simplex_project"``, penalties of W.

    Returns
    -------
    ndarray, shape (n_samples, n_components)

    Raises
    ------
    UserError
        If H has another number of features than X, and as for :func:`fit`.

    Examples
    --------
    >>> import nmfnet
    >>> nmfnet.project([[2.0, 4.0]], [[1.0, 2.0]])
    array([[2.]], dtype=float32)
    """
    fitted = fit(X, "nmf", mask=mask, H=H, **settings)
    W = fitted.factors["W"]()[int(fitted.best)] * fitted.units.code
    return np.asarray(W.detach().cpu().numpy())


def select_rank(
    X: Any,
    ranks: int | str | list[int] = "2:8",
    model: str = "nmf",
    *,
    mask: Any = None,
    run_dir: str | Path | None = None,
    **settings: Any,
) -> Selected:
    """Fit every rank many times to resampled data, and suggest one.

    Parameters
    ----------
    X : array-like, DataFrame or sparse matrix, shape (n_samples, n_features)
        A DataFrame's index and columns become the names.
    ranks : int, str or list of int
        ``"2:8"`` (both ends belong to it), ``"2:20:2"``, ``[2, 3, 5]``.
    model : str
        A choice of the group ``model``.
    mask : array-like of bool, shape (n_samples, n_features), optional
        True = observed.
    run_dir : str or Path, optional
        Write the run folder here, and go on there after an interruption; by default nothing is
        written.
    **settings
        As for :func:`fit`; options of the selection as ``**{"selection.replicates": 50}``.

    Returns
    -------
    Selected
        ``n_components`` (the suggested rank), ``components_``, ``weights``, ``rows`` (one per rank;
        ``pandas.DataFrame(result.rows)``), ``suggestion`` with rule and reason.

    Raises
    ------
    UserError
        For unknown settings, and for data that cannot be used; a finished run in ``run_dir``.

    Examples
    --------
    >>> import nmfnet
    >>> found = nmfnet.select_rank(counts, "2:6", loss="kl")
    >>> found.n_components, found.suggestion.reason
    """
    from nmfnet.data import InMemory
    from nmfnet.selection.run import Selected, select

    source = InMemory(X=X, mask=mask)
    cfg = _configured(source, run_dir, {"model": model, "ranks": ranks, **settings})
    result = select(cfg, source, write=run_dir is not None)
    if not isinstance(result, Selected):
        raise UserError(f"{run_dir} holds the finished run of this already: give force=True")
    return result
