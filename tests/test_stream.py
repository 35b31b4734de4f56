"""A matrix that stays on disk: read as it lies there, trained on in minibatches, never held whole."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from shell import environment, refusal, the_run, train
from test_resume import same

import nmfnet
from nmfnet.data import RowSplit, Stream
from nmfnet.data.stream.module import StoredBatches, StreamDataModule
from nmfnet.data.stream.stored import Numbered, Stored, open_stored
from nmfnet.errors import UserError
from nmfnet.run.callbacks.resuming import Resuming
from nmfnet.run.stopping import Interrupted
from nmfnet.run.train import train as train_in_process
from nmfnet.settings.words import configuration
from nmfnet.types import Batch

N, F, K = 700, 24, 3


def matrix(n: int = N, f: int = F, k: int = K, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    W, H = rng.gamma(0.5, size=(n, k)), rng.gamma(0.5, size=(k, f))
    return (W @ H + 0.01 * rng.random((n, f))).astype(np.float32)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 40 rows."""
    monkeypatch.setattr("nmfnet.data.stream.stored.BLOCK_BYTES", 40 * F * 4)


def as_npy(X: np.ndarray, folder: Path) -> Path:
    np.save(folder / "x.npy", X)
    return folder / "x.npy"


def as_chunks(X: np.ndarray, folder: Path) -> Path:
    """Three npy files of different dtypes, one of them tiny."""
    place = folder / "chunks"
    place.mkdir()
    parts = [(0, 300, "<f4"), (300, 305, ">f8"), (305, len(X), "<f8")]
    for i, (a, b, dtype) in enumerate(parts):
        np.save(place / f"part{i}.npy", X[a:b].astype(dtype))
    (place / "README").write_text("not data")
    return place


def as_parquet(X: np.ndarray, folder: Path) -> Path:
    """Two parquet files with row groups of 90 rows."""
    place = folder / "tables"
    place.mkdir()
    names = [f"gene{j}" for j in range(X.shape[1])]
    for i, (a, b) in enumerate([(0, 400), (400, len(X))]):
        table = pd.DataFrame(X[a:b], columns=names)
        table.to_parquet(place / f"{i}.parquet", row_group_size=90, index=False)
    return place


# ---------------------------------------------------------------------- reading
@pytest.mark.parametrize("write", [as_npy, as_chunks, as_parquet])
def test_rows_are_read_as_they_lie_on_disk(write, tmp_path, small_blocks):
    X = matrix()
    stored = open_stored(write(X, tmp_path))
    assert stored.shape == X.shape
    rng = np.random.default_rng(0)
    for _ in range(30):
        a, b = sorted(rng.integers(0, N + 1, 2).tolist())
        assert np.array_equal(stored[a:b], X[a:b])
    some = np.sort(rng.choice(N, 200, replace=False))
    subset = stored.subset(some)
    assert subset.shape == (200, F)
    for a, b in ((0, 200), (17, 18), (50, 120), (5, 5)):
        assert np.array_equal(subset[a:b], X[some[a:b]])


@pytest.mark.parametrize("write", [as_npy, as_chunks, as_parquet])
def test_blocks_cover_every_row_once_and_stay_small(write, tmp_path, small_blocks):
    stored = open_stored(write(matrix(), tmp_path))
    for of in (stored, stored.subset(np.arange(3, N, 3))):
        blocks = of.blocks()
        covered = np.concatenate([np.arange(b.start, b.stop) for b in blocks])
        assert np.array_equal(covered, np.arange(len(of)))
        assert max(b.stop - b.start for b in blocks) <= (130 if write is as_parquet else 40)
    assert len(stored.blocks()) >= 7


def test_names_of_rows_are_made_when_asked_for():
    names = Numbered(np.array([3, 5, 2_000_000]))
    assert names[1] == "row_5"
    assert names[1:] == ["row_5", "row_2000000"]
    assert np.array(names).tolist() == [3, 5, 2_000_000]


