"""Rows spread over processes: the same numbers as one process, and the blocks cover every row once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from shell import TRAIN, environment, refusal

from nmfnet.core.distributed import World
from nmfnet.data.module import MatrixDataModule
from nmfnet.run.checkpoint import assemble
from nmfnet.run.sharding import block, shard
from nmfnet.settings.objects import build
from nmfnet.settings.words import configuration

DATA = ("data=planted", "data.n_samples=61", "data.n_features=14")
FEW = (
    "dtype=float64",
    "model.n_components=3",
    "n_restarts=2",
    "max_iter=40",
    "tol=0",
    "figures=false",
)
SHORT = (*DATA, *FEW)
SPARSE = ("data=table", "data.path=../x.npz", "data.orientation=samples_by_features")

RUNS = {
    "nmf-mu-kl-l1": (4, "solver=mu", "loss=kl", "penalty=l1", "penalty.l1.weight=0.1"),
    "nmf-mu-orthogonal": (2, "solver=mu", "penalty=orthogonal", "penalty.orthogonal.on=W"),
    "nmf-adam": (2, "solver=adam"),  # its step is relative to the size of W over all rows
    "autoencoder-mu": (2, "model=autoencoder", "solver=mu"),
    "nmf-hals-sparse": (3, "solver=hals", *SPARSE),
    "nmf-newton-kl-entries": (2, "solver=newton", "loss=kl", "split=entries"),
    "nmf-anls": (2, "solver=anls"),
}
"""Processes, and what is run in them."""


@pytest.mark.parametrize(("n_total", "size"), [(10, 1), (10, 3), (7, 7), (1000, 4)])
def test_blocks_cover_every_row_once_and_are_even(n_total, size):
    blocks = [World(rank, size, n_total).rows() for rank in range(size)]
    rows = [row for part in blocks for row in range(n_total)[part]]
    assert rows == list(range(n_total))
    sizes = [part.stop - part.start for part in blocks]
    assert max(sizes) - min(sizes) <= 1


def test_a_process_holds_its_share_of_x_and_w_in_tensors_of_their_own():
    cfg = configuration({"data": "planted", "n_components": 3, "solver": "mu"})
    datamodule = MatrixDataModule(
        build(cfg.data),
        build(cfg.split),
        dtype=torch.float64,
        seed=0,
        device=torch.device("cpu"),
    )
    datamodule.setup()
    n = datamodule.sizes.n_samples
    model = assemble(cfg, datamodule.sizes)
    for rank in range(4):
        world = World(rank, 4, n)
        rows = block(datamodule, world)
        part = shard(model, cfg, world, rows)
        share = len(range(n)[world.rows()])
        assert part.factors["W"].raw.shape[-2] == rows.x.shape[0] == share
        assert part.factors["H"].raw.shape == model.factors["H"].raw.shape
        assert rows.x.untyped_storage().nbytes() == rows.x.numel() * rows.x.element_size()


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_several_processes_agree_with_one(tmp_path, name):
    (several, *words), found = RUNS[name], []
    data = () if set(SPARSE) <= set(words) else DATA
    scipy.sparse.save_npz(tmp_path / "x.npz", scipy.sparse.random(61, 14, 0.3, "csr", rng=0))
    for size in (1, several):
        own = ("trainer=ddp", f"trainer.devices={size}") if size > 1 else ()
        folder = tmp_path / str(size)
        folder.mkdir()
        script = folder / "train.py"  # the other processes run the same file again
        script.write_text(TRAIN)
        done = subprocess.run(
            [sys.executable, script, *data, *FEW, *words, *own, "run_dir=run"],
            cwd=folder, env=environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        found.append(results(folder / "run"))
    (loss, W, H, notes), other = found
    assert other[3] == notes
    assert other[0] == pytest.approx(loss, rel=1e-9)
    np.testing.assert_allclose(other[1], W, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other[2], H, rtol=1e-6, atol=1e-9)


def results(folder: Path) -> tuple[float, np.ndarray, np.ndarray, list[str]]:
    with np.load(folder / "factors.npz") as arrays:
        W, H = arrays["W"], arrays["H"]
    metrics = json.loads((folder / "metrics.json").read_text())
    return metrics["objective"], W, H, metrics.get("notes", [])


def test_what_ties_rows_together_is_refused(tmp_path):
    words = (*SHORT, "model=convex_nmf", "solver=mu", "trainer=ddp", "trainer.devices=2")
    message = refusal(*words, cwd=tmp_path)
    assert "ConvexNMF as configured ties rows" in message
    assert "convex_nmf" not in message  # other models are refused by the same sentence
    penalty = ("penalty=min_volume", "penalty.min_volume.on=W")
    volume = refusal(*SHORT, "solver=mu", *penalty, "trainer=ddp", cwd=tmp_path)
    assert "penalty=min_volume on W" in volume
    whole = refusal(*SHORT, "model=ica", "trainer=ddp", "trainer.devices=2", cwd=tmp_path)
    assert "no solver can do this in several processes: use trainer=default" in whole
    many = refusal(*SHORT, "solver=mu", "trainer=ddp", "trainer.devices=62", cwd=tmp_path)
    assert "62 processes for 61 rows" in many
