"""Log-likelihood of held-out rows: normal laws, a flow, and a variational autoencoder's bound.

python experiments/flow/flow.py [OUT.csv]
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_wine, make_moons
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from nmfnet.data import Matrix, Source
from nmfnet.run.train import train as run
from nmfnet.settings.words import configuration

Scores = tuple[float, str]


@dataclass
class Halves(Source):
    """Rows to train on, and rows to score."""

    first: np.ndarray
    second: np.ndarray

    def read(self) -> Matrix:
        X = np.concatenate([self.first, self.second])
        names = [f"row {i}" for i in range(len(X))], [f"column {j}" for j in range(X.shape[1])]
        return Matrix(X, *names, predefined_test=np.arange(len(self.first), len(X)))


def normal(train: np.ndarray, test: np.ndarray) -> Scores:
    """One normal law."""
    law = stats.multivariate_normal(train.mean(0), np.cov(train.T), allow_singular=True)
    return float(law.logpdf(test).mean()), "exact"


def mixture(train: np.ndarray, test: np.ndarray) -> Scores:
    """Eight of them."""
    found = GaussianMixture(8, random_state=0, reg_covar=1e-3, n_init=3).fit(train)
    return float(found.score(test)), "exact"


def flow(train: np.ndarray, test: np.ndarray) -> Scores:
    """`model=flow` with its defaults."""
    return by_model(train, test, "flow", "test/log_likelihood"), "exact"


def spline_flow(train: np.ndarray, test: np.ndarray) -> Scores:
    """`model=flow model.coupling=spline`."""
    return by_model(train, test, "flow", "test/log_likelihood", coupling="spline"), "exact"


def autoencoder(train: np.ndarray, test: np.ndarray) -> Scores:
    """`model=vae loss=normal`, five dimensions at most."""
    k = min(5, train.shape[1])
    settings = {"loss": "normal", "n_components": k, "importance": 100}
    return by_model(train, test, "vae", "test/iw_bound", **settings), "bound of 100 draws"


def by_model(
    train: np.ndarray, test: np.ndarray, model: str, key: str, **settings: object
) -> float:
    """A number of a run that holds exactly the test rows out."""
    words = {
        "model": model,
        "split": "predefined",
        "max_iter": 2000,
        "threads": 1,
        "progress": False,
    }
    return float(
        run(configuration({**words, **settings}), Halves(train, test), write=False).metrics[key]
    )


SETS: dict[str, Callable[[], np.ndarray]] = {
    "moons": lambda: make_moons(2000, noise=0.05, random_state=0)[0],
    "wine": lambda: load_wine().data,
    "breast cancer": lambda: load_breast_cancer().data,
}


def main() -> None:
    """A row for every data set and way."""
    rows = []
    for name, load in SETS.items():
        X = np.random.default_rng(0).permutation(load())
        half = len(X) // 2
        scaler = StandardScaler().fit(X[:half])
        train, test = scaler.transform(X[:half]), scaler.transform(X[half:])
        for way in (normal, mixture, flow, spline_flow, autoencoder):
            began = time.process_time()
            nats, kind = way(train, test)
            spent = time.process_time() - began
            rows.append(
                {"data": name, "way": way.__name__, "nats per row": round(nats, 2), "is": kind,
                 "CPU s": round(spent, 1)}
            )  # fmt: skip
            print(*rows[-1].values(), sep="\t")
    with Path(sys.argv[1] if len(sys.argv) > 1 else "flow.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
