"""Growth of microbes: the Lotka-Volterra law out of the codes of a factorisation."""

from __future__ import annotations

import numpy as np
from answering import answer, axes

import nmfnet
from nmfnet.metrics import match_components

DT, STEPS = 0.2, 40


def simulated(rng: np.random.Generator, starts: int) -> tuple[np.ndarray, ...]:
    """Growth rates, interactions, trajectories of three communities, and counts of 40 taxa."""
    r = np.array([0.8, 0.5, 0.3])
    A = -np.diag([1.0, 0.8, 0.6]) + rng.uniform(-0.3, 0.3, (3, 3)) * (1 - np.eye(3))
    H = rng.dirichlet(np.full(40, 0.3), 3)
    h = [rng.uniform(0.05, 1.5, (starts, 3))]
    for _ in range(STEPS):
        h.append(h[-1] * np.exp(DT * (r + h[-1] @ A.T)))
    h = np.stack(h, 1)  # starts, times, communities
    return r, A, h, H, rng.poisson(1000 * h @ H).astype(float)


def law(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R and A by ridge regression of the logarithmic growth of one step."""
    now, growth = h[:, :-1].reshape(-1, 3), np.diff(np.log(h + 1e-3), axis=1).reshape(-1, 3) / DT
    Z = np.column_stack([np.ones(len(now)), now])
    found = np.linalg.solve(Z.T @ Z + 1e-2 * np.eye(4), Z.T @ growth)
    return found[0], found[1:].T


off, right, known, pairs = ~np.eye(3, dtype=bool), [], [], []
for seed in range(8):
    r, A, h, H, X = simulated(np.random.default_rng(seed), starts=1)
    fitted = nmfnet.fit(
        X.reshape(-1, 40), loss="kl", n_components=3, n_restarts=5, figures=False, dtype="float64"
    )
    match = match_components(fitted.components_, H)
    W = fitted.transform(X.reshape(-1, 40)) * fitted.components_.sum(1) / 1000
    codes = W[:, match.rows[np.argsort(match.columns)]].reshape(h.shape)
    for source, signs in ((codes, right), (h, known)):
        found = law(source)[1]
        signs.append((np.sign(found) == np.sign(A))[off].mean())
    pairs += list(zip(A[off], law(codes)[1][off], strict=True))

figure, axis = axes(1)
axis.plot(*np.array(pairs).T, "o", color="#332288", markersize=3)
axis.axhline(0, color="#999999", linewidth=0.6)
axis.axvline(0, color="#999999", linewidth=0.6)
axis.set(ylim=(-3, 3))
axis.set_xlabel("true interaction", fontsize=8)
axis.set_ylabel("from the codes of one time series", fontsize=8)
answer(
    figure,
    f"No, not from codes of one time series: {np.mean(right):.0%} of the signs of interactions "
    f"are right in "
    f"8 simulations ({np.mean(known):.0%} where the true weights are known without noise).",
)
