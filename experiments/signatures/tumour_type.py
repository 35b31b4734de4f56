"""Exposures as features for the tumour type: ``python tumour_type.py RUN [RANK ...]``.

RUN is a rank selection with the ranks to score, or any run, whose weights are taken as they are.
Balanced random forest, 5-fold cross-validation, types with fewer than 10 samples left out: the
protocol of Pancotti et al. 2024 as far as it is described. Prints a csv table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, matthews_corrcoef
from sklearn.model_selection import StratifiedKFold


def main() -> None:
    """Mean and standard deviation over folds, for every rank asked for."""
    folder, ranks = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]]
    with np.load(folder / ("ranks.npz" if ranks else "factors.npz")) as arrays:
        names = [str(name) for name in arrays["sample_names"]]
        weights = {k: arrays[f"W_{k}"] for k in ranks} or {arrays["W"].shape[1]: arrays["W"]}
    types = np.array([name.split("::")[0] for name in names])
    labels, counts = np.unique(types, return_counts=True)
    keep = np.isin(types, labels[counts >= 10])
    print("n_components,types,samples,mcc,mcc_sd,kappa,kappa_sd,balanced,balanced_sd")
    for k, W in weights.items():
        scores = np.array(list(folds(W[keep], types[keep])))
        pairs = zip(scores.mean(axis=0), scores.std(axis=0), strict=True)
        cells = [f"{mean:.3f},{sd:.3f}" for mean, sd in pairs]
        print(f"{k},{len(set(types[keep]))},{int(keep.sum())},{','.join(cells)}", flush=True)


def folds(W: np.ndarray, types: np.ndarray) -> Iterator[tuple[float, float, float]]:
    """Matthews correlation, Cohen's kappa and balanced accuracy of each fold."""
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(W, types):
        forest = RandomForestClassifier(300, class_weight="balanced", random_state=0)
        found = forest.fit(W[train], types[train]).predict(W[test])
        true = types[test]
        yield (
            matthews_corrcoef(true, found),
            cohen_kappa_score(true, found),
            balanced_accuracy_score(true, found),
        )


if __name__ == "__main__":
    main()
