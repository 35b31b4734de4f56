"""Conditional tables of (dynamic) Bayesian networks: P ~ W H with rows of both that sum to 1."""

from __future__ import annotations

import numpy as np
from answering import answer, axes

import nmfnet

rng = np.random.default_rng(0)


def estimated(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows W and H of a table of counts, and the table that they give."""
    own = {"n_components": 3, "n_restarts": 5, "normalize": "H", "dtype": "float64"}
    fitted = nmfnet.fit(counts, loss="kl", figures=False, **own)
    best = int(fitted.best)
    W, H = (fitted.factors[name]()[best].detach().numpy() for name in "WH")
    assert np.allclose(W.sum(1), counts.sum(1), rtol=1e-4)  # where KL is stationary
    W = W / W.sum(1, keepdims=True)
    return W, H, W @ H


def sampled(P: np.ndarray, times: int) -> np.ndarray:
    """Counts of so many cases in every row."""
    return np.stack([rng.multinomial(times, row) for row in P]).astype(float)


figure, panels = axes(2)
said = []
for axis, (what, rows, columns) in zip(
    panels, (("parents and child", 64, 12), ("step of a chain", 30, 30)), strict=True
):
    W, H = rng.dirichlet(np.full(3, 0.5), rows), rng.dirichlet(np.full(columns, 0.5), 3)
    errors = {"frequencies": [], "W H": []}
    seen = (20, 50, 200, 1000)
    for times in seen:
        counts = sampled(W @ H, times)
        own, shared, table = estimated(counts)
        errors["frequencies"].append(np.linalg.norm(counts / times - W @ H) / np.linalg.norm(W @ H))
        errors["W H"].append(np.linalg.norm(table - W @ H) / np.linalg.norm(W @ H))
    for name, colour in (("frequencies", "#999999"), ("W H", "#332288")):
        axis.loglog(seen, errors[name], "o-", color=colour, label=name, markersize=3)
    axis.set_title(f"{what}: {rows} x {columns}", fontsize=8)
    axis.set_xlabel("cases seen per row", fontsize=8)
    axis.legend(fontsize=7, frameon=False)
    said.append(f"{errors['W H'][0]:.2f} against {errors['frequencies'][0]:.2f}")
true, found = (np.sort(np.abs(np.linalg.eigvals(part)))[::-1] for part in (H @ W, shared @ own))
panels[0].set_ylabel("relative error of the table", fontsize=8)
answer(
    figure,
    f"Yes: with 20 cases per row the relative error of W H is {said[0]} of raw frequencies for a table "
    f"of parents, and {said[1]} for a dynamic network; its 3 hidden states have eigenvalues of size "
    f"{', '.join(f'{v:.2f}' for v in found)} (true {', '.join(f'{v:.2f}' for v in true)}).",
)
