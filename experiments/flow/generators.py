"""Rows that generators draw, beside held-out rows: a normal law, a flow, an autoencoder, a GAN.

python experiments/flow/generators.py [OUT.csv]
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flow import Halves
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.preprocessing import StandardScaler

from nmfnet.core.model import Factorization
from nmfnet.metrics import energy_distance, mode_coverage
from nmfnet.run.train import train as run
from nmfnet.settings.words import configuration

CENTRES = 2 * np.column_stack([f(np.pi / 4 * np.arange(8)) for f in (np.cos, np.sin)])
"""Of the eight modes of the ring."""

RADIUS = 0.25
"""How near a mode a row is good: five of its standard deviations."""

DRAWN = 2000


def ring() -> np.ndarray:
    """Eight normal laws on a circle of radius 2, with a standard deviation of 0.05."""
    rng = np.random.default_rng(0)
    return CENTRES[rng.integers(8, size=2000)] + 0.05 * rng.normal(size=(2000, 2))


def normal(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """One normal law."""
    rng = np.random.default_rng(0)
    return rng.multivariate_normal(train.mean(0), np.cov(train.T), size=DRAWN)


def training_rows(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """What no generator is asked to beat: the rows of the training half."""
    return train


def flow(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """`model=flow` with its defaults."""
    return fitted(train, test, model="flow", max_iter=1000).sample(DRAWN)


def spline_flow(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """`model=flow model.coupling=spline`."""
    return fitted(train, test, model="flow", coupling="spline", max_iter=1000).sample(DRAWN)


def vae(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """`model=vae loss=normal`, five dimensions at most: the mean of a code, and the noise of X."""
    k = min(5, train.shape[1])
    model = fitted(train, test, model="vae", loss="normal", n_components=k, max_iter=1000)
    rng = np.random.default_rng(0)
    means = model.inverse_transform(rng.normal(size=(DRAWN, k)))
    spread = (train - model.reconstruct(train)).std(0)
    return means + spread * rng.normal(size=means.shape)


def gan(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """`model=gan` with its defaults, for 1500 iterations."""
    return fitted(train, test, model="gan", max_iter=1500).sample(DRAWN)


def fitted(train: np.ndarray, test: np.ndarray, **settings: object) -> Factorization:
    """A model of the training rows."""
    words = {"split": "predefined", "threads": 1, "progress": False, **settings}
    return run(configuration(words), Halves(train, test), write=False).model


SETS: dict[str, Callable[[], np.ndarray]] = {
    "ring": ring,
    "wine": lambda: load_wine().data,
    "breast cancer": lambda: load_breast_cancer().data,
}


def main() -> None:
    """A row for every data set and way."""
    lines = []
    for name, load in SETS.items():
        X = np.random.default_rng(0).permutation(load())
        half = len(X) // 2
        scaler = StandardScaler().fit(X[:half])
        train, test = scaler.transform(X[:half]), scaler.transform(X[half:])
        for way in (training_rows, normal, flow, spline_flow, vae, gan):
            began = time.process_time()
            drawn = way(train, test)
            line = {
                "data": name, "way": way.__name__.replace("_", " "),
                "energy distance": round(energy_distance(drawn, test), 4),
                "CPU s": round(time.process_time() - began, 1), "modes": "", "share": "",
            }  # fmt: skip
            if name == "ring":
                found = mode_coverage(scaler.inverse_transform(drawn), CENTRES, RADIUS)
                line |= {"modes": found.modes, "share": round(found.share, 3)}
            lines.append(line)
            print(*line.values(), sep="\t", flush=True)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "generators.csv"
    with target.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, lines[0])
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    main()
