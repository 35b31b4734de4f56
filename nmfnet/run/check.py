"""Whether a model keeps what every model promises, on the small data that it brings (``example``).

A promise is a function of a :class:`Case`: it returns nothing, or a sentence that says what was seen and
what to do. ``asked`` says why a promise is not asked of a model, where it is not.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from nmfnet import metrics
from nmfnet.config import Config
from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.core.inference import penalties_on
from nmfnet.core.model import Factorization
from nmfnet.core.objective import factor_sums, misfit, moves_values
from nmfnet.core.starting import initialise
from nmfnet.data import NoSplit
from nmfnet.data.batches import to_numpy
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.known import Known
from nmfnet.errors import UserError
from nmfnet.run.checkpoint import assemble, load, task_of
from nmfnet.run.loop import make_steppable
from nmfnet.run.memory import hold, in_memory
from nmfnet.run.train import Result, train
from nmfnet.settings.objects import locate
from nmfnet.solvers.base import total
from nmfnet.solvers.choice import check_solver
from nmfnet.types import Batch, Tensor

CLOSE = 1e-6
"""Relative difference of what must be the same, in float64."""

AS_GOOD = 1e-3
"""By how much the loss of inferred codes may be above that of the training codes."""

TAKEN = ("X", "mask", "labels", "graph", "views", "covariates", "W", "H")
"""What an example may hold."""

NEVER_NEW = ("labels", "W", "H")
"""What ``fit`` takes and ``transform`` does not."""

FEW = 5
"""Rows that are inferred together and one by one."""


class Case:
    """A model as configured, with its own data; what several promises look at is made once.

    Parameters
    ----------
    cfg : Config
        Checked configuration, as of :func:`nmfnet.settings.words.configuration`.
    folder : Path
        For a run folder.
    seed : int
        Of the example.
    """

    def __init__(self, cfg: Config, folder: Path, seed: int = 0) -> None:
        self.cfg, self.folder, self.seed = cfg, folder, seed

    @property
    def kind(self) -> Any:
        """The class of the model."""
        return locate(self.cfg.model["_target_"])

    @cached_property
    def example(self) -> dict[str, Any]:
        """Keywords of ``nmfnet.fit``."""
        made: dict[str, Any] = self.kind.example(self.kind, np.random.default_rng(self.seed))
        return made

    @property
    def new(self) -> dict[str, Any]:
        """The example as ``transform`` takes it: training rows as new ones with links to all of them."""
        found = {key: value for key, value in self.example.items() if key not in NEVER_NEW}
        if self.fitted.reads_links:
            found["links"] = found.pop("graph")
        elif "graph" in found and not self.fitted.reads_graph:
            del found["graph"]
        return found

    def configured(self, example: Mapping[str, Any], **settings: Any) -> tuple[Config, Any, Any]:
        """Configuration, source and given factors of a fit to an example."""
        choices = {**self.cfg.choices, "data": "memory"}
        factors = {key: example[key] for key in ("W", "H") if key in example}
        source = in_memory(**{k: v for k, v in example.items() if k not in factors})
        data, model = {"sha256": source.read().fingerprint()}, dict(self.cfg.model)
        cfg = self.cfg.but(**{"choices": choices, "data": data, "model": model, **settings})
        return cfg, *hold(cfg, source, **factors)

    def fit(self, example: Mapping[str, Any] | None = None, **settings: Any) -> Result:
        """A fit to the example, or to another, with some root keys changed."""
        cfg, source, given = self.configured(example or self.example, **settings)
        return train(cfg, source, write=cfg.run_dir is not None, given=given)

    def started(
        self, restarts: range, example: Mapping[str, Any] | None = None
    ) -> tuple[Factorization, Batch]:
        """A model at its start, whose solver can be stepped, and the batch of all rows."""
        cfg, source, given = self.configured(example or self.example, n_restarts=len(restarts))
        dtype = getattr(torch, cfg.dtype)
        data = MatrixDataModule(
            source,
            NoSplit(),
            dtype=dtype,
            seed=cfg.seed,
            device=torch.device("cpu"),
            known=Known.of(cfg.model),
        )
        data.setup()
        model = assemble(
            cfg,
            data.sizes,
            restarts,
            masked=data.train.masked,
            sparse=data.train.x.is_sparse_csr,
            axes=data.axes,
            given=given,
        )
        check_solver(model.solver, task_of(model))
        initialise(model, data.train)
        make_steppable(model)
        return model, data.train

    @cached_property
    def beginning(self) -> tuple[Factorization, Batch]:
        """Two restarts at their start."""
        return self.started(range(2))

    @cached_property
    def batch(self) -> Batch:
        """All rows of the example."""
        return self.beginning[1]

    @cached_property
    def result(self) -> Result:
        """Two restarts, until they settle or for ``max_iter`` iterations, with a run folder."""
        return self.fit(n_restarts=2, run_dir=str(self.folder / "run"))

    @property
    def fitted(self) -> Factorization:
        """The model of ``result``."""
        return self.result.model

    @cached_property
    def again(self) -> np.ndarray:
        """The codes of the training rows as new ones."""
        return self.fitted.transform(**self.new)

    @property
    def code(self) -> np.ndarray:
        """The training codes of the best restart."""
        assert self.result.factors is not None
        return self.result.factors.W


class Promise(NamedTuple):
    """One thing that every model promises.

    Attributes
    ----------
    words : str
    kept : callable
        Nothing where it is kept, else a sentence.
    asked : callable, optional
        Why it is not asked of this model, or nothing.
    first : bool
        Whether nothing else can be asked of a model that breaks it.
    """

    words: str
    kept: Callable[[Case], str | None]
    asked: Callable[[Case], str | None] = lambda case: None
    first: bool = False


@dataclass
class Finding:
    """What became of a promise: ``ok``, ``FAILED`` with what was seen, ``not asked`` with the reason."""

    words: str
    state: Literal["ok", "FAILED", "not asked"]
    seen: str = ""


# ---------------------------------------------------------------------- it runs
def has_example(case: Case) -> str | None:
    """``example(rng)`` gives keywords of ``nmfnet.fit``."""
    example = case.example
    if not isinstance(example, dict) or "X" not in example:
        return 'example(rng) gives no dictionary with "X": return {"X": array, ...}'
    if unknown := [key for key in example if key not in TAKEN]:
        return f"example(rng) gives {unknown[0]!r}, but fit takes {', '.join(TAKEN)}"
    return None


def builds(case: Case) -> str | None:
    """The model is put together, takes the example, and starts."""
    model, batch = case.beginning
    if not model.factors:
        return "no factor was declared: assign self.factor(...) to attributes in __init__"
    with torch.no_grad():
        x_hat = model.outputs(model.law(batch).mean, batch)["x"].mean
    wanted = (model.n_restarts, *batch.x.shape)
    if not model.learns_graph and tuple(x_hat.shape) != wanted:
        return f"decode gives the shape {tuple(x_hat.shape)}, but X_hat of 2 restarts is {wanted}"
    return None


def steps(case: Case) -> str | None:
    """The solver that is chosen by default takes a step."""
    model, batch = case.started(range(2))
    found = total(model.solver.step(model, batch, 1, [0, 1]))
    if not bool(torch.isfinite(found).all()):
        return (
            f"after one iteration of solver={model.solver.name} the objective is {found.tolist()}"
        )
    return None


def names_axes(case: Case) -> str | None:
    """Rows and columns of every factor have names."""
    for name, factor in case.beginning[0].factors.items():
        if not all(factor.axes):
            sizes = " x ".join(map(str, factor.raw.shape[1:]))
            return (
                f"the factor {name} ({sizes}) has an axis without a name, so penalties and files cannot "
                f'use it: declare it with names, as self.factor("{name}", "component", "feature")'
            )
    return None


def is_finite(case: Case) -> str | None:
    """The objective of every restart is a number."""
    values = case.fitted.objectives
    return None if bool(torch.isfinite(values).all()) else f"the objectives are {values.tolist()}"


def is_feasible(case: Case) -> str | None:
    """Every factor is in the set of its constraint."""
    for name, factor in case.fitted.factors.items():
        value = factor().detach()
        if not bool(value.isfinite().all()) or not factor.constraint.contains(value):
            wrong = float(factor.constraint.violation(value))
            kind = type(factor.constraint).__name__
            return f"{name} violates its constraint ({kind}) by {wrong:.3g}: set it with assign_(value)"
    return None


def never_rises(case: Case) -> str | None:
    """No step of a monotone solver ends above the one before."""
    model, batch = case.started(range(2))
    before = None
    for i in range(10):
        now = total(model.solver.step(model, batch, 2, [0, 1]))
        if before is not None and bool((now > before + CLOSE * before.abs()).any()):
            rise = float(((now - before) / before.abs()).max())
            return (
                f"in step {i + 1} of solver={model.solver.name} the objective rose by {rise:.2g} of its "
                "value: are all terms in the objective, and is what the solver asks the model "
                "(sums, ridge, solve) right?"
            )
        before = now
    return None


def no_monotone_solver(case: Case) -> str | None:
    """Not asked of solvers whose steps may rise."""
    solver = case.beginning[0].solver
    if not solver.monotone:
        return f"solver={solver.name} may rise"
    several = len(case.fitted.stages()) > 1
    return (
        "it has several objectives, of which one may rise while another falls" if several else None
    )


# ---------------------------------------------------------------------- what is fitted is what is used
def transform_is_code(case: Case) -> str | None:
    """``transform(X_train)`` is the training code, or no worse where codes are inferred."""
    model, code = case.fitted, case.code
    again = case.again
    if again.shape != code.shape:
        return f"transform(X_train) has shape {again.shape}, the training code {code.shape}"
    if model.inductive:
        if (gap := _gap(again, code)) > CLOSE:
            return (
                f"transform(X_train) differs from the training code by {gap:.2g} of it: encode must be a "
                "function of the row and the parameters alone (or inductive=False)"
            )
        return None
    trained, found = (_cost(case, W) for W in (code, again))
    if not found <= trained + AS_GOOD * abs(trained) + 1e-9:
        return (
            f"transform(X_train) costs {found:.5g}, the training code {trained:.5g}: infer does not "
            "minimise the model's own objective (leave it out, or make it use this decoder)"
        )
    return None


def meets_itself(case: Case) -> str | None:
    """Not asked where a row counts as another one than its own twin in the training."""
    twins = case.fitted.reads_links and not case.fitted.inductive
    return "as a new node, a training node is not linked with itself" if twins else None


def reconstructs(case: Case) -> str | None:
    """``reconstruct(X_train)`` is as near to X as the training reconstruction."""
    model, batch = case.fitted, case.batch
    trained = case.result.metrics["train/relative_error"]
    mask = None if batch.mask is None else to_numpy(batch.mask)
    x_hat = model.reconstruct(**case.new)
    found = metrics.relative_error(to_numpy(batch.x), x_hat, mask)
    far = abs(found - trained) if model.inductive else found - trained
    if not far <= 0.02 * trained + 1e-3:
        return (
            f"reconstruct(X_train) has the relative error {found:.4g}, training ended at {trained:.4g}: "
            "infer and decode do not belong together"
        )
    return None


def explains_graph(case: Case) -> str | None:
    """Not asked of models of links."""
    measured = "train/relative_error" in case.result.metrics
    return None if measured else "it explains links, not X"


def reports_its_loss(case: Case) -> str | None:
    """``train/loss`` is what is minimised, penalties left out."""
    model = case.fitted
    with torch.no_grad(), model.restarts(int(model.best)):
        terms = model.terms(case.batch)
    wanted = float(terms["data"] if model.asks_loss else total(terms))
    found = case.result.metrics["train/loss"]
    if not abs(found - wanted) <= CLOSE * max(abs(wanted), 1e-9):
        name = "the data term of the objective" if model.asks_loss else "the objective"
        return (
            f"train/loss is {found:.6g}, but {name} is {wanted:.6g}: outputs or terms leave something "
            "out"
        )
    return None


def no_data_term(case: Case) -> str | None:
    """Not asked where a sum of terms is no loss of the training codes."""
    model = case.fitted
    with torch.no_grad(), model.restarts(int(model.best)):
        noisy, named = bool(model.law(case.batch).noise), "data" in model.terms(case.batch)
    if noisy:
        return "it is judged by drawn codes"
    return None if named or not model.asks_loss else "its objective has no term called data"


def says_its_code(case: Case) -> str | None:
    """Codes are what ``code`` says."""
    model, code = case.fitted, case.again
    if not np.isfinite(code).all():
        return "transform gives NaN or infinite codes"
    if model.code != "real" and code.min() < 0:
        return f"a code is {code.min():.3g}, but code={model.code!r}: set code='real', or make them >= 0"
    if model.code == "simplex" and (off := np.abs(code.sum(1) - 1).max()) > 1e-5:
        return (
            f"codes sum to 1 within {off:.2g}, but code='simplex': constrain them, or say otherwise"
        )
    return None


def has_its_shapes(case: Case) -> str | None:
    """A row of codes per sample, and a component per unit of the code."""
    model, code = case.fitted, case.again
    rows, features = case.batch.x.shape
    if code.ndim != 2 or len(code) != rows:
        return f"transform gives the shape {code.shape} for {rows} rows"
    if not model.has_components:
        return None
    wanted, found = (code.shape[1], features), model.components_.shape
    if found != wanted:
        return (
            f"components_ has shape {found}, but codes and X ask for {wanted}: return that from "
            "components(), or set has_components=False"
        )
    return None


# ---------------------------------------------------------------------- the same again
def survives_a_file(case: Case) -> str | None:
    """What is saved and loaded gives the same numbers."""
    model = case.fitted
    loaded = load(case.folder / "run")
    for name, factor in model.factors.items():
        if not torch.equal(factor()[int(model.best)], loaded.factors[name]()[int(loaded.best)]):
            return f"the factor {name} is another after loading"
    if not np.array_equal(case.again, loaded.transform(**case.new)):
        return (
            "transform is another after loading: keep what it needs in factors, or in buffers "
            "(self.register_buffer) of a size that __init__ knows"
        )
    scored = case.new.keys() <= {"X", "mask", "covariates"}
    if scored and model.score(**case.new) != loaded.score(**case.new):
        return "score is another after loading: keep what it needs in factors or buffers"
    if model.has_components and not np.array_equal(model.components_, loaded.components_):
        return "components_ are others after loading: keep what they need in factors or buffers"
    return None


def is_reproducible(case: Case) -> str | None:
    """The same seed gives the same bits."""
    one, two = (case.fit(n_restarts=2, max_iter=15).model for _ in range(2))
    for name, factor in one.factors.items():
        if not torch.equal(factor(), two.factors[name]()):
            return (
                f"two fits with the same seed give another {name}: draw from self.generators, "
                "self.uniform or self.noise only"
            )
    return None


def restarts_are_runs(case: Case) -> str | None:
    """Restart i of many is the run that has that restart alone."""
    together, batch = case.started(range(3))
    together.solver.step(together, batch, 12, [0, 1, 2])
    for i in range(3):
        alone, _ = case.started(range(i, i + 1))
        alone.solver.step(alone, batch, 12, [0])
        for name, factor in alone.factors.items():
            gap = _gap(factor().detach()[0], together.factors[name]().detach()[i])
            if gap > CLOSE:
                return (
                    f"{name} of restart {i} differs by {gap:.2g} when it runs alone: sums over the "
                    "restart axis (the first), or randomness not from self.generators"
                )
    return None


def rows_stand_alone(case: Case) -> str | None:
    """The code of a row does not depend on the rows beside it."""
    together = case.fitted.transform(**_some(case.new, slice(0, FEW)))
    for i in range(len(together)):
        alone = case.fitted.transform(**_some(case.new, slice(i, i + 1)))[0]
        if (gap := _gap(alone, together[i], unit=together)) > 1e-5:
            return (
                f"the code of row {i} differs by {gap:.2g} when the row is alone: encode or infer reads "
                "other rows (set rows_independent=False if the model means to)"
            )
    return None


def rows_belong_together(case: Case) -> str | None:
    """Not asked where rows are inferred together."""
    if any(penalty.between_rows for penalty in case.fitted.penalty_list):
        return "its penalty compares rows"
    return None if case.fitted.rows_independent else "rows_independent=False: rows lean on others"


def ignores_the_masked(case: Case) -> str | None:
    """What stands under a mask changes nothing, and a mask changes the objective."""
    masked = [_masked(case.example, fill) for fill in (np.nanmin, np.nanmax)]
    one, two = (case.fit(example, n_restarts=1, max_iter=10).model for example in masked)
    for name, factor in one.factors.items():
        if not torch.equal(factor(), two.factors[name]()):
            return (
                f"values under a mask change {name}: use batch.x and batch.mask as they are given"
            )
    model, batch = case.started(range(1), masked[0])
    with torch.no_grad():
        seen, blind = (total(model.terms(b)) for b in (batch, batch._replace(mask=None)))
    if bool((seen == blind).all()):
        return "the objective is the same with and without the mask: weigh its terms by batch.mask"
    return None


def takes_no_mask(case: Case) -> str | None:
    """Not asked where the model or the solver refuses a mask."""
    if case.beginning[0].learns_graph:
        return "it explains links, not X"
    try:
        case.started(range(1), _masked(case.example, np.nanmin))
    except UserError as error:
        return str(error)
    return None


def sums_are_right(case: Case) -> str | None:
    """The model's own ``sums`` say the same descent as its decoder."""
    model, batch = case.started(range(2))
    model.solver.step(model, batch, 2, [0, 1])
    for name in model.moved():
        neg, pos = factor_sums(model, name, batch)
        fine_neg, fine_pos = factor_sums(model, name, batch, fused=False)
        gap = _gap(pos - neg, fine_pos - fine_neg, unit=fine_pos + fine_neg.abs())
        if gap > CLOSE:
            return (
                f"sums({name!r}) is off by {gap:.2g} of what decode(encode(X)) gives: mend it, or leave "
                "it out (the sums are then derived by autograd)"
            )
    return None


