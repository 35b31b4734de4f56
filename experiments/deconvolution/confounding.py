"""Does an association that cell types make vanish when their shares are regressed out? Simulated.

``python experiments/deconvolution/confounding.py [OUT.csv]``

Cases have more of one type than controls. Ten genes are also twice as active in cases; the others differ
between cases and controls only where types do. Every gene is regressed on being a case: alone, with the
shares that the deconvolution finds, and with the true ones.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from scipy.stats import t as student

import nmfnet

CHANGED = 10
"""Genes that are more active in cases."""


def simulated(
    rng: np.random.Generator, n: int = 100, f: int = 400, k: int = 4
) -> tuple[np.ndarray, ...]:
    """Expression, profiles, shares, and who is a case."""
    case = np.arange(n) % 2
    H = rng.gamma(0.7, 100, (k, f)) + 5
    shares = np.stack([rng.dirichlet([4 + 6 * c, *[4] * (k - 1)]) for c in case])
    active = np.ones((n, f))
    active[case == 1, :CHANGED] = 2
    return shares @ H * active * np.exp(0.15 * rng.standard_normal((n, f))), H, shares, case


def p_values(X: np.ndarray, case: np.ndarray, beside: np.ndarray | None = None) -> np.ndarray:
    """Of the coefficient of ``case`` in a regression of every gene, by Student's t."""
    ones = np.ones((len(case), 1))
    design = np.hstack([case[:, None], ones if beside is None else beside])  # shares sum to 1
    inverse = np.linalg.pinv(design)
    b = inverse @ X
    free = len(case) - design.shape[1]
    error = ((X - design @ b) ** 2).sum(0) / free * (inverse @ inverse.T)[0, 0]
    return 2 * student.sf(np.abs(b[0]) / np.sqrt(error), free)


def main(out: Path) -> None:
    """A line for each way, of ten simulations."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(10):
        X, H, shares, case = simulated(np.random.default_rng(seed))
        fitted = nmfnet.fit(
            X, "reference_nmf", H=H, dtype="float64", threads=1, figures=False,
            **{"constraint.W": "simplex_project"},
        )  # fmt: skip
        ways = {
            "case": None,
            "case, shares found": fitted.transform(X),
            "case, true shares": shares,
        }
        for way, beside in ways.items():
            hit = p_values(X, case, beside) < 0.05
            found.setdefault(way, []).append((hit[CHANGED:].mean(), hit[:CHANGED].mean()))
    with out.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["regressed_on", "others_below_05", "changed_below_05"])
        for way, shown in found.items():
            line = [way, *(f"{value:.3f}" for value in np.mean(shown, 0))]
            print(*line)
            rows.writerow(line)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_suffix(".csv")))
