"""Data and factors that are given as arrays, and not by a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np

from nmfnet.config import Config
from nmfnet.data import InMemory, Linked, Referred
from nmfnet.data.sources.source import Source
from nmfnet.errors import UserError


def in_memory(
    X: Any,
    *,
    mask: Any = None,
    uncertainty: Any = None,
    labels: Any = None,
    graph: Any = None,
    views: Mapping[str, Any] | None = None,
    covariates: Any = None,
) -> Source:
    """The source of what :func:`nmfnet.fit` is given."""
    source = InMemory(
        X=X,
        labels=labels,
        mask=mask,
        uncertainty=uncertainty,
        views=views,
        covariates=covariates,
    )
    return source if graph is None else Linked(of=source, links=graph)


def hold(
    cfg: Config, source: Source, *, W: Any = None, H: Any = None
) -> tuple[Source, dict[str, np.ndarray]]:
    """The factors that are given, as tables; the configuration says that they are held.

    For a model that reads known components H goes with the data, to which it is joined by name.

    Raises
    ------
    UserError
        If one is no finite matrix.
    """
    if H is not None and "reference" in cfg.model:
        if cfg.model["reference"] is not None:
            raise UserError("H and model.reference both say the known components: give one")
        overlap = cfg.model.get("overlap", 1.0)
        referred = Referred(of=source, components=H, overlap=overlap)
        cfg.data |= {"H": sha256(_table("H", H).tobytes()).hexdigest()}
        return referred, hold(cfg, source, W=W)[1]
    given = {name: _table(name, value) for name, value in (("W", W), ("H", H)) if value is not None}
    if H is not None and cfg.model.get("n_components", 0) is None:
        cfg.model["n_components"] = len(H)
    if given:
        cfg.data |= {name: sha256(value.tobytes()).hexdigest() for name, value in given.items()}
        if cfg.choices.get("init") != "given":
            cfg.model["frozen"] = list(given)
    return source, given


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