def has_no_sums(case: Case) -> str | None:
    """Not asked where there are none, or none are used."""
    model = case.beginning[0]
    if not model.overrides("sums"):
        return "it has no sums of its own"
    if model.overrides("terms"):
        return "its objective is not that of its decoder alone"
    if model.loss.beta is None or not moves_values(model, NON_NEGATIVE):
        return "multiplicative updates are not for it as configured"
    return None


PROMISES = (
    Promise("it brings small data of its kind", has_example, first=True),
    Promise("it builds, and starts on these data", builds, first=True),
    Promise("the default solver takes a step", steps, first=True),
    Promise("every axis of a factor has a name", names_axes),
    Promise("the objective is finite", is_finite, first=True),
    Promise("every factor is feasible", is_feasible),
    Promise("the objective never rises", never_rises, no_monotone_solver),
    Promise("transform(X_train) is the training code", transform_is_code, meets_itself),
    Promise("reconstruct(X_train) is the training fit", reconstructs, explains_graph),
    Promise("train/loss is the loss that was minimised", reports_its_loss, no_data_term),
    Promise("codes are what code= says", says_its_code),
    Promise("codes and components have their shapes", has_its_shapes),
    Promise("saved and loaded, it is the same", survives_a_file),
    Promise("the same seed gives the same bits", is_reproducible),
    Promise("restart i of many is the run alone", restarts_are_runs),
    Promise("new rows do not depend on each other", rows_stand_alone, rows_belong_together),
    Promise("masked entries are ignored", ignores_the_masked, takes_no_mask),
    Promise("its own sums are those of its decoder", sums_are_right, has_no_sums),
)
"""In the order in which they are tried."""


