"""Programmes of single cells: variable genes, the density filter, all genes, and the files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from shell import refusal, train

import nmfnet
from nmfnet.errors import UserError
from nmfnet.metrics import dense_consensus, gene_scores, gene_variability, match_components
from nmfnet.metrics.cells import moments, per_cell
from nmfnet.plots.programs import component_density, marker_genes

FEW = {"selection.replicates": 6, "selection.top_genes": 60}


def cells(seed: int = 0, n: int = 150, f: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, shares of three programmes in every cell, and the programmes (per million)."""
    rng = np.random.default_rng(seed)
    programs = rng.gamma(2.0, 1.0, f) * np.ones((3, 1))
    for k in range(3):
        programs[k, 20 * k : 20 * (k + 1)] *= 8
    programs *= 1e6 / programs.sum(1, keepdims=True)
    usages = rng.dirichlet(np.full(3, 0.3), n)
    depth = rng.lognormal(8, 0.4, (n, 1))
    return rng.poisson(depth * usages @ programs / 1e6).astype(float), usages, programs


# ---------------------------------------------------------------------- variable genes
def test_genes_that_vary_between_programmes_come_first():
    score = gene_variability(cells()[0])
    assert set(np.argsort(-score)[:60]) == set(range(60))


@pytest.mark.parametrize("rule", ["fano", "seurat"])
def test_neither_depth_nor_storage_changes_the_choice(rule):
    counts, _, _ = cells()
    score = gene_variability(counts, rule)
    np.testing.assert_allclose(gene_variability(sp.csr_matrix(counts), rule), score, rtol=1e-8)
    deeper = counts * np.linspace(1, 5, len(counts))[:, None]
    np.testing.assert_allclose(gene_variability(deeper, rule), score, rtol=1e-8)


@pytest.mark.parametrize("rule", ["fano", "seurat"])
def test_genes_without_counts_come_last(rule):
    counts, _, _ = cells()
    counts[:, [3, 70]] = 0
    assert (np.flatnonzero(gene_variability(counts, rule) == -np.inf) == [3, 70]).all()
    assert (gene_variability(np.zeros((4, 5)), rule) == -np.inf).all()
    assert not np.isnan(gene_variability(np.ones((4, 5)), rule)).any()


def test_the_rules_are_what_they_say():
    with pytest.raises(UserError, match="fano, seurat"):
        gene_variability(np.ones((3, 3)), "cv")  # type: ignore[arg-type]
    counts, _, _ = cells()
    mean, variance = moments(per_cell(counts))
    fano = variance / mean
    least = (np.sqrt(variance) / mean)[np.argsort(-mean)[:20]].min()
    middle = [(v > np.quantile(v, 0.1)) & (v < np.quantile(v, 0.9)) for v in (mean, fano)]
    expected = fano / (least**2 * mean + np.median(fano[middle[0] & middle[1]]))
    np.testing.assert_allclose(gene_variability(counts), expected)
    table = pd.DataFrame(per_cell(counts, 1e4))
    bins = pd.cut(np.log1p(table.mean()), 20)
    groups = np.log(table.var() / table.mean()).groupby(bins, observed=True)
    expected = groups.transform(lambda x: (x - x.mean()) / x.std() if len(x) > 1 else 1.0)
    np.testing.assert_allclose(gene_variability(counts, "seurat"), expected, atol=1e-9)


@pytest.mark.filterwarnings("ignore")  # scanpy calls pandas as before its version 3
def test_variable_genes_are_those_of_scanpy():
    scanpy = pytest.importorskip("scanpy", reason="scanpy is not installed")
    anndata = pytest.importorskip("anndata")
    counts, _, _ = cells(1)
    table = anndata.AnnData(sp.csr_matrix(counts))
    scanpy.pp.normalize_total(table, target_sum=1e4)
    scanpy.pp.log1p(table)
    scanpy.pp.highly_variable_genes(table, n_top_genes=40)
    ours = gene_variability(counts, "seurat")
    np.testing.assert_allclose(ours, table.var["dispersions_norm"], rtol=1e-4, atol=1e-5)
    assert set(np.argsort(-ours)[:40]) == set(np.flatnonzero(table.var["highly_variable"]))


# ---------------------------------------------------------------------- scores
def test_scores_are_least_squares_of_standardised_expression():
    counts, usages, _ = cells()
    counts[:, 5] = 7
    x = per_cell(counts)
    x[:, 5] = 7
    z = (x - x.mean(0)) / np.where(x.std(0) > 1e-9, x.std(0), 1)
    expected = np.linalg.lstsq(usages, z, rcond=None)[0]
    found = gene_scores(x, usages)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(gene_scores(sp.csr_matrix(x), usages), found, atol=1e-9)
    assert (found[:, 5] == 0).all()


