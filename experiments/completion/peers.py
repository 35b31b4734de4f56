"""Surprise and implicit on the splits of ``completion.py``, in an environment of their own.

    pip install scikit-surprise==1.1.5 implicit==0.7.3 pandas
    python peers.py SPLITS_FOLDER

Options are those of their documentation; nothing is chosen. Writes ``peers.csv`` beside this file.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

HERE = Path(__file__).parent


def surprise_sides(known: sp.csr_matrix, held: sp.csr_matrix, seed: int) -> list[dict[str, object]]:
    """Errors of Surprise's algorithms, clipped to the scale of the ratings by Surprise."""
    from surprise import NMF, SVD, BaselineOnly, Dataset, Reader

    coo, wanted = known.tocoo(), held.tocoo()
    frame = pd.DataFrame({"user": coo.row, "item": coo.col, "rating": coo.data})
    train = Dataset.load_from_df(frame, Reader(rating_scale=(0.5, 5))).build_full_trainset()
    lines = []
    for name, algorithm in (
        ("Surprise BaselineOnly", BaselineOnly(verbose=False)),
        ("Surprise NMF", NMF(random_state=seed)),
        ("Surprise SVD", SVD(random_state=seed)),
    ):
        began = time.process_time()
        algorithm.fit(train)
        seconds = time.process_time() - began
        said = [algorithm.predict(u, i).est for u, i in zip(wanted.row, wanted.col, strict=True)]
        wrong = np.array(said) - wanted.data
        lines.append(
            {
                "task": "ratings",
                "side": name,
                "seed": seed,
                "rmse": np.sqrt(np.mean(wrong**2)),
                "mae": np.abs(wrong).mean(),
                "cpu_seconds": seconds,
            }
        )
    return lines


def implicit_side(known: sp.csr_matrix, held: sp.csr_matrix, seed: int) -> list[dict[str, object]]:
    """NDCG at 10 of implicit's ALS, by its own measure, over all films but the known ones."""
    from implicit.als import AlternatingLeastSquares
    from implicit.evaluation import ranking_metrics_at_k

    lines = []
    for l2, alpha in ((0.05, 1.0), (10.0, 10.0)):
        began = time.process_time()
        model = AlternatingLeastSquares(
            factors=32, regularization=l2, alpha=alpha, random_state=seed, num_threads=1
        )
        model.fit(known.astype(np.float32), show_progress=False)
        seconds = time.process_time() - began
        found = ranking_metrics_at_k(
            model, known, held.astype(np.float32), K=10, show_progress=False, num_threads=1
        )
        lines.append(
            {
                "task": "choices",
                "side": f"implicit ALS, l2={l2:g} alpha={alpha:g}",
                "seed": seed,
                "ndcg@10": found["ndcg"],
                "cpu_seconds": seconds,
            }
        )
    return lines


def main() -> None:
    """Every side on every seed."""
    folder, lines = Path(sys.argv[1]), []
    for seed in range(3):
        tables = {
            (task, part): sp.load_npz(folder / f"{task}-{seed}-{part}.npz")
            for task in ("ratings", "choices")
            for part in ("known", "held")
        }
        lines += surprise_sides(tables["ratings", "known"], tables["ratings", "held"], seed)
        lines += implicit_side(tables["choices", "known"], tables["choices", "held"], seed)
    table = pd.DataFrame(lines)
    table.to_csv(HERE / "peers.csv", index=False, float_format="%.4f")
    print(table.groupby("side")[["rmse", "mae", "ndcg@10", "cpu_seconds"]].mean().round(4))


if __name__ == "__main__":
    main()