# ---------------------------------------------------------------------- all of them
def check(cfg: Config, asked: Mapping[str, Any]) -> Iterator[Finding]:
    """Try every promise on the model of a configuration.

    Parameters
    ----------
    cfg : Config
        As of :func:`nmfnet.settings.words.configuration`.
    asked : mapping
        The settings it was made of: what is in there is left as it is; else fits are in float64, of a
        thousand iterations at most and, where a model has ``n_components``, of 3 (as the default
        example).
    """
    with tempfile.TemporaryDirectory() as folder:
        case = Case(small(cfg, asked), Path(folder))
        broken = False
        for promise in PROMISES:
            if broken:
                yield Finding(promise.words, "not asked", "not reached")
                continue
            found = tried(promise, case)
            broken = promise.first and found.state == "FAILED"
            yield found


def small(cfg: Config, asked: Mapping[str, Any]) -> Config:
    """The configuration of fits that take a moment."""
    usual = {"dtype": "float64", "max_iter": 1000, "device": "cpu", "threads": 1}
    usual |= {"run_dir": None, "logger": {}}
    free = {key: value for key, value in usual.items() if key not in asked}
    made = cfg.but(**free, figures=False, progress=False, model=dict(cfg.model))
    chosen = {key.removeprefix("model.") for key in asked}
    if "n_components" in made.model and "n_components" not in chosen:
        made.model["n_components"] = 3
    return made