# ---------------------------------------------------------------------- consensus
def test_components_without_neighbours_are_left_out():
    rng = np.random.default_rng(0)
    truth = rng.gamma(0.5, 1.0, (3, 40))
    stack = truth + 0.01 * rng.random((10, 3, 40))
    shuffled = np.array([one[rng.permutation(3)] * rng.uniform(1, 9) for one in stack])
    shuffled[2, 1], shuffled[7, 0] = rng.gamma(0.5, 1.0, (2, 40))
    found = dense_consensus(shuffled)
    assert np.argwhere(~found.kept).tolist() == [[2, 1], [7, 0]]
    assert match_components(found.components, truth).scores.min() > 0.999
    np.testing.assert_allclose(found.components.sum(1), 1)
    assert (found.silhouettes > 0.9).all()
    for members, one in zip(found.members, shuffled, strict=True):
        assert sorted(members) == [0, 1, 2]
        pairs = match_components(found.components, one[members])
        assert pairs.columns.tolist() == [0, 1, 2]
    assert dense_consensus(shuffled, density=2).kept.all()


def test_a_filter_that_would_leave_too_few_leaves_all():
    stack = np.random.default_rng(0).gamma(0.3, 1.0, (5, 3, 40))
    found = dense_consensus(stack, density=0.01)
    assert found.kept.all()
    assert (found.distances >= 0.01).all()


# ---------------------------------------------------------------------- the workflow
def selected(counts, **options):
    return nmfnet.select_rank(counts, [3], selection="programs", **{**FEW, **options})


@pytest.mark.parametrize("sparse", [False, True])
def test_planted_programmes_are_found(sparse):
    counts, usages, programs = cells()
    counts[7], counts[:, 119] = 0, 0
    found = selected(sp.csr_matrix(counts) if sparse else counts)
    made = found.programs
    assert made.fitted.sum() == 60
    pairs = match_components(made.tpm, programs)
    assert pairs.scores.min() > 0.99
    assert made.tpm.sum(1) == pytest.approx([1e6] * 3, rel=0.05)
    seen = np.arange(len(counts)) != 7
    ours, true = made.usages[seen][:, pairs.rows], usages[seen][:, pairs.columns]
    assert np.abs(ours - true).mean() < 0.05
    assert ours.sum(1) == pytest.approx(np.ones(149))
    assert (made.usages[7] == 0).all()
    assert [name == "" for name in made.largest()] == (~seen).tolist()
    assert (made.scores[:, 119] == 0).all()
    for k, genes in made.markers(15):
        block = int(pairs.columns[pairs.rows.tolist().index(k)])
        assert set(genes) <= set(range(20 * block, 20 * (block + 1)))
    notes = " ".join(found.notes)
    assert "1 of 150 samples are zero in every feature" in notes
    assert "1 cells have no count in the chosen genes" in notes
    assert "60 of 120 genes" in notes


