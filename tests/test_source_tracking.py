"""Sources of samples, one of which nobody has recorded: shares, intervals, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from shell import refusal, train

import nmfnet
from nmfnet.types import Batch

SOURCES, UNKNOWN = ["soil", "gut", "skin"], "unknown 1"
RUN = (
    *("experiment=source_tracking", "data=table", "data.path=sinks.tsv", "threads=1"),
    *("data.orientation=features_by_samples", "model.reference=sources.tsv", "run_dir=run"),
)


def sinks(folder: Path, depth: int = 20000, most: int = 30) -> pd.DataFrame:
    """Counts of taxa in sources of three depths and in what flowed together from them and a fourth."""
    rng = np.random.default_rng(0)
    H = rng.dirichlet(np.full(120, 0.1), 4)
    shares = rng.dirichlet(np.full(4, 0.5), most)
    X = np.stack([rng.multinomial(depth, p) for p in shares @ H])
    R = np.stack([rng.multinomial(n, p) for n, p in zip((2e5, 5e4, 8e5), H[:3], strict=True)])
    taxa, names = [f"taxon{j}" for j in range(120)], [f"sink{i}" for i in range(most)]
    pd.DataFrame(X.T, taxa, names).to_csv(folder / "sinks.tsv", sep="\t")
    pd.DataFrame(R.T, taxa, SOURCES).iloc[::-1].to_csv(folder / "sources.tsv", sep="\t")
    return pd.DataFrame(shares, names, [*SOURCES, UNKNOWN])


def test_the_command_finds_the_shares_of_known_sources_and_of_the_unknown_one(tmp_path):
    truth = sinks(tmp_path)
    truth.to_csv(tmp_path / "truth.csv")
    done = train(*RUN, "data.truth=truth.csv", "model.bootstrap=10", cwd=tmp_path)
    assert done.code == 0, done.err
    found = pd.read_csv(tmp_path / "run" / "proportions.csv", index_col=0)
    shares = found[truth.columns]
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    off = np.sqrt(((shares - truth) ** 2).mean())
    assert off[SOURCES].max() < 0.015
    assert off[UNKNOWN] < 0.02
    assert np.corrcoef(shares[UNKNOWN], truth[UNKNOWN])[0, 1] > 0.995
    for name in truth:
        low, high = found[f"{name} low"], found[f"{name} high"]
        assert ((low <= shares[name]) & (shares[name] <= high)).mean() > 0.8
        assert 0 < (high - low).mean() < 0.03
    assert (tmp_path / "run" / "figures" / "proportions.png").is_file()


@pytest.mark.slow
def test_without_the_unknown_its_share_is_laid_on_the_others(tmp_path):
    truth = sinks(tmp_path)
    done = train(*RUN, "model.unknown=0", "model.bootstrap=0", cwd=tmp_path)
    assert done.code == 0, done.err
    found = pd.read_csv(tmp_path / "run" / "proportions.csv", index_col=0)
    off = np.sqrt(((found[SOURCES] - truth[SOURCES]) ** 2).mean())
    assert off.min() > 0.03


def test_the_unit_of_an_unknown_component_does_not_matter():
    """It makes as much of X as a known one does, whatever the scale that its row comes out with."""
    rng = np.random.default_rng(1)
    H, shares = rng.dirichlet(np.full(60, 0.1), 4), rng.dirichlet(np.full(4, 0.5), 12)
    X = 1000 * shares @ H
    model = nmfnet.fit(
        X, "reference_nmf", H=H[:3], unknown=1, loss="kl", dtype="float64", threads=1, figures=False
    )
    batch = Batch(torch.from_numpy(X), torch.arange(12))
    with torch.no_grad():
        W, found = model.W(), model.shares_of(model.W(), batch)
        model.U.assign_(7 * model.U())
        again = model.shares_of(W / W.new_tensor([1, 1, 1, 7]), batch)
    torch.testing.assert_close(again, found)
    assert np.corrcoef(found[0, :, 3], shares[:, 3])[0, 1] > 0.99


def test_what_cannot_be_told_is_refused(tmp_path):
    sinks(tmp_path, most=1)
    assert "each could be an unknown component itself" in refusal(*RUN, cwd=tmp_path)
    sinks(tmp_path)
    table = pd.read_csv(tmp_path / "sinks.tsv", sep="\t", index_col=0)
    (table / table.sum()).to_csv(tmp_path / "sinks.tsv", sep="\t")
    said = refusal(*RUN, cwd=tmp_path)
    assert "X has values that are no whole numbers" in said
    assert "model.resample=features" in said
    assert not (tmp_path / "run").exists()
