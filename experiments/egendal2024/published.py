"""Tables from the published factors: ``NMFNET_DATA=... python experiments/egendal2024/published.py``.

Writes ``published/*.csv``: errors of all 270 runs on the recovered splits, consistency over 435
pairs of runs (and the statistics of the published figure), paired differences, reference cosines.
"""

from __future__ import annotations

import numpy as np
from common import (
    HERE,
    MODELS,
    catalogue,
    consistency_differences,
    consistency_rows,
    data_folder,
    error_differences,
    error_rows,
    reference_rows,
    scores,
    write_csv,
)

from nmfnet import metrics
from nmfnet.data.sources import egendal


def main() -> None:
    """Everything, in about a minute."""
    out = HERE / "published"
    out.mkdir(exist_ok=True)
    folder = data_folder() / "egendal-2024"
    runs, table = {}, []
    for cohort in egendal.COHORTS:
        counts = catalogue(cohort)
        for model in MODELS:
            runs[cohort, model] = egendal.load_components(folder, cohort, model)
            for i in range(egendal.N_RUNS):
                run = egendal.load_run(folder, cohort, model, i, counts.x)
                found = scores(counts.x[run.train], counts.x[run.test], run.W, run.H)
                table.append({"cohort": cohort, "run": i, "model": model, **found})
    write_csv(out / "runs.csv", table)
    write_csv(out / "errors.csv", error_rows(table))
    parts = ("train_mse", "test_mse")
    write_csv(out / "error_ratios.csv", [r for p in parts for r in error_differences(table, p)])
    rows = consistency_rows(runs)
    for row in rows:
        pairs = metrics.pairwise_matched_cosine(runs[row["cohort"], row["model"]])
        twice = metrics.legacy_dup15(pairs)
        row |= {"figure_mean": float(twice.mean()), "figure_median": float(np.median(twice))}
        row |= {"first15_mean": float(metrics.pair_values(pairs[:15, :15]).mean())}
    write_csv(out / "consistency.csv", rows)
    write_csv(out / "consistency_differences.csv", consistency_differences(runs))
    write_csv(out / "reference.csv", reference_rows(runs, catalogue("Ovary").feature_names))


if __name__ == "__main__":
    main()
