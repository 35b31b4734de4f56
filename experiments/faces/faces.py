"""Parts, prototypes or eigenfaces: python experiments/faces/faces.py [orl-faces] [cbcl-faces].

Writes faces.csv and a picture for each data set beside this file. The data sets must be there
(``nmfnet data get NAME``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import nmfnet
from nmfnet import metrics
from nmfnet.data.sources.registry import source
from nmfnet.plots import save

HERE = Path(__file__).parent
COMPONENTS = {"orl-faces": 25, "cbcl-faces": 49}
MODELS: dict[str, dict[str, Any]] = {
    "nmf, frobenius": {"model": "nmf"},
    "nmf, kl": {"model": "nmf", "loss": "kl"},
    "nmf, H of sparseness 0.75": {"model": "nmf", "constraint.H": "hoyer", "max_iter": 400},
    "nsnmf, smoothing 0.5": {"model": "nsnmf", "max_iter": 400},
    "semi_nmf": {"model": "semi_nmf"},
    "convex_nmf": {"model": "convex_nmf", "max_iter": 400},
    "separable_nmf (spa)": {"model": "separable_nmf"},
    "svd": {"model": "svd"},
    "pca": {"model": "pca"},
    "ica": {"model": "ica", "n_restarts": 3},
}
DRAWN = ("nmf, kl", "nmf, H of sparseness 0.75", "kmeans (scikit-learn)", "pca", "ica")


def numbers(name: str, X: np.ndarray, H: np.ndarray, W: np.ndarray, X_hat: np.ndarray) -> dict:
    """A line of the table, by the same formulas for all."""
    return {
        "model": name,
        "relative error": metrics.relative_error(X, X_hat),
        "sparseness of basis": float(metrics.hoyer_sparsity(H).mean()),
        "sparseness of codes": float(metrics.hoyer_sparsity(W, axis=0).mean()),
        "negative in basis": float((H < 0).mean()),
    }


def run(data: str) -> tuple[list[dict], dict[str, tuple[np.ndarray, ...]], tuple[int, int]]:
    """Lines of the table, and H, W and X_hat of every model."""
    matrix = source(data).read()
    X, k = matrix.values, COMPONENTS[data]
    lines, kept = [], {}
    for name, settings in MODELS.items():
        fitted = nmfnet.fit(X, n_components=k, figures=False, threads=1, **settings)
        sparse = fitted.factors.get("B")  # what nsNMF calls its parts
        H = fitted.components_ if sparse is None else sparse()[int(fitted.best)].detach().numpy()
        kept[name] = H, fitted.transform(X), fitted.reconstruct(X)
        how = {key: fitted.metrics[key] for key in ("status", "n_iter", "seconds")}
        lines.append({"data": data, **numbers(name, X, *kept[name]), **how})
        print(lines[-1], flush=True)
    from sklearn.cluster import KMeans

    name = "kmeans (scikit-learn)"
    found = KMeans(k, n_init=10, random_state=0).fit(X)
    H, W = found.cluster_centers_.clip(0), np.eye(k)[found.labels_]  # -1e-17 is 0
    kept[name] = H, W, W @ H
    lines.append({"data": data, **numbers(name, X, *kept[name])})
    return lines, kept, matrix.image_shape


def draw(kept: dict[str, tuple[np.ndarray, ...]], shape: tuple[int, int], X: np.ndarray) -> Figure:
    """Basis x code = face, a row for each model, all of the same face."""
    face = int(np.argsort([np.linalg.norm(x - X.mean(0)) for x in X])[len(X) // 2])
    side = int(np.sqrt(len(next(iter(kept.values()))[0])))
    figure = Figure(figsize=(3.5, 1.3 * len(DRAWN)), facecolor="white")
    rows = figure.subplots(len(DRAWN), 4, width_ratios=(2.2, 1, 1, 1), squeeze=False)
    for axes, name in zip(rows, DRAWN, strict=True):
        H, W, X_hat = kept[name]
        largest = np.abs(H).max(1)
        tiles = (H / largest[:, None]).reshape(side, side, *shape)
        tiles = np.pad(tiles, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        basis = tiles.transpose(0, 2, 1, 3).reshape(side * (shape[0] + 2), -1)
        code = (W[face] * largest).reshape(side, side)
        signed = bool(H.min() < 0 or W.min() < 0)
        bound = float(np.abs(code).max())
        colours = "RdBu_r" if signed else "gray_r"
        grey = "gray_r" if np.mean(0.1 * X.max() >= X) > 0.25 else "gray"
        pictures = (
            (basis, colours, -1 if signed else 0, 1, name),
            (code, colours, -bound if signed else 0, bound, "x code"),
            (
                X_hat[face].reshape(shape),
                grey,
                X.min(),
                X.max(),
                "= sum" + " + mean" * (name in ("pca", "ica")),
            ),
            (X[face].reshape(shape), grey, X.min(), X.max(), "original"),
        )
        for one, (values, cmap, low, high, title) in zip(axes, pictures, strict=True):
            one.imshow(values, cmap=cmap, vmin=low, vmax=high)
            one.set_title(title, fontsize=5, loc="left")
            one.set_axis_off()
    figure.tight_layout(pad=0.4)
    return figure


def main() -> None:
    """Run the data sets that are named, by default both."""
    lines: list[dict] = []
    for data in sys.argv[1:] or COMPONENTS:
        found, kept, shape = run(data)
        lines += found
        save(draw(kept, shape, source(data).read().values), HERE / f"{data}.png")
    table = pd.DataFrame(lines)
    if (file := HERE / "faces.csv").exists():
        before = pd.read_csv(file)
        table = pd.concat([before[~before["data"].isin(table["data"])], table])
    table.to_csv(file, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
