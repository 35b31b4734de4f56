"""Where parts in fixed places fail: python experiments/faces/limits.py.

Writes moved.csv, swimmer.csv and limits.png beside this file.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import nmfnet
from nmfnet import metrics
from nmfnet.data import Swimmer
from nmfnet.plots import save

HERE = Path(__file__).parent
WIDE = 24
"""Width of the canvas in which a digit, 8 x 8 pixels, is moved to and fro."""


def fit(X: np.ndarray, **settings: Any) -> nmfnet.Factorization:
    """A fit without figures."""
    return nmfnet.fit(X, figures=False, threads=1, **settings)


# ---------------------------------------------------------------------- a digit that moves
def canvases(seed: int, *, moved: bool) -> np.ndarray:
    """The first three digits as images (n, 8, WIDE), at one place or anywhere."""
    values, target = load_digits(return_X_y=True)
    images = values[target < 3].reshape(-1, 8, 8) / 16
    rng = np.random.default_rng(seed)
    X = np.zeros((len(images), 8, WIDE))
    for x, image, place in zip(X, images, rng.integers(WIDE - 7, size=len(images)), strict=True):
        at = place if moved else (WIDE - 8) // 2
        x[:, at : at + 8] = image
    return X


def strip(X: np.ndarray) -> np.ndarray:
    """Images side by side as one long image, a row for each column of pixels; 8 blank ones after each."""
    padded = np.pad(X, ((0, 0), (0, 0), (0, 8)))
    return padded.transpose(0, 2, 1).reshape(-1, X.shape[1])


def unstrip(rows: np.ndarray) -> np.ndarray:
    """The images of a strip again."""
    return rows.reshape(-1, WIDE + 8, rows.shape[1])[:, :WIDE].transpose(0, 2, 1)


def nmf(train: np.ndarray, test: np.ndarray, k: int) -> tuple[Any, np.ndarray, int, str]:
    """The fit, held-out images again, numbers in the basis and in a code."""
    flat, flat_test = (part.reshape(len(part), -1) for part in (train, test))
    fitted = fit(flat, model="nmf", n_components=k, max_iter=500)
    return fitted, fitted.reconstruct(flat_test), k * flat.shape[1], str(k)


def nmfd(train: np.ndarray, test: np.ndarray) -> tuple[Any, np.ndarray, int, str]:
    """The same, where a part may lie anywhere along the strip."""
    fitted = fit(strip(train), model="nmfd", n_components=10, max_iter=200, **{"model.taps": 8})
    code = fitted.transform(strip(test)).reshape(len(test), -1)
    large = (code > 0.01 * code.max()).sum(1).mean()
    x_hat = unstrip(fitted.reconstruct(strip(test)))
    return fitted, x_hat, 640, f"{large:.0f} above 1 % of {code.shape[1]}"


def vae(train: np.ndarray, test: np.ndarray) -> tuple[Any, np.ndarray, int, str]:
    """The same by a network."""
    flat, flat_test = (part.reshape(len(part), -1) for part in (train, test))
    network = {"model.hidden": [128], "model.decoder": [128], "loss": "normal"}
    fitted = fit(flat, model="vae", n_components=10, max_iter=600, **network)
    size = sum(p[0].numel() for p in fitted.parameters())
    return fitted, fitted.reconstruct(flat_test), size, "10"


def digits() -> tuple[list[dict], dict[str, np.ndarray], np.ndarray]:
    """Errors of images that were held out; parts of nmf and templates of nmfd where digits move."""
    lines, kept = [], {}
    ways = {f"nmf, {k} parts": partial(nmf, k=k) for k in (10, 40, 100)}
    ways |= {"nmfd, 10 templates of 8 x 8": nmfd, "vae, 10 units": vae}
    for moved in (False, True):
        X = canvases(0, moved=moved)
        train, test = X[:300], X[300:400]
        for name, way in ways.items():
            fitted, x_hat, basis, code = way(train, test)
            lines.append(
                {
                    "data": f"digits, {'moved' if moved else 'in place'}",
                    "model": name,
                    "held-out relative error": metrics.relative_error(
                        test.reshape(len(test), -1), x_hat.reshape(len(test), -1)
                    ),
                    "numbers in basis": basis,
                    "numbers in a code": code,
                    **{key: fitted.metrics[key] for key in ("status", "seconds")},
                }
            )
            print(lines[-1], flush=True)
            kept[name] = next(reversed(list(fitted.factors.values())))()[int(fitted.best)]
    parts = kept["nmf, 10 parts"].detach().numpy().reshape(-1, 8, WIDE)
    templates = kept["nmfd, 10 templates of 8 x 8"].detach().numpy().reshape(10, 8, 8)
    return lines, {"nmf": parts, "nmfd": templates}, test


# ---------------------------------------------------------------------- a limb that turns
def swimmer() -> list[dict]:
    """How well the parts are found, and what of the torso is in the limbs."""
    matrix = Swimmer().read()
    X, H = matrix.values, matrix.truth.H
    torso = H[0] > 0
    lines = []
    for name, settings in {
        "nmf, frobenius": {"model": "nmf"},
        "nmf, kl": {"model": "nmf", "loss": "kl"},
        "nmf, H of sparseness 0.92": {
            **{"model": "nmf", "constraint": "hoyer", "constraint.sparseness": 0.92},
            **{"constraint.W": "project", "max_iter": 400},
        },
        "nsnmf, smoothing 0.5": {"model": "nsnmf", "max_iter": 400},
        "semi_nmf": {"model": "semi_nmf"},
        "pca": {"model": "pca", "n_components": 12},
    }.items():
        own = {"n_components": 17, "n_restarts": 1 if name == "pca" else 3, **settings}
        fitted = fit(X, **own)
        sparse = fitted.factors.get("B")
        found = (
            fitted.components_ if sparse is None else sparse()[int(fitted.best)].detach().numpy()
        )
        pairs = metrics.match_components(np.abs(found), H)
        limbs = np.abs(found)[pairs.rows[pairs.columns > 0]]
        line = {
            "data": "swimmer",
            "model": name,
            "relative error": fitted.metrics["train/relative_error"],
            "cosine with the 17 parts": float(pairs.scores.mean()),
            "torso in the limbs": float((limbs[:, torso].sum(1) / limbs.sum(1)).mean()),
            **{key: fitted.metrics[key] for key in ("status", "seconds")},
        }
        lines.append(line)
        print(line, flush=True)
    return lines


def draw(kept: dict[str, np.ndarray], shown: np.ndarray) -> Figure:
    """Digits that move, what nmf makes of them, and the templates of nmfd."""
    figure = Figure(figsize=(6.4, 2.6), facecolor="white")
    titles = ("six images", "ten parts of nmf", "ten templates of nmfd")
    rows = (shown[:6], kept["nmf"], kept["nmfd"].transpose(0, 2, 1))
    grids = ((6, 1), (5, 2), (2, 5))
    for axes, title, images, (down, across) in zip(
        figure.subplots(1, 3), titles, rows, grids, strict=True
    ):
        tiles = images / images.max((1, 2), keepdims=True)
        tiles = np.pad(tiles, ((0, 0), (1, 1), (1, 1)), constant_values=0.25)
        height, width = tiles.shape[1:]
        whole = tiles.reshape(down, across, height, width).transpose(0, 2, 1, 3)
        axes.imshow(whole.reshape(down * height, across * width), cmap="gray_r")
        axes.set_title(title, fontsize=8, loc="left")
        axes.set_axis_off()
    figure.tight_layout(pad=0.4)
    return figure


def main() -> None:
    """Both, digits first."""
    lines, kept, shown = digits()
    save(draw(kept, shown), HERE / "limits.png")
    pd.DataFrame(lines).to_csv(HERE / "moved.csv", index=False, float_format="%.4g")
    pd.DataFrame(swimmer()).to_csv(HERE / "swimmer.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