def test_the_matrix_says_what_it_holds(tmp_path, small_blocks):
    X = matrix()
    X[[100, 200]] = 0
    X[:, 4] = 2
    X[300, 7] = -0.5
    read = Stream(path=str(as_npy(X, tmp_path))).read()
    read.check()
    assert read.scan.negative == 1
    assert read.scan.lowest_row == 300
    assert read.scan.lowest[0, 7] == -0.5
    X[:, 4] = 0
    notes = Stream(path=str(as_npy(X, tmp_path))).read().notes()
    assert notes[0].startswith("2 of 700 samples are zero in every feature (first: row 100)")
    assert notes[1].startswith("1 of 24 features are zero in every sample (first: feature_0005)")
    prints = {read.fingerprint(), Stream(path=str(tmp_path / "x.npy")).read().fingerprint()}
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda X: np.asfortranarray(X), "column after column"),
        (lambda X: X[0], r"shape \(24,\)"),
        (lambda X: X.astype(complex), "complex"),
        (
            lambda X: np.where(np.arange(N)[:, None] == 345, np.nan, X),
            "Row 345 holds nan in feature 'feature_0001'",
        ),
        (lambda X: X[:0], r"shape \(0, 24\)"),
    ],
)
def test_what_cannot_be_streamed_is_refused(made, said, tmp_path, small_blocks):
    np.save(tmp_path / "x.npy", made(matrix()))
    with pytest.raises(UserError, match=said):
        Stream(path=str(tmp_path / "x.npy")).read().check()


def test_folders_that_do_not_fit_together_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.npy, \.parquet, \.h5ad file"):
        open_stored(tmp_path / "empty")
    place = as_parquet(matrix(), tmp_path)
    pd.DataFrame({"gene0": [1.0], "b": [2.0]}).to_parquet(place / "2.parquet")
    with pytest.raises(UserError, match=r"2\.parquet has 2 columns \('gene0', 'b'\)"):
        open_stored(place)
    pd.DataFrame({"a": [1.0], "b": ["x"]}).to_parquet(place / "2.parquet")
    with pytest.raises(UserError, match="column 'b' holds"):
        open_stored(place)
    (tmp_path / "cut.npy").write_bytes(as_npy(matrix(), tmp_path).read_bytes()[:-8])
    with pytest.raises(UserError, match="cut"):
        Stream(path=str(tmp_path / "cut.npy")).read().check()
    with pytest.raises(UserError, match="data=table"):
        open_stored(__file__)


# ---------------------------------------------------------------------- batches
def loader(stored: Stored, seed: int = 0, batch_size: int = 32) -> StoredBatches:
    return StoredBatches(stored, batch_size, seed, torch.float32, torch.device("cpu"), pool=3)


