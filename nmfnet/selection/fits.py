"""The fits of a rank selection: what is fitted to what, each kept on disk as soon as it is done."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from nmfnet.config import Config, read_choice
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.source import Held
from nmfnet.data.splits import EntrySplit, only, without
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import as_tensor
from nmfnet.kernels.rows import dense
from nmfnet.metrics import balance_scale
from nmfnet.run.terminal import Beat
from nmfnet.selection.options import Selection
from nmfnet.selection.relevance import fit_relevance
from nmfnet.selection.resampling import capped_shares, resample, thin, with_values
from nmfnet.settings.objects import locate

__all__ = ["AGREEING", "Fit", "Job", "Store", "fit_all", "jobs", "replicate"]

Fit = dict[str, Any]
"""Arrays and numbers of one fit; what is there depends on the kind of job."""

Kind = Literal["restarts", "replicate", "thinning", "entries", "ard", "starts"]
KINDS: tuple[Kind, ...] = ("restarts", "replicate", "thinning", "entries", "ard", "starts")
AGREEING: tuple[Kind, ...] = ("replicate", "starts")
"""Fits whose components are clustered."""


FORMAT = 3
"""Of what a fit holds; changes when the same name comes to mean something else."""


class Job(NamedTuple):
    """One fit: its kind, rank, and which of its kind it is (of starts: how many)."""

    kind: Kind
    n_components: int
    number: int

    @property
    def name(self) -> str:
        """File of its result."""
        return f"K{self.n_components:03d}/{self.kind}_{self.number:03d}.npz"


def jobs(ranks: list[int], plan: Plan, held: list[Kind], relevance: bool) -> list[Job]:
    """All fits, rank by rank, in the order in which they are run; ARD from the largest rank last.

    Replicates that differ in their starts alone are the restarts of one fit.
    """
    options, alike = plan.options, plan.resampled == "none"
    numbers: dict[Kind, Sequence[int]] = {"restarts": range(1)}
    numbers |= (
        {"starts": [options.replicates]} if alike else {"replicate": range(options.replicates)}
    )
    numbers |= dict.fromkeys(held, range(options.folds))
    every = [Job(kind, k, i) for k in ranks for kind in numbers for i in numbers[kind]]
    starts = options.ard if relevance else 0
    return every + [Job("ard", ranks[-1], i) for i in range(starts)]


class Plan(NamedTuple):
    """What every fit needs to know; goes to other processes."""

    cfg: Config
    matrix: Matrix
    options: Selection
    resampled: str
    beta: float | None


# ---------------------------------------------------------------------- one fit
def stream(seed: int, *words: int) -> np.random.Generator:
    """Random numbers of one purpose, independent of those of any other."""
    return np.random.default_rng([seed, *words])


def replicate(plan: Plan, index: int) -> Matrix:
    """The data of one replicate: the same for every rank."""
    rng = stream(plan.cfg.seed, 1, index)
    values = _capped(plan, rng)
    return with_values(
        plan.matrix, resample(values, plan.resampled, rng, plan.options.noise), plan.matrix.mask
    )


def _capped(plan: Plan, rng: np.random.Generator) -> Any:
    if plan.options.hypermutators == "keep":
        return plan.matrix.values
    return thin(plan.matrix.values, capped_shares(plan.matrix), rng)[0]


def fit(plan: Plan, job: Job) -> Fit:
    """Do one job: fit a model, and measure what only the fit can tell."""
    fold = stream(plan.cfg.seed, 2 + KINDS.index(job.kind), job.number)
    if job.kind == "restarts":
        return _restarts(plan, job, fold)
    if job.kind == "ard":
        matrix = with_values(plan.matrix, _capped(plan, shared := _shared(plan)), plan.matrix.mask)
        assert plan.beta is not None
        return fit_relevance(matrix, plan.beta, job.n_components, (shared, fold))
    if job.kind == "replicate":
        trained = _train(plan, job, replicate(plan, job.number))
        return {"H": trained.factors.H.astype(np.float32)[None]} | _numbers(trained)
    if job.kind == "starts":
        trained = _train(plan, job, replicate(plan, 0), job.number)
        share = float(trained.model.converged.double().mean())
        found = {"H": trained.factors.all_H.astype(np.float32)}
        return found | _numbers(trained) | {"converged": share}
    share = plan.options.held_share
    if job.kind == "thinning":
        kept, rest = thin(_capped(plan, fold), 1 - share, fold)
        trained = _train(plan, job, with_values(plan.matrix, kept, plan.matrix.mask))
        seen, odds, within = plan.matrix.mask, share / (1 - share), None
    else:
        split = EntrySplit(fraction=share)
        held = split(plan.matrix, int(fold.integers(2**31))).held_out
        observed = without(plan.matrix.mask, held)
        trained = _train(plan, job, with_values(plan.matrix, plan.matrix.values, observed))
        rest, seen, odds = plan.matrix.values, only(plan.matrix.mask, held), 1.0
        within = ranges_of(rest, observed)
    return {"held_out": _row_losses(trained, rest, seen, odds, within)} | _numbers(trained)


def ranges_of(values: Any, mask: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The least and the largest known value of every feature, each of shape (f,).

    Without bounds where there are no two different ones.
    """
    x = dense(as_tensor(values, torch.float64))
    known = dense(as_tensor(mask, torch.float64)) > 0
    low, high = torch.where(known, x, torch.inf).amin(0), torch.where(known, x, -torch.inf).amax(0)
    varied = low < high
    return torch.where(varied, low, -torch.inf), torch.where(varied, high, torch.inf)


