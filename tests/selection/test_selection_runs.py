"""A rank selection as a whole: the command, its folder, going on after a kill, bad input."""

from __future__ import annotations

import csv
import json
import signal
import time

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from shell import finished, refusal, stamps, start, train
from shell import nmfnet as nmfnet_command

import nmfnet
from nmfnet.data.sources.channels import CHANNELS, SBS96
from nmfnet.metrics import matched_cosine
from nmfnet.selection.fits import ranges_of

FEW = (
    "selection.replicates=4",
    "selection.restarts=3",
    "selection.folds=2",
    "selection.ard=1",
    "max_iter=300",
    "tol=1e-3",
    "figures=false",
)


def catalogue(seed: int = 0, n: int = 24, system: str = "SBS96") -> tuple[np.ndarray, np.ndarray]:
    """Counts of three planted signatures, and the signatures."""
    rng = np.random.default_rng(seed)
    H = rng.dirichlet(np.full(len(CHANNELS[system]), 0.1), 3)
    W = rng.exponential(1500, (n, 3)) * (rng.random((n, 3)) < 0.7) + 100
    return rng.poisson(W @ H), H


def write(path, counts, channels=SBS96, samples=None, order=None):
    """A SigProfiler matrix: channels in rows."""
    order = range(len(channels)) if order is None else order
    names = samples or [f"S{i}" for i in range(len(counts))]
    lines = ["\t".join(["MutationType", *names])]
    lines += ["\t".join([channels[j], *(f"{v:g}" for v in counts[:, j])]) for j in order]
    path.write_text("\n".join(lines) + "\n")