def tried(promise: Promise, case: Case) -> Finding:
    """Whether a promise is kept; an exception of the model's is a promise broken."""
    try:
        if (reason := promise.asked(case)) is not None:
            return Finding(promise.words, "not asked", reason)
        fault = promise.kept(case)
    except UserError as error:
        fault = str(error)
    except Exception as error:  # whatever a model raises
        fault = f"{type(error).__name__}: {error} ({_place(error)})"
    return Finding(promise.words, "ok" if fault is None else "FAILED", fault or "")


def _place(error: Exception) -> str:
    """The last line of somebody else's code that an exception came through, or the last of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = str(Path(__file__).parent.parent)
    theirs = [
        f for f in frames if not f.filename.startswith(own) and "site-packages" not in f.filename
    ]
    frame = (theirs or list(frames))[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


# ---------------------------------------------------------------------- tools
def _gap(found: Any, wanted: Any, unit: Any = None) -> float:
    """Largest difference, relative to the largest entry of ``unit`` (``wanted``)."""
    one, other, scale = (
        torch.as_tensor(value).double()
        for value in (found, wanted, wanted if unit is None else unit)
    )
    if not one.numel():
        return 0.0
    gap = float((one - other).abs().max() / scale.abs().max().clamp_min(1e-300))
    return gap if gap == gap else float("inf")


def _cost(case: Case, code: np.ndarray) -> float:
    """What codes of the training rows cost: the misfit, and the penalties of codes."""
    model = case.fitted
    tables = model.code_factors()
    with torch.no_grad(), model.restarts(int(model.best)):
        held = torch.from_numpy(np.ascontiguousarray(code))
        value = float(misfit(model, case.batch, held))
        widths = [factor.raw.shape[-1] for factor in tables.values()]
        parts: dict[str, Tensor] = (
            dict(zip(tables, held.split(widths, -1), strict=True)) if tables else {}
        )
        return value + sum(float(p(parts[p.on])) for p in penalties_on(model, tables, case.batch))


def _some(new: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Some rows of what ``transform`` takes."""
    return {
        key: {name: view[rows] for name, view in value.items()} if key == "views" else value[rows]
        for key, value in new.items()
        if value is not None
    }


def _masked(example: Mapping[str, Any], fill: Callable[[np.ndarray], float]) -> dict[str, Any]:
    """The example with a fifth of X left out, and other values there (in pairs, if X is symmetric)."""
    X = _whole(example["X"])
    hidden = np.random.default_rng(1).random(X.shape) < 0.2
    at = np.arange(max(X.shape))
    hidden[at % X.shape[0], at % X.shape[1]] = False
    if X.shape[0] == X.shape[1] and np.array_equal(X, X.T):
        hidden |= hidden.T
    before = example.get("mask")
    weights = np.ones(X.shape) if before is None else _whole(before)
    return {**example, "X": np.where(hidden, fill(X), X), "mask": np.where(hidden, 0.0, weights)}


def _whole(table: Any) -> np.ndarray:
    """A table of an example with all of its entries; those that a list has not are 0."""
    return np.asarray(table.toarray() if hasattr(table, "tocsr") else table, dtype=float)