def _shared(plan: Plan) -> np.random.Generator:
    """What all starts of ARD have in common, so that their objectives can be compared."""
    return stream(plan.cfg.seed, 3 + len(KINDS))


def _restarts(plan: Plan, job: Job, fold: np.random.Generator) -> Fit:
    matrix = with_values(plan.matrix, _capped(plan, fold), plan.matrix.mask)
    trained = _train(plan, job, matrix, plan.options.restarts)
    factors, numbers = trained.factors, _numbers(trained)
    for key in ("cophenetic", "dispersion"):
        numbers[key] = trained.metrics.get(f"stability/{key}", float("nan"))
    return {
        "H": factors.H.astype(np.float32),
        "W": factors.W.astype(np.float32),
        "clusters": balance_scale(factors.all_W, factors.all_H)[0]
        .argmax(axis=2)
        .astype(np.int16),  # (restarts, n)
    } | numbers


def from_consensus(plan: Plan, W: np.ndarray, H: np.ndarray) -> np.ndarray | None:
    """Components of a fit to the data that starts from the consensus; None unless X ~ W H freely.

    The noise of the replicates biases their mean; here it decides only which optimum is meant.
    """
    if not getattr(locate(plan.cfg.model["_target_"]), "bilinear", False):
        return None
    job = Job("restarts", len(H), 1)
    matrix = with_values(plan.matrix, _capped(plan, stream(plan.cfg.seed, 0)), plan.matrix.mask)
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.npz"
        np.savez(start, W=W + 1e-6 * W.mean(), H=H + 1e-6 * H.mean())  # zeros would stay
        given = {"_target_": "nmfnet.core.inits.Given", "path": str(start)}
        # one fit, to the end: in float32 a divergence far below sum(X) stops falling too early
        cfg = plan.cfg.but(tol=plan.cfg.tol / 100, dtype="float64", init=given)
        return np.asarray(_train(plan._replace(cfg=cfg), job, matrix, 1).factors.H, np.float64)


def _train(plan: Plan, job: Job, matrix: Matrix, n_restarts: int | None = None) -> Any:
    from nmfnet.run.train import train

    model = {**plan.cfg.model, "n_components": job.n_components}
    words = (plan.cfg.seed, KINDS.index(job.kind), job.n_components, job.number)
    seed = int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)
    whole = read_choice("split", "none")  # whatever is held out of all fits is out of the matrix
    cfg = plan.cfg.but(
        model=model, seed=seed, split=whole, n_restarts=n_restarts or plan.cfg.n_restarts
    )
    return train(cfg, Held(matrix), write=False)


def _numbers(trained: Any) -> Fit:
    return {
        key: float(trained.metrics[key]) for key in ("seconds", "n_iter", "objective", "converged")
    }