def test_the_folder_and_more_starts(tmp_path):
    counts, _, _ = cells()
    own = {"selection": "programs", "run_dir": tmp_path, "figures": False, **FEW}
    found = nmfnet.select_rank(counts, "2:3", **own)
    assert found.n_components == 3
    files = {file.relative_to(tmp_path / "fits").as_posix() for file in tmp_path.rglob("K*/*.npz")}
    assert files == {
        f"K00{k}/{kind}.npz" for k in (2, 3) for kind in ("restarts_000", "starts_006")
    }
    with (tmp_path / "rank_selection.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["kept"] for row in rows] == ["1", "1"]
    with (tmp_path / "marker_genes.csv").open() as file:
        markers = list(csv.DictReader(file))
    best = [row for row in markers if row["rank"] == "1"]
    assert [row["program"] for row in best] == found.names
    assert all(row["fitted"] == "True" for row in best)
    usages = np.loadtxt(tmp_path / "usages.csv", delimiter=",", skiprows=1, usecols=(1, 2, 3))
    np.testing.assert_allclose(usages, found.programs.usages, atol=1e-5)
    for name in ("programs_tpm", "programs_scores"):
        lines = (tmp_path / f"{name}.csv").read_text().splitlines()
        assert len(lines) == 1 + counts.shape[1]
    (line, *_) = found.programs.lines()
    assert line.startswith(f"{found.names[0]} (")
    assert set(found.programs.figures()) == {"marker_genes", "component_density"}


def test_a_list_of_genes(tmp_path):
    counts, _, _ = cells()
    file = tmp_path / "genes.txt"
    names = [f"g{i}" for i in range(120)]
    table = pd.DataFrame(counts, columns=names)
    file.write_text("\n".join(names[:60][::-1]) + "\n")
    found = selected(table, **{"selection.genes": str(file)})
    assert found.feature_names == names[:60]
    file.write_text("\n")
    with pytest.raises(UserError, match="nothing to fit"):
        selected(table, **{"selection.genes": str(file)})
    file.write_text("g0\nh1\n")
    with pytest.raises(UserError, match="'h1'"):
        selected(table, **{"selection.genes": str(file)})


def logged(counts):
    return np.log1p(per_cell(counts, 1e4))


@pytest.mark.parametrize(
    ("change", "options", "fragment"),
    [
        (lambda x: x - 1, {}, "negative, so X holds no counts"),
        (logged, {}, r"log\(1 \+ counts"),
        (lambda x: np.full_like(x, 3), {}, "nothing to fit"),
        (lambda x: x, {"mask": np.eye(150, 120) == 0}, "every entry"),
        (lambda x: x, {"selection.genes": "seurrat"}, "Did you mean 'seurat'"),
        (lambda x: x, {"selection.density": 0}, "must be > 0"),
        (lambda x: x, {"selection.neighbours": 2}, r"must be in \(0, 1\]"),
        (lambda x: x, {"selection.top_genes": 0}, "must be >= 1"),
    ],
)
def test_what_cannot_be_used_is_refused(change, options, fragment):
    with pytest.raises(UserError, match=fragment):
        selected(change(cells()[0]), **options)


def test_fractions_and_a_filter_without_effect_are_said():
    counts = cells()[0]
    notes = " ".join(selected(counts * 0.37, **{"selection.density": 1e-9}).notes)
    assert "are fractions, and are taken as counts" in notes or "cells weigh alike" in notes
    assert "none was left out" in notes


# ---------------------------------------------------------------------- pictures
def test_pictures_show_each_marker_once_and_the_threshold():
    scores = np.array([[3.0, 1.0, -1.0], [2.0, -1.0, 1.0]])
    figure = marker_genes(scores, [[0, 1], [0, 2]], ["a", "b", "c"], ["P1", "P2"])
    axes = next(axes for axes in figure.axes if axes.get_label() == "scores")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c"]
    with pytest.raises(UserError, match="No gene"):
        marker_genes(-np.ones((2, 3)), [[], []])
    figure = component_density(np.array([[0.1, 0.2], [0.1, 0.9]]), 0.5)
    assert "3 of 4 components" in figure.texts[0].get_text()


# ---------------------------------------------------------------------- the command
def test_the_command(tmp_path):
    table = pd.DataFrame(cells()[0]).add_prefix("gene")
    table.to_csv(tmp_path / "x.csv")
    words = ("data.path=x.csv", "data.orientation=samples_by_features", "ranks=3", "run_dir=run")
    few = ("selection.replicates=4", "selection.top_genes=60", "figures=false")
    done = train("experiment=cell_programs", *words, *few, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "marker genes" in done.out
    assert "kept" in done.out
    assert (tmp_path / "run" / "marker_genes.csv").is_file()


@pytest.mark.slow
def test_the_command_reads_and_writes_h5ad(tmp_path):
    anndata = pytest.importorskip("anndata", reason="the extra anndata is not installed")
    counts, _, _ = cells()
    names = [
        pd.Index([f"{word}{i}" for i in range(n)], dtype=object)
        for word, n in zip(("cell", "gene"), counts.shape, strict=True)
    ]
    tables = [pd.DataFrame(index=index) for index in names]
    table = anndata.AnnData(logged(counts), *tables, layers={"counts": sp.csr_matrix(counts)})
    table.write_h5ad(tmp_path / "x.h5ad")
    words = ("experiment=cell_programs", "data.path=x.h5ad", "ranks=2:3", "run_dir=run")
    words = (*words, "selection.replicates=4", "selection.top_genes=60")
    refused = refusal(*words, cwd=tmp_path)
    assert "data.layer=counts" in refused
    done = train(*words, "data.layer=counts", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "marker genes" in done.out
    found = anndata.read_h5ad(tmp_path / "run" / "programs.h5ad")
    assert list(found.obs_names) == list(names[0])
    assert list(found.var_names) == list(names[1])
    assert found.obsm["X_programs"].shape == (150, 3)
    assert found.varm["programs_scores"].shape == found.varm["programs_tpm"].shape == (120, 3)
    assert list(found.uns["programs"]["names"]) == ["C1", "C2", "C3"]
    assert found.var["fitted"].sum() == 60
    drawn = {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")}
    assert {"marker_genes", "component_density", "rank_selection"} <= drawn
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["n_components"] == 3