def table(folder) -> list[dict[str, str]]:
    with (folder / "rank_selection.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_signatures_of_a_catalogue(tmp_path):
    """The command of the README, on shuffled rows; then everything in the folder."""
    counts, H = catalogue()
    counts[5] = 0
    write(tmp_path / "x.txt", counts, order=np.random.default_rng(1).permutation(96))
    names = [f"R{i}" for i in range(3)]
    lines = ["\t".join(["Type", *names])]
    lines += ["\t".join([c, *(f"{v:.9g}" for v in H[:, j])]) for j, c in enumerate(SBS96)]
    (tmp_path / "cosmic.txt").write_text("\n".join(lines) + "\n")
    command = (
        *("experiment=sbs_extract", "data=table", "data.path=x.txt", "data.reference=cosmic.txt"),
        *("ranks=2:4", "run_dir=run", *FEW[:-1]),
    )
    done = train(*command, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "suggested: 3" in done.out
    assert "ARD keeps 3 of 4 components (one start)" in " ".join(done.out.split())
    run = tmp_path / "run"
    numbers = json.loads((run / "metrics.json").read_text())
    assert numbers["n_components"] == 3
    assert numbers["reference/assigned_cosine"] > 0.98
    assert numbers["ard/n_components"] == 3
    assert [row["n_components"] for row in table(run)] == ["2", "3", "4"]
    assert [row["ard"] for row in table(run)] == ["0", "1", "0"]
    signatures = [line.split("\t") for line in (run / "signatures.txt").read_text().splitlines()]
    assert signatures[0] == ["MutationType", "SBS96A", "SBS96B", "SBS96C"]
    assert [row[0] for row in signatures[1:]] == sorted(SBS96)
    assert np.allclose(np.array([row[1:] for row in signatures[1:]], float).sum(0), 1, atol=1e-6)
    activities = [line.split("\t") for line in (run / "activities.txt").read_text().splitlines()]
    values = np.array([row[1:] for row in activities[1:]], int)
    assert (values.sum(1) == counts.sum(1)).all()
    assert (values[5] == 0).all()
    with np.load(run / "factors.npz") as arrays:
        assert arrays["H"].shape == (3, 96)
        assert tuple(arrays["feature_names"]) == SBS96
        W, H = arrays["W"], arrays["H"]
    loaded = nmfnet.load(run)
    assert np.allclose(loaded.components_, H)
    assert np.allclose(loaded.transform(counts), W, rtol=1e-2, atol=1)
    with (run / "intervals.csv").open() as file:
        bounds = list(csv.DictReader(file))
    assert len(bounds) == 24 * 3
    inside = [float(b["low"]) <= float(b["weight"]) <= float(b["high"]) for b in bounds]
    assert np.mean(inside) > 0.6  # of four replicates
    with (run / "assignment.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["assigned"] for row in rows} == set(names)
    for row in rows:  # the end of the command says what the file knows
        said = next(line for line in done.out.splitlines() if row["component"] in line)
        assert row["sum_of_references"] in said
        assert f"{float(row['sum_cosine']):.3f}" in said
    with (run / "mutation_probabilities.txt").open() as file:
        chances = list(csv.DictReader(file, delimiter="\t"))
    assert len(chances) == 24 * 96
    assert (chances[97]["Sample Names"], chances[97]["MutationType"]) == ("S1", sorted(SBS96)[1])
    drawn = {path.stem for path in (run / "figures").glob("*.png")}
    assert drawn == {
        *("rank_selection", "components", "weights", "reference", "decomposition", "consensus")
    }
    assert "samples are zero in every feature" in done.out
    again = train(*command, cwd=tmp_path)
    assert again.code == 0
    assert "finished before" in again.out


@pytest.mark.slow
def test_the_order_of_the_rows_does_not_matter(tmp_path):
    counts, _ = catalogue(2)
    found = []
    for i in range(2):
        order = np.random.default_rng(i).permutation(96)
        write(tmp_path / f"{i}.txt", counts, order=order)
        words = ("experiment=sbs_extract", f"data.path={i}.txt", "ranks=2:3", f"run_dir=r{i}")
        assert train(*words, *FEW, cwd=tmp_path).code == 0
        found.append((tmp_path / f"r{i}" / "signatures.txt").read_text())
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "system",
    [
        pytest.param("DBS78", marks=pytest.mark.slow),
        pytest.param("ID83", marks=pytest.mark.slow),
        "SBS288",
    ],
)
def test_other_channels_are_read_by_label(system, tmp_path):
    counts, _ = catalogue(3, system=system)
    write(tmp_path / "x.txt", counts, CHANNELS[system], order=range(len(CHANNELS[system]))[::-1])
    words = ("experiment=sbs_extract", "data.path=x.txt", "ranks=2:3", "run_dir=r", *FEW)
    done = train(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    head = (tmp_path / "r" / "signatures.txt").read_text().splitlines()[0]
    assert head.startswith(f"MutationType\t{system}A\t")


@pytest.mark.slow
def test_a_killed_run_does_only_what_is_missing(tmp_path):
    counts, _ = catalogue(4)
    write(tmp_path / "x.txt", counts)
    words = ("experiment=sbs_extract", "data.path=x.txt", "ranks=2:4", "run_dir=r", *FEW)
    words = (*words, "selection.replicates=12", "progress=true")
    process = start(*words, cwd=tmp_path)
    while process.poll() is None and len(list(tmp_path.glob("r/fits/*/*.npz"))) < 4:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    finished(process, tmp_path)
    before = stamps(tmp_path / "r" / "fits")
    assert not (tmp_path / "r" / "metrics.json").exists()
    (last := max((tmp_path / "r" / "fits").rglob("*.npz"))).write_bytes(b"torn")
    done = train(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    whole = [name for name in before if name.endswith(".npz") and not str(last).endswith(name)]
    after = stamps(tmp_path / "r" / "fits")
    assert {name: after[name] for name in whole} == {name: before[name] for name in whole}
    assert f"{len(whole)} of 46 fits were done before" in done.err
    alone = train(*words[:-1], "run_dir=s", cwd=tmp_path)
    assert alone.code == 0, alone.err
    for name in ("signatures.txt", "activities.txt", "intervals.csv"):
        assert (tmp_path / "s" / name).read_text() == (tmp_path / "r" / name).read_text()


@pytest.mark.slow
def test_more_ranks_use_the_fits_that_are_there(tmp_path):
    command = ("data=planted", "data.n_samples=40", "run_dir=r", "selection.n_jobs=1", *FEW)
    assert train(*command, "ranks=2:3", cwd=tmp_path).code == 0
    before = stamps(tmp_path / "r" / "fits")
    assert train(*command, "ranks=2:4", cwd=tmp_path).code == 2  # another run is in the folder
    done = train(*command, "ranks=2:4", "force=true", cwd=tmp_path)
    assert done.code == 0, done.err
    after = stamps(tmp_path / "r" / "fits")
    files = [name for name in before if name.endswith(".npz")]
    assert {name: after[name] for name in files} == {name: before[name] for name in files}
    assert len(table(tmp_path / "r")) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        "autoencoder",
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("convex_nmf", "projective_nmf")),
    ],
)
def test_any_model(model, tmp_path):
    words = ("data=planted", "data.n_samples=40", "data.n_components=3", f"model={model}")
    words = (*words, "experiment=rank_selection", "ranks=[2,3]", "run_dir=r", *FEW, "max_iter=60")
    done = train(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    assert f"no ARD, which is of NMF (model=nmf, loss=kl or frobenius, X >= 0): model={model}" in (
        " ".join(done.out.split())
    )
    rows = table(tmp_path / "r")
    assert "ard" not in rows[0]
    assert [row["n_components"] for row in rows] == ["2", "3"]
    assert all(np.isfinite(float(row["silhouette_mean"])) for row in rows)
    assert all(float(row["held_out_entries"]) > 0 for row in rows)


@pytest.mark.slow
def test_in_processes_and_from_python():
    """Two processes give what one gives; nothing is written."""
    counts, H = catalogue(5)
    options = {"selection.replicates": 4, "selection.restarts": 2, "selection.folds": 2}
    one = nmfnet.select_rank(counts, "2:3", loss="kl", tol=1e-3, **options)
    two = nmfnet.select_rank(
        counts, "2:3", loss="kl", tol=1e-3, **options, **{"selection.n_jobs": 2}
    )
    assert one.n_components == two.n_components == 3
    assert np.array_equal(one.components_, two.components_)
    assert matched_cosine(one.components_, H) > 0.98
    assert one.folder is None
    assert one.intervals.low.shape == one.weights.shape == (24, 3)


@pytest.mark.slow
def test_sparse_counts_and_an_outlying_sample():
    """A sparse X gives the same suggestion; a hypermutated sample does not take it over."""
    counts, H = catalogue(6)
    counts[0] = np.random.default_rng(6).poisson(3000 * counts[0] / counts[0].sum() * 100)
    options = {"selection.replicates": 4, "selection.restarts": 2, "selection.folds": 2}
    settings = {"loss": "kl", "tol": 1e-3, "selection.hypermutators": "cap", **options}
    for x in (counts, sp.csr_matrix(counts)):
        found = nmfnet.select_rank(x, "2:3", **settings)
        assert found.n_components == 3
        assert matched_cosine(found.components_, H) > 0.98
        assert np.allclose(found.weights.sum(1), counts.sum(1), rtol=1e-3)


@pytest.mark.slow
def test_the_report_reads_it(tmp_path):
    words = ("data=planted", "data.n_samples=30", "ranks=2:3", "run_dir=runs/nmf/r", *FEW)
    assert train(*words, cwd=tmp_path).code == 0
    assert nmfnet_command("report", "runs", "-o", "r.html", cwd=tmp_path).code == 0
    assert nmfnet_command("ls", "runs", cwd=tmp_path).code == 0


# ---------------------------------------------------------------------- bad input
EXTRACT = ("experiment=sbs_extract", "data.path=x.txt", "ranks=2:3", *FEW)


def test_rows_that_are_no_channels(tmp_path):
    counts, _ = catalogue()
    write(tmp_path / "x.txt", counts, [f"gene{i}" for i in range(96)])
    said = refusal(*EXTRACT, "data.orientation=features_by_samples", cwd=tmp_path)
    assert "'gene0'" in said
    assert "SBS96" in said


def test_duplicate_samples(tmp_path):
    counts, _ = catalogue()
    write(tmp_path / "x.txt", counts, samples=["A", "A", *(f"S{i}" for i in range(22))])
    assert "'A'" in refusal(*EXTRACT, cwd=tmp_path)


def test_negative_counts(tmp_path):
    counts = catalogue()[0].astype(float)
    counts[3, 7] = -2
    write(tmp_path / "x.txt", counts)
    said = refusal(*EXTRACT, cwd=tmp_path)
    assert "'S3'" in said
    assert "-2" in said


def test_activities_of_shares_stay_shares(tmp_path):
    counts, _ = catalogue(n=6)
    few = {"replicates": 2, "restarts": 1, "held_out": "none", "ard": 0, "intervals": False}
    options = {f"selection.{key}": value for key, value in few.items()}
    shares = pd.DataFrame(counts / counts.sum(1, keepdims=True), columns=list(SBS96))
    found = nmfnet.select_rank(
        shares, [2], loss="kl", run_dir=tmp_path / "r", figures=False, **options
    )
    written = np.loadtxt(tmp_path / "r" / "activities.txt", skiprows=1, usecols=(1, 2))
    np.testing.assert_allclose(written, found.weights, rtol=1e-6)


@pytest.mark.slow
def test_a_catalogue_of_rates(tmp_path):
    """Rates are resampled as means of counts, single entries are held out, and both are said."""
    counts, H = catalogue()
    write(tmp_path / "x.txt", counts / 3.7)
    done = train(*EXTRACT, "run_dir=r", cwd=tmp_path)
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "The catalogue holds rates, not whole counts" in said
    assert "Poisson counts whose means they are" in said
    assert all(float(row["held_out_entries"]) > 0 for row in table(tmp_path / "r"))
    assert "held_out_thinning" not in table(tmp_path / "r")[0]
    lines = (tmp_path / "r" / "signatures.txt").read_text().splitlines()[1:]
    found = {channel: cells for channel, *cells in (line.split("\t") for line in lines)}
    assert matched_cosine(np.array([found[c] for c in SBS96], dtype=float).T, H) > 0.95
    assert (tmp_path / "r" / "activities.txt").is_file()


def test_fewer_samples_than_ranks(tmp_path):
    counts, _ = catalogue(n=4)
    write(tmp_path / "x.txt", counts)
    said = refusal("experiment=sbs_extract", "data.path=x.txt", "ranks=2:8", cwd=tmp_path)
    assert "4 samples" in said
    assert "8" in said


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (("ranks=8:2",), ("ranks=8:2", "2:8")),
        (("ranks=2:3", "split=entries"), ("split=none",)),
        (("ranks=2:3", "selection.replicates=1"), ("selection.replicates", ">= 2")),
        (("ranks=2:3", "selection.replicate=9"), ("did you mean 'replicates'",)),
        (("ranks=2:3", "selection.held_out=thinning", "data.noise=gaussian"), ("counts",)),
    ],
)
def test_settings_that_cannot_be(words, fragments, tmp_path):
    said = refusal("data=planted", *words, cwd=tmp_path)
    for fragment in fragments:
        assert fragment in said


