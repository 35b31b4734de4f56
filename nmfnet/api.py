"""nmfnet from Python: :func:`fit` for one matrix, without the command line."""

from __future__ import annotations

import difflib
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfnet.config import Plain, check_config, conf_dir, did_you_mean, options
from nmfnet.errors import UserError

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization
    from nmfnet.selection.run import Selected


def fit(
    X: Any,
    model: str = "nmf",
    *,
    mask: Any = None,
    labels: Any = None,
    W: Any = None,
    H: Any = None,
    run_dir: str | Path | None = None,
    **settings: Any,
) -> Factorization:
    """Fit a model to an array, by the same code and defaults as the command line.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor or sparse matrix, shape (n_samples, n_features)
        A DataFrame's index and columns become the names.
    model : str
        A choice of the group ``model``.
    mask : array-like, shape (n_samples, n_features), optional
        Weights >= 0: 1 or True = observed, 0 = missing, 1/u² = known to within u.
    labels : array-like, shape (n_samples,), optional
        Class of each row, for figures and scores.
    W : array-like, shape (n_samples, n_components), optional
    H : array-like, shape (n_components, n_features), optional
        Values of these factors, which are held while the others are fitted; with ``init="given"`` they
        are a start instead.
    run_dir : str or Path, optional
        Write the run folder here; by default nothing is written.
    **settings
        Root keys (``n_restarts=10``, ``seed=1``, ``tol=1e-6``), choices of groups (``loss="kl"``,
        ``solver="adam"``), options of the model (``n_components=5``), or any dotted key as
        ``**{"solver.extrapolation": False}``.

    Returns
    -------
    Factorization
        Fitted: ``transform``, ``inverse_transform``, ``reconstruct``, ``components_``; the best of
        the restarts. ``model.metrics`` holds the numbers of ``metrics.json``.

    Raises
    ------
    UserError
        For unknown settings ("did you mean"), and for data that the loss or model cannot take.

    Examples
    --------
    >>> import nmfnet
    >>> model = nmfnet.fit([[1, 0], [0, 1], [1, 1]], n_components=2, loss="kl")
    >>> model.transform([[2, 1]]).shape
    (1, 2)
    """
    from nmfnet.data import InMemory
    from nmfnet.run.train import train

    source = InMemory(X=X, labels=labels, mask=mask)
    if H is not None and model == "nmf":
        settings.setdefault("n_components", len(H))
    cfg = configuration({"model": model, "progress": False, **settings})
    cfg["run_dir"] = None if run_dir is None else str(run_dir)
    cfg["choices"]["data"] = "memory"
    cfg["data"] = {"sha256": source.read().fingerprint()}
    if cfg["ranks"] is not None:
        raise UserError("ranks=...: use nmfnet.select_rank(X, ranks=...), which tries several")
    if H is not None and cfg["model"].get("n_components", 0) is None:
        cfg["model"]["n_components"] = len(H)
    given = {name: _table(name, value) for name, value in (("W", W), ("H", H)) if value is not None}
    if given:
        cfg["data"] |= {name: sha256(value.tobytes()).hexdigest() for name, value in given.items()}
        if cfg["choices"].get("init") != "given":
            cfg["model"]["frozen"] = list(given)
    result = train(cfg, source, write=run_dir is not None, given=given)
    result.model.metrics = result.metrics
    return result.model


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
    return np.asarray(fitted.factors["W"]()[int(fitted.best)].detach().cpu().numpy())


def _table(name: str, value: Any) -> np.ndarray:
    """A factor that was given, as finite numbers in two dimensions."""
    try:
        table = np.ascontiguousarray(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be a matrix of numbers: {error}") from error
    if table.ndim != 2 or not table.size:
        raise UserError(f"{name} has shape {table.shape}, but it must be a matrix, not empty")
    if not np.isfinite(table).all():
        raise UserError(f"{name} has NaN or infinite entries")
    return table


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
    cfg = configuration({"model": model, "progress": False, "ranks": ranks, **settings})
    cfg["run_dir"] = None if run_dir is None else str(run_dir)
    cfg["choices"]["data"] = "memory"
    cfg["data"] = {"sha256": source.read().fingerprint()}
    result = select(cfg, source, write=run_dir is not None)
    if not isinstance(result, Selected):
        raise UserError(f"{run_dir} holds the finished run of this already: give force=True")
    return result


def configuration(settings: dict[str, Any]) -> Plain:
    """The checked configuration that a set of keywords means.

    A keyword is a root key, a choice of a group, an option of the model, or a dotted key.

    Raises
    ------
    UserError
        For a keyword that is none of these.
    """
    groups = {folder.name for folder in conf_dir().iterdir() if folder.is_dir()}
    chosen = {key: value for key, value in settings.items() if key in groups}
    for group, choice in chosen.items():
        known = options(group)
        for word in choice if isinstance(choice, list | tuple) else [choice]:
            if word not in known:
                hint = did_you_mean(str(word), known)
                raise UserError(
                    f"{group}={word!r}: no such choice{hint} (it has {', '.join(known)})"
                )
    cfg = _composed(tuple(sorted((k, _words(v)) for k, v in chosen.items())))
    for key, value in settings.items():
        if key not in groups:
            _set(cfg, key, value)
    check_config(cfg)
    return cfg


def _words(choice: Any) -> str:
    return f"[{','.join(choice)}]" if isinstance(choice, list | tuple) else str(choice)


def _composed(choices: tuple[tuple[str, str], ...]) -> Plain:
    import copy

    return copy.deepcopy(_compose(choices))


@lru_cache(maxsize=64)
def _compose(choices: tuple[tuple[str, str], ...]) -> Plain:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf, open_dict

    from nmfnet.cli import to_plain

    outer = GlobalHydra.instance().hydra  # a Hydra application may be calling
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            words = [f"{key}={value}" for key, value in choices]
            cfg = compose("train", words, return_hydra_config=True)
        made = OmegaConf.to_container(cfg.hydra.runtime.choices)
        with open_dict(cfg):
            del cfg["hydra"]
        return to_plain(cfg, made)
    finally:
        GlobalHydra.instance().hydra = outer


def _set(cfg: Plain, key: str, value: Any) -> None:
    """Put one keyword where it belongs: a dotted key, a root key, or an option of the model."""
    *path, last = key.split(".")
    if not path and key not in cfg:
        if key not in cfg["model"]:
            known = [*cfg, *cfg["model"]]
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{key}: no such setting{hint}")
        path = ["model"]
    node = cfg
    for step in path:
        node = node.get(step) if isinstance(node, dict) else None  # type: ignore[assignment]
        if not isinstance(node, dict):
            raise UserError(f"{key}: no such setting (there is no group {step!r})")
    node[last] = list(value) if isinstance(value, tuple) else value
