"""Covariates of samples: read, joined, encoded, used by a model, refused where they are unknown."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from shell import refusal, the_run, train

import nmfnet
from nmfnet.data import InMemory, RowSplit
from nmfnet.data.formats.covariates import Design, columns_of
from nmfnet.metrics import silhouette
from nmfnet.types import Batch

OWN: dict[str, Any] = {
    **{"figures": False, "threads": 1, "dtype": "float64", "n_components": 2},
    **{"model.hidden": [8], "model.decoder": [8], "solver": "adam_network"},
}
fit = functools.partial(nmfnet.fit, model="vae", **OWN)


@functools.cache
def cells() -> tuple[np.ndarray, pd.DataFrame]:
    """Cells in two batches, of which one has half of the genes ten times over."""
    rng = np.random.default_rng(0)
    profiles = rng.dirichlet(np.full(30, 0.7), size=1)
    second = np.arange(80) >= 40
    shift = np.where(second[:, None] & (np.arange(30) % 2 == 0), 10.0, 1.0)
    mean = 100 * profiles * shift
    names = [f"cell{i}" for i in range(80)]
    about = {"batch": np.where(second, "b", "a"), "depth": rng.normal(size=80)}
    return rng.negative_binomial(5, 5 / (5 + mean)).astype(float), pd.DataFrame(about, names)


def test_text_is_a_column_for_each_level_and_numbers_stay():
    _, about = cells()
    table = columns_of(about, list(about.index), 80)
    design = Design.of(table)
    assert design.names == ["batch=a", "batch=b", "depth"]
    values = design.encode(table)
    np.testing.assert_array_equal(values[:, 0] + values[:, 1], 1)
    np.testing.assert_array_equal(values[:, 2], about["depth"])
    assert Design.from_plain(json.loads(json.dumps(design.plain()))) == design
    shuffled = about.sample(frac=1, random_state=0)
    again = design.encode(columns_of(shuffled, list(about.index), 80))
    np.testing.assert_array_equal(again, values)
    assert design.classes(values) == {"batch": about["batch"].tolist()}


def test_a_decoder_that_knows_the_batch_leaves_it_out_of_the_code():
    X, about = cells()
    own = {"covariates": about[["batch"]], "max_iter": 150, "model.decoder": []}
    fitted, blind = fit(X, **own), fit(X, **own, **{"model.covariates": "none"})
    apart = silhouette(blind.transform(X), about["batch"])
    assert blind.metrics["covariate/batch/silhouette"] == pytest.approx(apart)
    assert fitted.metrics["covariate/batch/silhouette"] < 0.2 < apart
    assert fitted.metrics["train/elbo"] > blind.metrics["train/elbo"]
    assert any("does not read the covariates" in note for note in blind.notes)


def test_rows_of_another_batch_are_decoded_as_such():
    X, about = cells()
    fitted = fit(X, covariates=about, max_iter=50, **{"model.covariates": "both"})
    swapped = about.assign(batch=np.where(about["batch"] == "a", "b", "a"))
    ours, theirs = (fitted.reconstruct(X, covariates=c) for c in (about, swapped))
    assert np.abs(ours - theirs).max() > 0.1
    assert not np.allclose(
        fitted.transform(X, covariates=about), fitted.transform(X, covariates=swapped)
    )
    assert fitted.score(X, covariates=about) > fitted.score(X, covariates=swapped)
    assert fitted.inverse_transform(fitted.transform(X, covariates=about)).shape == X.shape


def test_each_batch_has_a_dispersion_of_its_own():
    rng = np.random.default_rng(1)
    theta = np.where(np.arange(400) < 200, 1.0, 6.0)[:, None]
    X = rng.negative_binomial(theta, theta / (theta + 20.0), (400, 40)).astype(float)
    about = {"batch": np.where(theta[:, 0] < 2, "a", "b")}
    fitted = nmfnet.fit(
        X, "nmf", n_components=1, loss="negative_binomial", covariates=about, dtype="float64",
        max_iter=100, figures=False, **{"loss.dispersion": "covariates"},
    )  # fmt: skip
    with torch.no_grad(), fitted.restarts(0):
        found = fitted.loss.theta({"covariates": torch.eye(2, dtype=torch.float64)}).numpy()
    assert np.median(found[0]) == pytest.approx(1, rel=0.2)
    assert np.median(found[1]) == pytest.approx(6, rel=0.2)
    with pytest.raises(nmfnet.UserError, match="mu has no rule for loss=negative_binomial"):
        nmfnet.fit(
            X, "nmf", n_components=1, loss="negative_binomial", covariates=about, solver="mu",
            **{"loss.dispersion": "covariates"},
        )  # fmt: skip


def test_what_a_model_does_not_know_is_refused_in_a_sentence():
    X, about = cells()
    fitted = fit(X, covariates=about, max_iter=5)
    other = about.assign(batch=about["batch"].replace("a", "z"))
    for given, said in (
        (None, r"was fitted with covariates \(batch, depth\), and these rows have none"),
        (other, "'batch' is 'z' in 40 samples, a level that no training sample has"),
        (about[["depth"]], "covariates has no column 'batch'"),
        (about.assign(depth="deep"), "was numbers in training, and these samples have text"),
        ({"batch": ["a"], "depth": [0.0]}, "has the shape"),
        (about.assign(depth=np.nan), "is missing in 80 of 80 samples"),
    ):
        with pytest.raises(nmfnet.UserError, match=said):
            fitted.transform(X, covariates=given)
    with pytest.raises(nmfnet.UserError, match="fitted without covariates"):
        fit(X, max_iter=5).transform(X, covariates=about)
    rare = about.copy()
    held, *_ = RowSplit()(InMemory(X=X).read(), 3).test_rows
    rare.iloc[held, 0] = "rare"
    with pytest.raises(nmfnet.UserError, match="with the covariate batch=rare are held out"):
        fit(X, covariates=rare, max_iter=1, split="rows", seed=3)


def test_one_class_and_numbers_that_may_be_names_are_said():
    X, _ = cells()
    notes = fit(X, covariates={"batch": ["a"] * 80, "plate": np.arange(80) % 3}, max_iter=2).notes
    assert any("'batch' is 'a' in all samples" in note for note in notes)
    assert any("'plate' has 3 whole values and is taken as a number" in note for note in notes)


def test_a_saved_model_knows_its_covariates(tmp_path):
    X, about = cells()
    fitted = fit(X, covariates=about, max_iter=5, run_dir=tmp_path / "run")
    loaded = nmfnet.load(tmp_path / "run")
    codes = [model.transform(X, covariates=about) for model in (fitted, loaded)]
    np.testing.assert_allclose(codes[0], codes[1], rtol=1e-10)
    with np.load(tmp_path / "run" / "factors.npz") as arrays:
        assert arrays["D1_covariates"].shape == (3, 8)


def test_a_command_reads_covariates_of_an_h5ad(tmp_path):
    anndata = pytest.importorskip("anndata", reason="the extra anndata is not installed")
    X, about = cells()
    anndata.AnnData(X, obs=about).write_h5ad(tmp_path / "cells.h5ad")
    words = ["model=vae", "data=table", "data.path=cells.h5ad", "data.label_column=batch"]
    words += ["model.n_components=2", "max_iter=20", "model.hidden=[6]", "model.decoder=[6]"]
    done = train(*words, "data.covariates=[batch,depth]", cwd=tmp_path)
    assert done.code == 0, done.err
    numbers = json.loads((the_run(tmp_path) / "metrics.json").read_text())
    assert "covariate/batch/silhouette" in numbers
    assert {"code.png", "terms.png", "dispersion.png"} <= {
        file.name for file in (the_run(tmp_path) / "figures").iterdir()
    }
    said = refusal(*words, "data.covariates=[btach]", cwd=tmp_path)
    assert "btach" in said
    assert "obs" in said


def test_batches_hold_the_covariates_of_their_rows():
    X, about = cells()
    fitted = fit(X, covariates=about, max_iter=2, batch_size=16, solver="adam_network")
    c = torch.from_numpy(Design.of(columns_of(about, None, 80)).encode(columns_of(about, None, 80)))
    rows = Batch(torch.from_numpy(X), torch.arange(80), extra={"covariates": c})
    with torch.no_grad(), fitted.restarts(0):
        whole = fitted.row_terms(rows)["data"]
        part = fitted.row_terms(rows.by_row(lambda t: t[7:9]))["data"]
    torch.testing.assert_close(whole[7:9], part)