def test_one_entry_does_not_decide_how_well_a_rank_predicts():
    """Where a component is one feature, its weight is anything in a sample that hides this one."""
    rng = np.random.default_rng(1)
    W, H = rng.gamma(1, 1, (80, 4)), rng.gamma(0.5, 1, (4, 24))
    H /= H.sum(1, keepdims=True)
    H[:3, 0], H[3] = 0, 0.002
    H[3, 0] = 1
    X = np.clip(20 * W @ H + rng.normal(0, 0.3, (80, 24)), 0, None)
    small = {"selection.replicates": 4, "selection.restarts": 2, "selection.ard": 0}
    found = nmfnet.select_rank(X, "2:5", figures=False, seed=1, threads=1, **small)
    losses = {row["n_components"]: row["held_out_entries"] for row in found.rows}
    assert min(losses, key=lambda k: losses[k]) == 4
    by_the_mean = 0.2 * 0.5 * np.square(X - X.mean(0)).sum()  # of the share that is held out
    assert max(losses.values()) < 10 * by_the_mean  # 1,700 times it without bounds


def test_the_known_range_of_a_feature():
    X = np.array([[1.0, 5, 0, 3], [2, 7, 0, 3], [9, 6, 0, 3]])
    low, high = ranges_of(X, np.array([[1, 1, 0, 1], [1, 0.5, 0, 1], [0, 1, 0, 0]]))
    for x_hat, brought in ((100.0, [2, 7, 100, 100]), (-1.0, [1, 5, -1, -1])):
        assert torch.full((4,), x_hat).double().clamp(low, high).tolist() == brought


@pytest.mark.slow
def test_numbers_before_and_after_the_last_fit_are_told_apart():
    x = np.random.default_rng(0).random((12, 2)) @ np.random.default_rng(1).random((2, 6))
    small = {"selection.replicates": 2, "selection.restarts": 1, "selection.folds": 1}
    few = {**small, "selection.ard": 0, "max_iter": 20, "threads": 1}
    for refine in (True, False):
        found = nmfnet.select_rank(x, [2], **few, **{"selection.refine": refine})
        told = any("rank_selection.csv are of the consensus" in note for note in found.notes)
        assert told is refine
        assert (found.rows[0]["kl"] == found.metrics["train/kl"]) is not refine