@pytest.mark.parametrize("write", [as_npy, as_parquet])
def test_an_epoch_has_every_row_once_in_an_order_of_seed_and_epoch(write, tmp_path, small_blocks):
    X = matrix()
    batches = loader(open_stored(write(X, tmp_path)))
    orders = []
    for _ in range(2):
        seen = list(batches)
        assert [len(b.index) for b in seen] == [32] * (N // 32) + [N % 32]
        assert len(seen) == len(batches)
        for batch in seen:
            assert np.array_equal(batch.x.numpy(), X[batch.index.numpy()])
        orders.append(torch.cat([b.index for b in seen]).tolist())
        assert sorted(orders[-1]) == list(range(N))
    assert orders[0] != orders[1]
    again = loader(open_stored(tmp_path / "x.npy" if write is as_npy else tmp_path / "tables"))
    again.set_epoch(1)
    assert torch.cat([b.index for b in again]).tolist() == orders[1]
    first = np.array(orders[0][:96])
    assert len(np.unique(first // 40)) >= 3  # several blocks are mixed
    assert not np.array_equal(first, np.sort(first))


def test_held_out_rows_are_read_anew_in_every_validation(tmp_path, small_blocks, monkeypatch):
    X = matrix()
    split = RowSplit(test_fraction=0.3)
    source = Stream(path=str(as_npy(X, tmp_path)))
    cpu = torch.device("cpu")
    data = StreamDataModule(source, split, dtype=torch.float32, seed=0, device=cpu)
    data.setup()
    most, read = [], Stored._read

    def counted(self, start, stop):
        most.append(stop - start)
        return read(self, start, stop)

    monkeypatch.setattr(Stored, "_read", counted)
    (held_out,) = data.val_dataloader()
    assert not most
    expected = X[np.setdiff1d(np.arange(N), data.train_rows)]
    for _ in range(2):
        assert np.array_equal(torch.cat([batch.x for batch in held_out]).numpy(), expected)
    assert max(most) <= 40


@pytest.mark.parametrize("done", [1, 4, 7, 21])
def test_a_pass_goes_on_without_reading_what_it_has_yielded(done, tmp_path, small_blocks):
    stored = open_stored(as_npy(matrix(), tmp_path))
    whole = loader(stored)
    batches, iterator = [], iter(whole)
    for _ in range(done):
        batches.append(next(iterator))
    state = whole.state_dict()
    rest = list(iterator)
    fresh = loader(stored)
    fresh.load_state_dict(state)
    for one, other in zip(rest, list(fresh), strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.index, other.index)
    assert fresh.state_dict() == {"yielded": 0}


def datamodule(path: Path, split: Any, **options: Any) -> StreamDataModule:
    made = StreamDataModule(
        Stream(path=str(path)), split, dtype=torch.float64, seed=0, device=torch.device("cpu"),
        **options,
    )  # fmt: skip
    made.setup()
    return made


def test_held_out_rows_are_in_no_training_batch(tmp_path, small_blocks):
    X = matrix()
    data = datamodule(as_npy(X, tmp_path), RowSplit(test_fraction=0.3), batch_size=50)
    assert data.test is not None
    test = data.partition.test_rows
    assert np.array_equal(torch.cat([b.x for b in data.blocks("test")]).numpy(), X[test])
    assert np.array_equal(
        torch.cat([b.x for b in data.blocks("train")]).numpy(), X[data.train_rows]
    )
    for batch in data.train_dataloader():
        assert np.array_equal(batch.x.numpy(), X[data.train_rows[batch.index.numpy()]])
    assert list(data.test_sample_names[:2]) == [f"row_{i}" for i in test[:2]]


# ---------------------------------------------------------------------- runs
def stream_run(folder: Path | None, path: Path, **settings: Any):
    from nmfnet.settings.words import configuration

    base = {"n_components": K, "max_iter": 200, "figures": False, "dtype": "float64"}
    cfg = configuration({"progress": False, "logger": "none", **base, **settings})
    cfg.data = {"_target_": "nmfnet.data.Stream", "path": str(path)}
    cfg.run_dir = None if folder is None else str(folder)
    return train_in_process(cfg, write=folder is not None)


@pytest.mark.quick("frobenius")
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_a_streamed_fit_is_as_good_as_one_in_memory(loss, tmp_path, small_blocks):
    X = matrix()
    done = stream_run(None, as_npy(X, tmp_path), loss=loss, batch_size=100, max_iter=700)
    assert done.metrics["solver"] == "online"
    full = nmfnet.fit(X, n_components=K, loss=loss, dtype="float64")
    assert done.metrics["train/loss"] < 1.2 * full.metrics["train/loss"] + 0.05


def test_the_metrics_are_those_of_the_factors(tmp_path, small_blocks):
    X = matrix()
    done = stream_run(tmp_path / "run", as_npy(X, tmp_path), split="rows", batch_size=100)
    arrays = np.load(tmp_path / "run" / "factors.npz")
    rows, test = arrays["sample_names"], arrays["test_sample_names"]
    assert sorted([*rows, *test]) == list(range(N))
    for part, who, W in (("train", rows, arrays["W"]), ("test", test, arrays["W_test"])):
        residual = X[who] - W @ arrays["H"]
        assert done.metrics[f"{part}/loss"] == pytest.approx(0.5 * (residual**2).sum())
        relative = np.linalg.norm(residual) / np.linalg.norm(X[who])
        assert done.metrics[f"{part}/relative_error"] == pytest.approx(relative)
    loaded = nmfnet.load(tmp_path / "run")
    assert np.allclose(loaded.transform(X[test]), arrays["W_test"])


def test_all_rows_in_one_batch_is_the_fit_in_memory(tmp_path, small_blocks):
    """The rows come in another order, so sums are rounded differently; nothing else."""
    X = matrix()
    path = as_npy(X, tmp_path)
    np.savez(tmp_path / "start.npz", W=np.ones((N, K)) + matrix(N, K), H=matrix(K, F, seed=5) + 0.1)
    start = {"init": "given", "init.path": str(tmp_path / "start.npz"), "solver": "online"}
    settings = start | {"batch_size": N, "max_iter": 30, "tol": 0.0}
    done = stream_run(None, path, **settings)
    full = nmfnet.fit(X, n_components=K, dtype="float64", **settings)
    assert done.factors is not None
    np.testing.assert_allclose(done.factors.H, full.components_, rtol=1e-9)
    np.testing.assert_allclose(done.factors.W, full.W()[0].detach(), rtol=1e-9)


@pytest.mark.quick("nmf")
@pytest.mark.parametrize("model", ["autoencoder", "nmf"])
def test_networks_stream_too(model, tmp_path, small_blocks):
    X = matrix()
    settings = {"model": model, "solver": "adam", "solver.lr": 0.05, "batch_size": 70}
    done = stream_run(None, as_npy(X, tmp_path), split="rows", max_iter=400, **settings)
    assert done.factors is not None
    assert done.factors.W.shape == (560, K)
    assert done.metrics["test/relative_error"] < 0.2


def test_an_interrupted_streamed_run_goes_on_inside_its_epoch(tmp_path, small_blocks, monkeypatch):
    path = as_npy(matrix(), tmp_path)
    settings = {"batch_size": 64, "max_iter": 40, "dtype": "float32", "tol": 0.0}
    unbroken = stream_run(None, path, **settings)
    plain = Resuming.on_train_batch_end

    def on_train_batch_end(self, trainer, model, *others):
        if model.iteration == 17:
            signal.raise_signal(signal.SIGINT)
        plain(self, trainer, model, *others)

    with monkeypatch.context() as patch:
        patch.setattr(Resuming, "on_train_batch_end", on_train_batch_end)
        with pytest.raises(Interrupted, match="iteration 17;"):
            stream_run(tmp_path / "run", path, **settings)
    assert nmfnet.load(tmp_path / "run").components_.shape == (K, F)
    same(unbroken, stream_run(tmp_path / "run", path, **settings))


def test_the_command_line_streams_and_notices_changed_files(tmp_path):
    place = as_parquet(matrix(), tmp_path)
    words = ("data=stream", "data.path=tables", "max_iter=20", "model.n_components=3")
    done = train(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    (folder,) = {path.parent for path in tmp_path.glob("runs/nmf/*/metrics.json")}
    assert len(list((folder / "figures").glob("*.png"))) >= 4
    assert np.load(folder / "factors.npz")["feature_names"][0] == "gene0"
    files = json.loads((folder / "provenance.json").read_text())["data_files"]
    assert sorted(files) == ["0.parquet", "1.parquet"]
    assert "finished before" in train(*words, cwd=tmp_path).out
    pd.read_parquet(place / "1.parquet").iloc[::-1].to_parquet(place / "1.parquet", index=False)
    assert "finished before" not in train(*words, cwd=tmp_path).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("split=entries",), "split=entries would need a mask"),
        (("solver=hals",), "batch_size"),
        (("kkt_tol=1e-3",), "kkt_tol needs all rows at once"),
        (("model=convex_nmf", "solver=adam"), "ConvexNMF as configured needs all rows at once"),
        (("loss=itakura_saito",), "row_5 of X has 1 zero"),
    ],
)
def test_what_needs_all_rows_is_refused(words, said, tmp_path):
    X = matrix()
    X[5, 5] = 0
    as_npy(X, tmp_path)
    assert said in refusal("data=stream", "data.path=x.npy", *words, cwd=tmp_path)


def test_negative_values_are_counted_and_refused(tmp_path):
    X = matrix()
    X[500, :3] = -1
    as_npy(X, tmp_path)
    assert "3 negative values" in refusal("data=stream", "data.path=x.npy", cwd=tmp_path)


PEAK = """
import sys
from nmfnet.settings.words import configuration
from nmfnet.run.train import train
cfg = configuration({"n_components": 5, "max_iter": 90, "figures": False, "progress": False,
                     "logger": "none", "threads": 1, "split": "rows"})
cfg.data = {"_target_": "nmfnet.data.Stream", "path": sys.argv[1]}
cfg.run_dir = sys.argv[2]
train(cfg)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory as Linux tells it")
def test_memory_does_not_grow_with_the_data(tmp_path):
    """A file of 400 MB costs less than 100 MB more than one of 0.4 MB: some blocks, not the file."""
    f = 512
    rng = np.random.default_rng(0)
    H = rng.gamma(0.3, size=(5, f)).astype(np.float32)
    peaks = {}
    for n in (200, 200_000):
        file = tmp_path / f"{n}.npy"
        on_disk = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(n, f))
        for start in range(0, n, 10_000):
            m = min(10_000, n - start)
            on_disk[start : start + m] = rng.gamma(0.5, size=(m, 5)).astype(np.float32) @ H
        on_disk.flush()
        del on_disk
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(file), str(tmp_path / f"run{n}")],
            capture_output=True, text=True, check=True, env=environment(),
        )  # fmt: skip
        peaks[n] = float(done.stdout.split()[-1])
    assert (tmp_path / "200000.npy").stat().st_size > 400e6
    assert peaks[200_000] - peaks[200] < 100, peaks


# ---------------------------------------------------------------------- partial_fit
@pytest.mark.quick("frobenius")
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_partial_fit_learns_from_batches_seen_once(loss):
    X = matrix(2000)
    made = nmfnet.Estimator(n_components=K, loss=loss, random_state=0)
    errors = []
    for start in range(0, 2000, 50):
        made.partial_fit(X[start : start + 50])
        if start in (0, 450, 1950):
            residual = X - made.inverse_transform(made.transform(X))
            errors.append(np.linalg.norm(residual) / np.linalg.norm(X))
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < (0.1 if loss == "frobenius" else 0.25)
    assert made.n_samples_seen_ == 2000
    assert made.n_iter_ == 40


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_partial_fit_goes_on_from_a_pickle_bit_for_bit(loss):
    X = matrix(300)
    one = nmfnet.Estimator(n_components=K, loss=loss, n_restarts=2, random_state=0)
    for start in range(0, 150, 50):
        one.partial_fit(X[start : start + 50])
    other = pickle.loads(pickle.dumps(one))
    for start in range(150, 300, 50):
        one.partial_fit(X[start : start + 50])
        other.partial_fit(X[start : start + 50])
    assert np.array_equal(one.components_, other.components_)
    assert one.reconstruction_err_ == other.reconstruction_err_


def test_partial_fit_of_sparse_rows_is_that_of_dense_ones():
    X = np.where(matrix() > 0.5, matrix(), 0).astype(np.float64)
    dense, sparse = (nmfnet.Estimator(n_components=K, loss="kl", random_state=0) for _ in range(2))
    for start in range(0, N, 100):
        dense.partial_fit(X[start : start + 100])
        sparse.partial_fit(sp.csr_matrix(X[start : start + 100]))
    np.testing.assert_allclose(sparse.components_, dense.components_, rtol=1e-6)


def test_partial_fit_improves_what_fit_found_and_refuses_what_cannot_learn_so():
    X = matrix()
    made = nmfnet.Estimator(n_components=K, random_state=0, tol=1e-3).fit(X[:300])
    before = made.components_
    made.partial_fit(X[300:])
    assert not np.array_equal(before, made.components_)
    cosine = (before * made.components_).sum(1) / (
        np.linalg.norm(before, axis=1) * np.linalg.norm(made.components_, axis=1)
    )
    assert cosine.min() > 0.99
    with pytest.raises(ValueError, match="features"):
        made.partial_fit(X[:, :5])
    assert not hasattr(nmfnet.Estimator(model="convex_nmf"), "partial_fit")
    with pytest.raises(UserError, match="batches need solver=online"):
        nmfnet.Estimator(settings={"solver": "hals"}).partial_fit(X)


@pytest.mark.parametrize("form", ["csr", "dense"])
def test_an_h5ad_is_read_by_rows(form, tmp_path, small_blocks):
    h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")
    X = np.random.default_rng(0).poisson(0.7, (N, F)).astype(np.float32)
    file = tmp_path / "cells.h5ad"
    with h5py.File(file, "w") as made:
        if form == "csr":
            table, group = sp.csr_matrix(X), made.create_group("layers/counts")
            group.attrs.update({"encoding-type": "csr_matrix", "shape": X.shape})
            for name in ("data", "indices", "indptr"):
                group[name] = getattr(table, name)
        else:
            made["layers/counts"] = X
        made["var/name"] = [f"gene{j}" for j in range(F)]
        made["var"].attrs["_index"] = "name"
    stored = open_stored(file, "counts")
    for a, b in ((0, N), (13, 14), (N - 3, N), (5, 5), (30, 131)):
        np.testing.assert_array_equal(stored[a:b], X[a:b])
    assert stored.parts[0].names[:2] == ("gene0", "gene1")
    own = {"data.path": str(file), "data.layer": "counts", "batch_size": 64, "max_iter": 30}
    own |= {"solver": "adam_network", "model.hidden": [8], "model.n_components": 2}
    words = {"model": "ldvae", "data": "stream", "split": "rows", "figures": False, **own}
    found = train_in_process(configuration({"progress": False, **words}), write=False)
    assert found.metrics["test/elbo"] < 0
    with torch.no_grad(), found.model.restarts(0):
        rows = RowSplit()(Stream(path=str(file), layer="counts").read(), 0).test_rows
        batch = Batch(torch.from_numpy(X[rows]), torch.full((len(rows),), -1))
        whole = -float(sum(found.model.eval().row_terms(batch).values()).mean())
    assert found.metrics["test/elbo"] == pytest.approx(whole, rel=1e-5)
    with pytest.raises(UserError, match=r"has no layers/cuonts; its layers: 'counts'"):
        open_stored(file, "cuonts")


def obs_of(batch: np.ndarray, **more: Any) -> pd.DataFrame:
    """A table of cells, in text that every version of anndata writes."""
    levels = pd.Index(sorted(set(batch.tolist())), dtype=object)
    names = pd.Index([f"cell{i}" for i in range(len(batch))], dtype=object)
    return pd.DataFrame({"batch": pd.Categorical(batch, levels), **more}, names)


def write_cells(file: Path, X: np.ndarray, about: pd.DataFrame) -> None:
    import anndata

    genes = pd.DataFrame(index=pd.Index([f"gene{j}" for j in range(X.shape[1])], dtype=object))
    anndata.AnnData(sp.csr_matrix(X), obs=about, var=genes).write_h5ad(file)


@pytest.mark.slow
def test_a_streamed_h5ad_brings_its_covariates(tmp_path, small_blocks):
    """Batches hold those of their rows, and numbers are those of the same model on rows in memory."""
    pytest.importorskip("anndata", reason="the extra anndata is not installed")
    rng = np.random.default_rng(0)
    batch = np.array(["old", "new"])[rng.integers(2, size=N)]
    X = rng.poisson(np.where(batch == "old", 1.0, 3.0)[:, None], (N, F)).astype(np.float32)
    about = obs_of(batch, age=rng.normal(size=N))
    (tmp_path / "cells").mkdir()
    for name, rows in (("a", slice(0, 30)), ("b", slice(30, N))):
        write_cells(tmp_path / "cells" / f"{name}.h5ad", X[rows], about[rows])
    source = Stream(path=str(tmp_path / "cells"), covariates=["batch", "age"])
    design = np.stack([batch == "new", batch == "old", about["age"]], 1).astype(np.float32)
    data = StreamDataModule(
        source, RowSplit(), batch_size=16, dtype=torch.float32, seed=0, device=torch.device("cpu")
    )
    data.setup()
    seen = 0
    for rows in data.train_dataloader():
        own = data.train_rows[rows.index.numpy()]
        np.testing.assert_array_equal(rows.extra["covariates"], design[own])
        np.testing.assert_array_equal(rows.x, X[own])
        seen += len(own)
    assert seen == len(data.train_rows)
    assert data.axes["covariate"] == 3
    own = {"data.path": "cells", "data.covariates": ["batch", "age"], "split": "rows"}
    own |= {"model.hidden": [8], "model.decoder": [8], "model.n_components": 2, "max_iter": 30}
    own |= {"data.path": str(tmp_path / "cells"), "batch_size": 64, "figures": False}
    words = {"model": "scvi", "data": "stream", "solver": "adam_network", "progress": False, **own}
    found = train_in_process(configuration(words), write=False)
    model, held = found.model, data.partition.test_rows
    said = model.reconstruct(X[held], covariates=about.iloc[held])
    error = np.linalg.norm(X[held] - said) / np.linalg.norm(X[held])
    assert found.metrics["test/relative_error"] == pytest.approx(error, rel=1e-4)
    changed = about.iloc[held].assign(batch="old")
    assert not np.allclose(model.reconstruct(X[held], covariates=changed), said, rtol=1e-3)
    assert "covariate/batch/silhouette" in found.metrics
    with pytest.raises(UserError, match=r"columns of obs of h5ad files, and got 'batch'"):
        Stream(path=str(tmp_path / "cells"), covariates="batch").read()
    np.save(tmp_path / "X.npy", X)
    with pytest.raises(UserError, match=r"of obs of h5ad files, and X.npy is none"):
        Stream(path=str(tmp_path / "X.npy"), covariates=["batch"]).read()


@pytest.mark.slow
def test_covariates_of_a_streamed_h5ad_by_the_command_line(tmp_path):
    pytest.importorskip("anndata", reason="the extra anndata is not installed")
    rng = np.random.default_rng(0)
    about = obs_of(np.array(["a", "b"])[rng.integers(2, size=60)])
    X = rng.poisson(2.0, (60, 8)).astype(np.float32)
    write_cells(tmp_path / "cells.h5ad", X, about)
    words = ["model=scvi", "data=stream", "data.path=cells.h5ad", "model.hidden=[6]"]
    words += ["model.decoder=[6]", "model.n_components=2", "max_iter=5", "solver=adam_network"]
    done = train(*words, "data.covariates=[batch]", cwd=tmp_path)
    assert done.code == 0, done.err
    with np.load(the_run(tmp_path) / "factors.npz") as arrays:
        assert any(name.endswith("_covariates") for name in arrays)
    assert "btach" in refusal(*words, "data.covariates=[btach]", cwd=tmp_path)


def test_a_source_of_ones_own_is_streamed_where_it_says_so(tmp_path, small_blocks):
    own = Path(__file__).parent.parent / "experiments" / "speed" / "streamed"
    words = ["--config-dir", str(own), "data=generated", "data.n_samples=130", "data.n_features=9"]
    done = train(*words, "model.n_components=2", "max_iter=30", "figures=false", cwd=tmp_path)
    assert done.code == 0, done.err
    metrics = json.loads((the_run(tmp_path) / "metrics.json").read_text())
    assert metrics["solver"] == "online"
    sys.path.insert(0, str(own))
    try:
        from rows import Generated

        X = Generated(n_samples=130, n_features=9).read().values[:]
    finally:
        sys.path.remove(str(own))
    with np.load(the_run(tmp_path) / "factors.npz") as arrays:
        error = np.linalg.norm(X - arrays["W"] @ arrays["H"]) / np.linalg.norm(X)
    assert metrics["train/relative_error"] == pytest.approx(error, rel=1e-4)
