"""CoNets: can a table of correlations be factorised? SymNMF of their positive part, on vaginal taxa."""

from __future__ import annotations

import numpy as np
from answering import answer, axes

import nmfnet
from nmfnet.data.sources.registry import source

matrix = source("microbiome-ravel").read()
most = np.argsort(-(matrix.values > 0).mean(0))[:25]
logs = np.log(matrix.values[:, most] + 0.5)
logs -= logs.mean(
    1, keepdims=True
)  # centred logarithms: shares themselves correlate by summing to 1


def groups(r: np.ndarray) -> tuple[np.ndarray, float]:
    """The group of every taxon, and how far mean correlations within and between groups lie apart."""
    positive = np.where(np.eye(len(r)) > 0, 0, np.maximum(r, 0))
    fitted = nmfnet.fit(
        positive, "sym_nmf", n_components=6, n_restarts=10, dtype="float64", figures=False
    )
    group = fitted.factors["W"]()[int(fitted.best)].detach().numpy().argmax(1)
    same = (group[:, None] == group) & ~np.eye(len(r), dtype=bool)
    return group, float(r[same].mean() - r[group[:, None] != group].mean())


r = np.corrcoef(logs.T)
group, apart = groups(r)
rng = np.random.default_rng(0)
chance = [groups(np.corrcoef(rng.permuted(logs, axis=0).T))[1] for _ in range(10)]
lost = float((r[np.triu_indices(25, 1)] < 0).mean())

order = np.argsort(group, kind="stable")
figure, (left, right) = axes(2)
left.imshow(r[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1)
left.set_title("25 taxa by group", fontsize=8)
right.hist(chance, color="#999999", label="taxa shuffled")
right.axvline(apart, color="#332288", label="as they are")
right.set_xlabel("correlation within less between groups", fontsize=8)
right.legend(fontsize=7, frameon=False)
answer(
    figure,
    f"Yes for what occurs together: correlations within six groups exceed those between them "
    f"by {apart:.2f} "
    f"({max(chance):.2f} at most in 10 shuffled tables), but {lost:.0%} of the correlations "
    f"are negative, "
    "and a non-negative factorisation throws them away.",
)
