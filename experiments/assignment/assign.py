"""Which known signatures a genome has: ``experiment=assign`` beside SigProfilerAssignment.

    python assign.py prepare FOLDER     # catalogues and signatures for both
    python peer.py FOLDER               # in an environment with SigProfilerAssignment
    python assign.py measure FOLDER     # ours, scores of both: assignment.csv, assignment.png

Synthetic genomes of many types of tumours with known exposures, every tenth, drawn anew with Poisson
noise: with all their mutations and with a tenth of them; the signatures to choose from are the 21 that
are there, or all 67.
"""

from __future__ import annotations

import csv
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

import nmfnet
from nmfnet.data.sources.registry import source

HERE = Path(__file__).parent
SHARES = {"all": 1.0, "tenth": 0.1}
KNOWN = ("true", "reference")
OURS = {
    "ebic, SBS1 and SBS5 free": {"rule": "ebic", "loss": "kl", "always": ["SBS1", "SBS5"]},
    "ebic": {"rule": "ebic", "loss": "kl"},
    "stepwise": {"rule": "stepwise"},
    "optimum": {},
    "optimum, KL": {"loss": "kl"},
}
"""The first is `experiment=assign`; SigProfilerAssignment takes SBS1 and SBS5 for present, too."""
LEAST = 0.01
"""Share of a genome's mutations from which on an optimum is taken to have a signature."""


def truth() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Exposures, the signatures that are there, and all there are."""
    matrix = source("sbs-syn-many-types").read()
    assert matrix.truth is not None
    every = source("sbs-reference-2020").read()
    some = slice(None, None, 10)
    W = pd.DataFrame(matrix.truth.W[some], matrix.sample_names[some], matrix.truth.names)
    H = pd.DataFrame(matrix.truth.H, matrix.truth.names, matrix.feature_names)
    R = pd.DataFrame(np.asarray(every.values), every.sample_names, every.feature_names)
    return W, H, R[H.columns]


def catalogues() -> dict[tuple[str, str], tuple[pd.DataFrame, pd.DataFrame]]:
    """Counts and signatures to choose from, by share and choice."""
    W, H, R = truth()
    found = {}
    for (name, share), known in product(SHARES.items(), KNOWN):
        counts = np.random.default_rng(0).poisson(share * W.to_numpy() @ H.to_numpy())
        X = pd.DataFrame(counts, W.index, H.columns)
        found[name, known] = X, H if known == "true" else R
    return found


def prepare(folder: Path) -> None:
    """The files that SigProfilerAssignment reads: channels in rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for (share, known), (X, H) in catalogues().items():
        for table, word in ((X, "catalogue"), (H, "signatures")):
            turned = table.T.rename_axis(
                "MutationType"
            ).sort_index()  # it goes by place, not by name
            turned.to_csv(folder / f"{share}-{known}.{word}.txt", sep="\t")


def scored(W: pd.DataFrame, E: pd.DataFrame, share: float) -> dict[str, str]:
    """How well exposures E are those of W."""
    E = E.reindex(index=W.index)
    both = sorted({*W.columns, *E.columns})
    w = share * W.reindex(columns=both, fill_value=0).to_numpy()
    e = E.reindex(columns=both, fill_value=0).to_numpy()
    there, said = w > 0, e > 0
    right = (there & said).sum()
    numbers = {
        "precision": right / said.sum(),
        "recall": right / there.sum(),
        "exposure_error": np.abs(w - e).sum() / w.sum(),
        "signatures_per_genome": said.sum() / len(w),
    }
    return {name: f"{value:.3f}" for name, value in numbers.items()}


def ours(X: pd.DataFrame, H: pd.DataFrame, settings: dict) -> tuple[pd.DataFrame, float]:
    """Exposures, and what they cost in CPU seconds."""
    begin = time.process_time()
    model = nmfnet.fit(X, "reference_nmf", H=H, dtype="float64", threads=1, **settings)
    weights = model.factors["W"]()[0].detach().numpy() * model.units.code
    E = pd.DataFrame(weights, X.index, H.index)
    seconds = time.process_time() - begin
    if "rule" not in settings:  # which are there is for the reader to say
        E = E.where(E.gt(LEAST * E.sum(axis=1), axis=0), 0)
    return E, seconds


def measure(folder: Path) -> None:
    """Score both sides, write and draw."""
    W, _, _ = truth()
    rows = []
    for settings in OURS.values():  # what the first calls of a process load
        ours(*catalogues()["all", "true"], settings)
    for (share, known), (X, H) in catalogues().items():
        about = {"mutations": share, "signatures": known}
        for name, settings in OURS.items():
            E, seconds = ours(X, H, settings)
            scores = scored(W, E, SHARES[share])
            rows.append(
                {**about, "by": f"nmfnet {name}", **scores, "cpu_seconds": f"{seconds:.2f}"}
            )
        table = next((folder / f"{share}-{known}").rglob("*Activities.txt"))
        E = pd.read_csv(table, sep="\t", index_col=0)
        seconds = float((folder / f"{share}-{known}.seconds").read_text())
        scores = scored(W, E, SHARES[share])
        rows.append(
            {**about, "by": "SigProfilerAssignment", **scores, "cpu_seconds": f"{seconds:.1f}"}
        )
    with (HERE / "assignment.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw(rows)


def draw(rows: list[dict[str, str]]) -> None:
    """Precision against recall, a panel for each question."""
    import matplotlib.pyplot as plt

    questions = list(dict.fromkeys((row["mutations"], row["signatures"]) for row in rows))
    sides = list(dict.fromkeys(row["by"] for row in rows))
    figure, panels = plt.subplots(
        1, len(questions), figsize=(11, 3.2), layout="constrained", sharex=True, sharey=True
    )
    for (share, known), panel in zip(questions, panels, strict=True):
        for row in rows:
            if (row["mutations"], row["signatures"]) == (share, known):
                at = sides.index(row["by"])
                marker = "s" if at == len(sides) - 1 else "o"
                place = float(row["recall"]), float(row["precision"])
                panel.plot(*place, marker, color=f"C{at}", label=row["by"])
        panel.set_title(f"{share} of the mutations, {known} signatures", fontsize=8)
        panel.set_xlabel("recall")
    panels[0].set_ylabel("precision")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8
    )
    figure.savefig(HERE / "assignment.png", dpi=90)


if __name__ == "__main__":
    {"prepare": prepare, "measure": measure}[sys.argv[1]](Path(sys.argv[2]))
