"""A fitted model on disk: tensors and a plain configuration, safe to load without running code."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nmfnet.config import Config, check_stored, constraints_of
from nmfnet.core.budget import Budget
from nmfnet.core.distributed import World
from nmfnet.core.model import Factorization, Parts
from nmfnet.core.penalties import by_factor
from nmfnet.core.reading import Reader
from nmfnet.core.starting import hold_frozen
from nmfnet.core.units import Units
from nmfnet.errors import UserError
from nmfnet.run.figures import Figures, stored
from nmfnet.run.stored import read_table
from nmfnet.settings.objects import build
from nmfnet.solvers.base import Task
from nmfnet.types import Sizes

FORMAT = 1
"""Raised when an older nmfnet could not read what this one writes."""

PARTS = ("loss", "solver", "init", "constraint", "penalty", "model")
"""Groups of the configuration that a model is put together from."""


def assemble(
    cfg: Config,
    sizes: Sizes,
    restarts: range | None = None,
    *,
    masked: bool = False,
    sparse: bool = False,
    axes: Mapping[str, int] | None = None,
    given: Mapping[str, Any] | None = None,
    world: World | None = None,
) -> Factorization:
    """A model and its parts from a plain configuration.

    Parameters
    ----------
    cfg : Config
        Resolved configuration.
    sizes : Sizes
        Of the training matrix.
    restarts : range, optional
        Which restarts to hold; all ``n_restarts`` by default. Restart i has its own random stream,
        which depends on the seed and i only.
    masked, sparse : bool
        Whether entries of the training data are left out or weighted, and whether X is sparse.
    axes : mapping of str to int, optional
        Sizes of what the data have beside samples and features, such as ``class``.
    given : mapping of str to array, optional
        Values of factors to start from.
    world : World, optional
        The processes that the rows are spread over.
    """
    general, single = constraints_of(cfg.constraint)
    restarts = range(cfg.n_restarts) if restarts is None else restarts
    parts = Parts(
        sizes=sizes,
        loss=build(cfg.loss),
        solver=build(cfg.solver),
        init=build(cfg.init),
        constraint=build(general),
        generators=tuple(generator(cfg.seed, i) for i in restarts),
        penalties=tuple(build(node) for node in by_factor(cfg.penalty)),
        budget=Budget(
            max_iter=cfg.max_iter,
            tol=cfg.tol,
            window=cfg.window,
            patience=cfg.patience,
            certificate_tol=cfg.certificate_tol,
            kkt_tol=cfg.kkt_tol,
            time_limit=cfg.time_limit,
        ),
        axes=axes or {},
        constraints={name: build(node) for name, node in single.items()},
        given={name: torch.as_tensor(value) for name, value in (given or {}).items()},
        frozen=tuple(cfg.model.get("frozen", ())),
    )
    own = {key: value for key, value in cfg.model.items() if key != "frozen"}
    model: Factorization = build(own, parts)
    model.world = world or World()
    model.recipe = {
        "format": FORMAT,
        "config": cfg.plain(),
        "masked": masked,
        "sparse": sparse,
        "axes": dict(axes or {}),
    }
    for penalty in model.penalty_list:
        penalty.attach(model.factors)
    hold_frozen(model)
    model.solver = model.solver.chosen(task_of(model))
    model.solver.begin(task_of(model))
    model = model.to(dtype=getattr(torch, cfg.dtype))
    model.solver.attach(model)  # in float64 what must be
    return model


def name_features(model: Factorization, feature_names: Sequence[str]) -> None:
    """Tell a model the names of its columns, in the order in which it reads new rows by them."""
    model.recipe["feature_names"] = list(feature_names)
    know_rows(model)


def know_rows(model: Factorization) -> None:
    """Let a model read users' rows as its training data were read, by what its recipe says of them."""
    from nmfnet.data.formats.memory import rows_like

    model.reader, model.row_reader = reader_of(model.feature_names), rows_like
    if model.recipe.get("covariates") is not None:
        model.covariate_reader = partial(_covariates, model.recipe["covariates"])


def _covariates(plain: list[Any], given: Any, names: Sequence[str] | None, n: int) -> Any:
    from nmfnet.data.formats.covariates import Design, columns_of

    return Design.from_plain(plain).encode(columns_of(given, names, n))


def reader_of(feature_names: Sequence[str] | None) -> Reader:
    """How a model reads new rows: as its training data were read, columns with names in their order."""
    from nmfnet.data.formats.raw import numbered
    from nmfnet.data.sources.simple import new_rows

    known = None if feature_names is None else list(feature_names)
    if known == numbered("feature", len(known or ())):  # nobody gave them
        known = None

    return partial(new_rows, like_names=known)


def task_of(model: Factorization) -> Task:
    """What the solver of a model is asked to do."""
    recipe = model.recipe
    return Task(
        model, recipe["config"]["batch_size"], recipe["masked"], recipe.get("sparse", False)
    )


