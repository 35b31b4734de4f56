"""Published factors and recovered splits of Egendal et al. 2025 (J Comput Biol 32:461).

Three cohorts, three methods, 30 runs each; a run trained on a random 80 % of the patients. The
files hold features x components; here, as everywhere, components are rows (k, 96) and patients
are rows.

What the loader mends:

- ``Uterus/cvx_23_sig.csv`` and ``Uterus/AEFPabs_02_sigs.csv`` are runs 23 and 20 under wrong names.
- The exposures of the NMF runs are in another component order than their signatures (89 of 90
  runs). The order is found again by refitting the data (``align_exposures``).
- The files carry no names. Rows are the channels of the gel-sbs catalogues in their order; the
  patients of a run were recovered from the factors (``recovered_splits.npz``: row numbers in the
  order of the exposures).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.kernels.assignment import assign, cosine_matrix

__all__ = [
    "COHORTS",
    "METHODS",
    "N_RUNS",
    "Catalogue",
    "PublishedRun",
    "align_exposures",
    "load_catalogue",
    "load_components",
    "load_run",
    "load_split",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

COHORTS = {"Ovary": 4, "Prostate": 5, "Uterus": 8}
"""Cohort and its number of components."""

METHODS = {"nmf": "nmf", "autoencoder": "AEFPabs", "convex_nmf": "cvx"}
"""Our model names and the prefixes of the published files."""

N_RUNS = 30

_MISNAMED = {
    "Uterus/cvx_23_sigs.csv": "Uterus/cvx_23_sig.csv",
    "Uterus/AEFPabs_20_sigs.csv": "Uterus/AEFPabs_02_sigs.csv",
}


class Catalogue(NamedTuple):
    """Mutation counts of one cohort.

    Attributes
    ----------
    x : ndarray, shape (n, 96)
        Counts, patients in rows.
    sample_names : list of str, length n
        Patients.
    feature_names : list of str, length 96
        Channels, ``A[C>A]A`` form, as in the file (substitution first).
    """

    x: FloatArray
    sample_names: list[str]
    feature_names: list[str]


class PublishedRun(NamedTuple):
    """One published run.

    Attributes
    ----------
    H : ndarray, shape (k, 96)
        Signatures; rows sum to 1.
    W : ndarray, shape (n_train, k)
        Exposures, mutations; row i belongs to patient ``train[i]``.
    train, test : ndarray of int
        Row numbers of the cohort's catalogue; disjoint, together all patients.
    """

    H: FloatArray
    W: FloatArray
    train: IntArray
    test: IntArray


def load_catalogue(folder: str | Path, cohort: str) -> Catalogue:
    """Counts of a cohort from the gel-sbs folder (``catalogues_COHORT_SBS.tsv``).

    Raises
    ------
    UserError
        Unknown cohort, or the file is not there.
    """
    path = _existing(Path(folder) / f"catalogues_{_cohort(cohort)}_SBS.tsv")
    lines = [line.rstrip("\n").split("\t") for line in path.read_text().splitlines()]
    counts = np.array([line[1:] for line in lines[1:]], dtype=np.float64)
    names = lines[0][-counts.shape[1] :]
    return Catalogue(np.ascontiguousarray(counts.T), names, [line[0] for line in lines[1:]])


def load_components(folder: str | Path, cohort: str, method: str) -> FloatArray:
    """Signatures of all 30 runs of a method, shape (30, k, 96), rows sum to 1."""
    return np.stack([_table(folder, cohort, method, run, "sigs").T for run in range(N_RUNS)])


def load_split(
    folder: str | Path, cohort: str, run: int, n_samples: int
) -> tuple[IntArray, IntArray]:
    """Patients of a run: (train, test) row numbers; train in the order of the exposures."""
    with np.load(_existing(Path(folder) / "recovered_splits.npz")) as splits:
        train = splits[f"{_cohort(cohort)}_{_run(run)}"].astype(np.intp)
    return train, np.setdiff1d(np.arange(n_samples), train)


def load_run(
    folder: str | Path, cohort: str, method: str, run: int, x: npt.ArrayLike
) -> PublishedRun:
    """One published run with its patients, signatures and exposures in one component order.

    Parameters
    ----------
    folder : path
        The egendal-2024 folder (``generated_data/`` and ``recovered_splits.npz``).
    cohort : {"Ovary", "Prostate", "Uterus"}
        Its number of components is ``COHORTS[cohort]``.
    method : {"nmf", "autoencoder", "convex_nmf"}
        Our name of the model.
    run : int
        0..29.
    x : array, shape (n, 96)
        Counts of the whole cohort, from ``load_catalogue``: needed to find the order of the
        exposures.

    Returns
    -------
    PublishedRun

    Raises
    ------
    UserError
        Unknown cohort, method or run; a missing file; counts of another cohort.
    """
    counts = np.asarray(x, dtype=np.float64)
    H = _table(folder, cohort, method, run, "sigs").T
    W = _table(folder, cohort, method, run, "exp").T
    train, test = load_split(folder, cohort, run, len(counts))
    if counts.shape[1:] != H.shape[1:] or len(train) != len(W) or train.max() >= len(counts):
        raise UserError(
            f"x has shape {counts.shape}; {cohort} run {run} has {H.shape[1]} channels and "
            f"patients up to row {train.max()}. Give the catalogue of {cohort}."
        )
    if method == "nmf":
        W = align_exposures(counts[train], W, H)
    return PublishedRun(H, W, train, test)


def align_exposures(x: npt.ArrayLike, W: npt.ArrayLike, H: npt.ArrayLike) -> FloatArray:
    """Reorder the columns of W so that they belong to the rows of H.

    Parameters
    ----------
    x : array, shape (n, f)
        Data that ``W H`` approximates once the order is right.
    W : array, shape (n, k)
        Exposures, columns in any order.
    H : array, shape (k, f)
        Signatures.

    Returns
    -------
    ndarray, shape (n, k)
        W with its columns matched (cosine, one to one) to the exposures that NNLS gives for H.
    """
    from scipy.optimize import nnls

    basis = np.ascontiguousarray(np.asarray(H, np.float64).T)
    refit = np.array([nnls(basis, row)[0] for row in np.asarray(x, np.float64)])
    given = np.asarray(W, np.float64)
    return given[:, assign(cosine_matrix(refit.T, given.T)).columns]


def _table(folder: str | Path, cohort: str, method: str, run: int, what: str) -> FloatArray:
    """A published csv without its header row and index column."""
    if method not in METHODS:
        raise UserError(f"There is no published method {method!r}; there are {', '.join(METHODS)}.")
    name = f"{_cohort(cohort)}/{METHODS[method]}_{_run(run)}_{what}.csv"
    path = _existing(Path(folder) / "generated_data" / _MISNAMED.get(name, name))
    return np.loadtxt(path, delimiter=",", skiprows=1)[:, 1:]


def _cohort(cohort: str) -> str:
    if cohort not in COHORTS:
        raise UserError(f"There is no published cohort {cohort!r}; there are {', '.join(COHORTS)}.")
    return cohort


def _run(run: int) -> int:
    if not 0 <= run < N_RUNS:
        raise UserError(f"There is no published run {run}; runs are 0 to {N_RUNS - 1}.")
    return run


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(
            f"{path} is not there. Give the folder that holds it (egendal-2024 or gel-sbs in the "
            "data folder)."
        )
    return path