def _row_losses(
    trained: Any,
    rest: Any,
    seen: Any,
    odds: float,
    within: tuple[torch.Tensor, torch.Tensor] | None,
) -> np.ndarray:
    """The model's own loss of what it was not shown, sample by sample, shape (n,).

    Nothing is predicted that lies outside of ``within``: where a component is almost one feature, and
    this is held out of a sample, its weight there is anything, and one entry would outweigh all others.
    """
    model = trained.model
    x_hat = torch.as_tensor(odds * model.inverse_transform(trained.factors.W)).double()
    if within is not None:
        x_hat = x_hat.clamp(*within)
    x = dense(as_tensor(rest, torch.float64))
    mask = None if seen is None else dense(as_tensor(seen, torch.float64))
    with torch.no_grad():
        losses = model.loss.cpu()(x, x_hat, mask)
    return losses.numpy().astype(np.float64)


# ---------------------------------------------------------------------- all of them
class Store:
    """Finished fits: files of a folder, or memory.

    Parameters
    ----------
    folder : Path or None
    key : str
        Of configuration and data; a file with another key is not used.
    anew : bool
        Use no file that is there.
    """

    def __init__(self, folder: Path | None, key: str, *, anew: bool = False) -> None:
        self.folder, self.key = folder, key
        self.memory: dict[Job, Fit] = {}
        self.anew = anew

    def read(self, job: Job) -> Fit | None:
        """The fit of a job, if it was done."""
        if job in self.memory or self.folder is None or self.anew:
            return self.memory.get(job)
        try:
            with np.load(self.folder / job.name) as file:
                found = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, KeyError):
            return None
        except Exception as error:  # a damaged zip file has its own class of errors
            if type(error).__name__ not in ("BadZipFile", "error"):
                raise
            return None
        if str(found.pop("key", "")) != self.key:
            return None
        made = {name: float(v) if v.ndim == 0 else v for name, v in found.items()}
        self.memory[job] = made
        return made

    def write(self, job: Job, made: Fit) -> None:
        """Keep a fit."""
        self.memory[job] = made
        if self.folder is None:
            return
        file = self.folder / job.name
        part = file.with_suffix(".part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                np.savez_compressed(stream, key=np.array(self.key), **made)
            part.replace(file)
        except OSError as error:
            raise UserError(f"cannot write to {file}: {error.strerror}") from error


def key_of(plan: Plan) -> str:
    """Names what a fit depends on: not how many there are."""
    options = {k: v for k, v in vars(plan.options).items() if k not in plan.options.of_no_fit}
    words = {k: v for k, v in plan.cfg.plain().items() if k not in ("threads", "device", "choices")}
    model = {k: v for k, v in plan.cfg.model.items() if k != "n_components"}
    text = repr(
        (FORMAT, options, plan.resampled, sorted({**words, "model": model}.items(), key=str))
    )
    return hashlib.sha256((text + plan.matrix.fingerprint()).encode()).hexdigest()[:16]


Say = Callable[[str], None]


def fit_all(plan: Plan, todo: list[Job], store: Store, say: Say, still: Say) -> None:
    """Do every job that is not in the store.

    ``say`` gets a line when a rank is complete, ``still`` one now and then.
    """
    beat = Beat()
    missing = [job for job in todo if store.read(job) is None]
    if found := len(todo) - len(missing):
        say(f"{found} of {len(todo)} fits were done before")
    left = {k: sum(job.n_components == k for job in missing) for k in {j[1] for j in missing}}
    done = len(todo) - len(missing)
    for job, made in _results(plan, missing):
        store.write(job, made)
        done += 1
        left[job.n_components] -= 1
        if not left[job.n_components]:
            say(f"rank {job.n_components} done ({done} of {len(todo)} fits)")
        elif beat.due():
            still(f"{done} of {len(todo)} fits done, the last of rank {job.n_components}")


def _results(plan: Plan, missing: list[Job]) -> Iterator[tuple[Job, Fit]]:
    if plan.options.n_jobs == 1 or len(missing) < 2:
        for job in missing:
            yield job, fit(plan, job)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    context = multiprocessing.get_context("spawn")
    alone = plan._replace(cfg=plan.cfg.but(threads=1))
    with ProcessPoolExecutor(plan.options.n_jobs, context) as pool:
        running = {pool.submit(_fit_alone, alone, job): job for job in missing}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _fit_alone(plan: Plan, job: Job) -> Fit:
    torch.set_num_threads(1)
    return fit(plan, job)