def generator(seed: int, restart: int) -> torch.Generator:
    """The random stream of one restart: independent across seeds and restarts."""
    import numpy as np

    state = np.random.SeedSequence([seed, restart]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def resumable(folder: Path, model: Factorization) -> Path | None:
    """The checkpoint of an interrupted run of this model on the same data, if there is one.

    Says on standard error which iteration it goes on from, or why it starts again.
    """
    file = folder / "model.ckpt"
    if not file.is_file():
        return None
    recipe: dict[str, Any] = {}
    try:
        recipe = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["nmfnet"]
        reason = "was left inside a step" if recipe["running"] is None else ""
    except Exception:  # torch raises a dozen kinds for a damaged file
        reason = "cannot be read"
    for key, other in (("run_id", "another configuration"), ("data_sha256", "other data")):
        if not reason and recipe.get(key) != model.recipe[key]:
            reason = f"is of {other}"
    if reason:
        print(f"nmfnet: starting again: {file} {reason}", file=sys.stderr, flush=True)
        return None
    print(f"nmfnet: continuing at iteration {recipe['iteration']}", file=sys.stderr, flush=True)
    return file


def load(path: str | Path, *, trust: bool = False) -> Factorization:
    """A fitted model, ready for ``transform``, ``reconstruct`` and ``components_``.

    Parameters
    ----------
    path : str or Path
        A run folder, the folder of a rank selection, or a ``model.ckpt``.
    trust : bool
        Import what the file names. By default its classes must be nmfnet's, or imported already by
        the program that calls: a file from somewhere else cannot run code then.

    Returns
    -------
    Factorization
        With the best restart only. Of a rank selection: NMF with the components and weights that it
        reports for the suggested rank, so that ``transform`` gives the weights of new rows.

    Raises
    ------
    UserError
        If there is no checkpoint, it is not whole, not one of nmfnet's, or a newer nmfnet wrote it;
        for classes that are not trusted.
    """
    file = Path(path).expanduser()
    if (file / "selection.json").is_file():
        return _selected(file, trust)
    file = file / "model.ckpt" if file.is_dir() else file
    if not file.is_file():
        raise UserError(f"{path} holds no model.ckpt: give the folder of a finished run")
    try:
        saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise UserError(f"{file} cannot be read as a checkpoint: {error}") from error
    recipe = saved.get("nmfnet") if isinstance(saved, dict) else None
    if not isinstance(recipe, dict) or not isinstance(recipe.get("format"), int):
        raise UserError(f"{file} is not a checkpoint of nmfnet")
    if recipe["format"] > FORMAT:
        raise UserError(f"{file} was written by a newer nmfnet: upgrade nmfnet to read it")
    with _whole(file):
        check_stored(recipe["config"], PARTS, file, trust=trust)
        model = assemble(
            Config.of(recipe["config"]),
            Sizes(*recipe["sizes"]),
            masked=recipe["masked"],
            sparse=recipe.get("sparse", False),
            axes=recipe.get("axes") or _old_axes(recipe),
        )
        model.load_state_dict(saved["state_dict"])
        model.iteration = recipe["iteration"]
        model.asks_loss = recipe.get("asks_loss", True)
    names = ("feature_names", "component_names", "covariates", "covariate_names")
    kept = (*names, "kind", "image_shape")
    model.recipe |= {key: recipe[key] for key in kept if key in recipe}
    know_rows(model)
    model.units = Units(*recipe.get("units", ()))
    broken = [name for name, value in model.named_parameters() if not value.isfinite().all()]
    if broken:
        raise UserError(f"{file} holds values in {broken[0]} that are no finite numbers")
    model.metrics = _numbers(file.with_name("metrics.json"))
    model.plot = Figures(model, partial(stored, model, file.parent))
    model.eval()
    return model


def _numbers(file: Path) -> dict[str, Any]:
    """The numbers of the run that a checkpoint lies beside; none where it lies alone."""
    try:
        return read_table(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read ({error}): repeat the run, or take the file away"
        ) from error


def _old_axes(recipe: dict[str, Any]) -> dict[str, int]:
    """What the first runs called the number of classes."""
    return {"class": recipe["n_classes"]} if recipe.get("n_classes") else {}


@contextmanager
def _whole(file: Path) -> Iterator[None]:
    """Say that a file is damaged where putting it together fails."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of every kind, by whatever reads or takes what is missing
        line = str(error).strip().splitlines()[:2]
        raise UserError(
            f"{file} is not whole ({type(error).__name__}: {' '.join(line)}): repeat the run"
        ) from error


def _selected(folder: Path, trust: bool) -> Factorization:
    """The suggested rank of a rank selection as an NMF."""
    import numpy as np
    import yaml

    with _whole(folder):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        with np.load(folder / "factors.npz", allow_pickle=False) as arrays:
            W, H = (torch.from_numpy(arrays[name]) for name in ("W", "H"))
            known = [key for key in ("feature_names", "component_names") if key in arrays]
            names = {key: arrays[key].tolist() for key in known}
        if not (W.isfinite().all() and H.isfinite().all()):
            raise UserError(f"{folder}/factors.npz holds values that are no finite numbers")
        if H.min() < 0:
            raise UserError(
                f"The components in {folder} have negative entries, and no non-negative model "
                "holds them: read factors.npz"
            )
        config |= {"model": {"_target_": "nmfnet.models.nmf.NMF", "n_components": len(H)}}
        config |= {"solver": {"_target_": "nmfnet.solvers.auto.Auto"}, "n_restarts": 1}
        config |= {"constraint": {"_target_": "nmfnet.core.constraints.Project"}, "penalty": {}}
        check_stored(config, PARTS, folder / "config.yaml", trust=trust)
        model = assemble(Config.of(config), Sizes(W.shape[0], H.shape[1]))
        model.recipe |= names
        know_rows(model)
        for name, value in (("W", W), ("H", H)):
            model.factors[name].assign_(value.to(model.precision)[None])
    model.metrics = _numbers(folder / "metrics.json")
    model.plot = Figures(model, partial(stored, model, folder))
    model.eval()
    return model
