"""Do intervals of profiles hold the truth, and is a source too many found out? Planted sources.

    python experiments/pmf/pmf.py [FOLDER]

Writes ``pmf.csv`` and ``pmf.png`` into the folder (its own by default). Twenty sets of 80 samples of
three sources, every entry with an error of its own known size u; weights 1/u², 40 draws of the samples.
``series`` has sources that last for about ten samples; ``from the fit`` starts every draw from the
factors of the fit.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np

import nmfnet
from nmfnet.kernels.assignment import assign, cosine_matrix
from nmfnet.metrics import Profiles, drawn_rows, matched_cosine, profiles_of_draws

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SETS, DRAWS, KNOWN, N, F = 20, 40, 3, 80, 15
SETTINGS = {"threads": 1, "dtype": "float64", "figures": False}
HEAD = ("sources", "k", "draws", "set", "q_ratio", "cosine", "held", "width", "found_min", "unmapped",
        "cpu_seconds")  # fmt: skip


def planted(seed: int, series: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X, u and the profiles."""
    rng = np.random.default_rng(seed)
    W, H = rng.gamma(1, 1, (N, KNOWN)), rng.dirichlet(np.full(F, 0.4), KNOWN)
    if series:
        W = np.stack([np.convolve(w, np.ones(10) / 10, "same") for w in W.T], 1) ** 2
    exact = W @ H
    u = 0.05 * exact + rng.choice([0.002, 0.08], size=exact.shape)
    return np.clip(exact + u * rng.standard_normal(exact.shape), 0, None), u, H


def factors(model) -> tuple[np.ndarray, np.ndarray]:
    """W and H of the best restart."""
    W = model.factors["W"]()[int(model.best)].detach().numpy() * model.units.code
    return W, model.components_


def drawn(X: np.ndarray, u: np.ndarray, k: int, how: str, seed: int) -> tuple[object, Profiles]:
    """A fit, and what draws of the samples say of it."""
    base = nmfnet.fit(X, uncertainty=u, n_components=k, n_restarts=4, seed=seed, **SETTINGS)
    W, H = factors(base)

    def fits():
        for number in range(DRAWS):
            rng = np.random.default_rng([seed, number])
            rows = drawn_rows(N, 10 if how == "blocks of 10" else 1, rng)
            start = {"seed": number}
            if how == "from the fit":
                start = {"init": "given", "W": W[rows] + 1e-6 * W.mean(), "H": H + 1e-6 * H.mean()}
            again = nmfnet.fit(X[rows], uncertainty=u[rows], n_components=k, **start, **SETTINGS)
            yield rows, *factors(again)

    return base, profiles_of_draws(W, H, fits())


def main(folder: Path) -> None:
    """Every way of drawing; goes on where it was stopped."""
    table = folder / "pmf.csv"
    before = [*csv.DictReader(table.open())] if table.is_file() else []
    done = {(row["sources"], row["k"], row["draws"], row["set"]) for row in before}
    ways = [("independent", k, "at random") for k in (2, 3, 4, 5)]
    ways += [("independent", k, "from the fit") for k in (3, 4)]
    ways += [("series", 3, "at random"), ("series", 3, "blocks of 10")]
    with table.open("a", newline="") as stream:
        writer = csv.writer(stream)
        if not before:
            writer.writerow(HEAD)
        for sources, k, how in ways:
            for seed in range(SETS):
                if (sources, str(k), how, str(seed)) in done:
                    continue
                X, u, H = planted(seed, sources == "series")
                began = time.process_time()
                base, found = drawn(X, u, k, how, seed)
                spent = time.process_time() - began
                held = width = float("nan")
                if k == KNOWN:
                    at = assign(cosine_matrix(H, found.shares)).columns
                    low, high = found.low[at], found.high[at]
                    held = np.mean((low - 1e-9 <= H) & (high + 1e-9 >= H))
                    width = np.mean(high - low)
                cosine = matched_cosine(base.components_, H)
                numbers = (base.metrics["train/q_ratio"], cosine, held, width, found.found.min(),
                           found.unmapped, spent)  # fmt: skip
                writer.writerow((sources, k, how, seed, *(f"{value:.4g}" for value in numbers)))
                stream.flush()
            print(sources, k, how, flush=True)
    draw(folder)


def draw(folder: Path) -> None:
    """One set with its intervals, and how often the least sure source is found again."""
    X, u, H = planted(1, False)
    found = drawn(X, u, KNOWN, "at random", 1)[1]
    at = assign(cosine_matrix(H, found.shares)).columns
    rows = [*csv.DictReader((folder / "pmf.csv").open())]
    figure, axes = plt.subplots(1, 4, figsize=(12, 2.8), layout="constrained")
    for i, axis in enumerate(axes[:KNOWN]):
        j = at[i]
        axis.vlines(np.arange(F), found.low[j], found.high[j], color="#332288", linewidth=3)
        axis.plot(np.arange(F), H[i], "x", color="#cc6677", markersize=5)
        axis.set_title(f"source {i + 1}", fontsize=9)
        axis.set_xlabel("feature", fontsize=8)
    axes[0].set_ylabel("share (x: planted, bar: 5 to 95 %)", fontsize=8)
    for how, colour, shift in (("at random", "#332288", 0.0), ("from the fit", "#999999", 0.18)):
        for k in (2, 3, 4, 5):
            wanted = {"sources": "independent", "k": str(k), "draws": how}
            least = [float(row["found_min"]) for row in rows if wanted.items() <= row.items()]
            label = f"draws start\n{how}" if k == KNOWN else None
            axes[-1].plot(np.full(len(least), k + shift), least, "o", color=colour, markersize=3,
                          alpha=0.6, label=label)  # fmt: skip
    axes[-1].set_xticks((2, 3, 4, 5))
    axes[-1].set(ylim=(-0.03, 1.05))
    axes[-1].set_xlabel("components (3 sources)", fontsize=8)
    axes[-1].set_ylabel("least sure one is found again", fontsize=8)
    axes[-1].legend(fontsize=6.5, loc="lower left")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7)
    figure.savefig(folder / "pmf.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
