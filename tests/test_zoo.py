"""``hparams_search=model_zoo``: models are asked what they are for, and the table is a fair one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
import scipy.sparse as sp
from shell import refusal, train
from test_audio import tones
from test_sweep import rows_of

from nmfnet.config import options
from nmfnet.data import Audio
from nmfnet.run.check import Case
from nmfnet.run.memory import in_memory
from nmfnet.settings.words import configuration
from nmfnet.sweep.launchers.processes import Local
from nmfnet.sweep.search.zoo import Zoo, in_a_line, needs, why_not
from nmfnet.sweep.tables import by_loss, ended, ranked

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(4, (24, 10)).astype(float) + 1
LIST = sp.csr_matrix(RNG.integers(1, 6, (24, 10)) * (RNG.random((24, 10)) < 0.6), dtype=float)
LINKS = np.triu(RNG.random((24, 24)) < 0.4, 1).astype(float)
KINDS = {
    "fractions": {"X": COUNTS + 0.5},
    "signed": {"X": COUNTS - 5.25},
    "counts": {"X": COUNTS},
    "list": {"X": LIST, "mask": LIST != 0},
    "graph": {"X": LINKS + LINKS.T},
    "links": {"X": COUNTS, "graph": LINKS + LINKS.T},
    "views": {"X": COUNTS, "views": {"other": COUNTS[:, :6] + 0.5}},
    "labels": {"X": COUNTS, "labels": np.arange(24) % 2},
}


def asked(model: str, source, **settings) -> str | None:
    settings = {"threads": 1, **settings}
    return why_not(configuration({"model": model, **settings}), source)


# ---------------------------------------------------------------------- whom the data suit
@pytest.mark.parametrize("name", options("model"))
@pytest.mark.quick("nmf", "joint_nmf", "bpr", "reference_nmf")
def test_every_model_fits_its_own_example(name):
    cfg = configuration({"model": name, "threads": 1})
    if isinstance(cfg.model.get("n_components"), int):
        cfg = cfg.but(model={**cfg.model, "n_components": 3})
    case = Case(cfg, Path())
    cfg, source, _ = case.configured(case.example)
    assert why_not(cfg, source) == ("rows not in the order of time" if case.kind.ordered else None)


@pytest.mark.parametrize(
    ("kind", "fit", "left_out"),
    [
        ("fractions", "nmf pca kmeans", "lda:counts biased_mf:missing bpr:missing joint_nmf:view"),
        ("signed", "pca semi_nmf kmeans", "nmf:negative nmfd:negative graph_ae:links"),
        ("counts", "nmf lda vae autoencoder_free", "supervised_nmf:labels balsamico:covariates"),
        ("list", "nmf biased_mf bpr", "kmeans:entries lda:leave convex_nmf:dense"),
        ("graph", "nmf sym_nmf spectral", "graph_ae:links reference_nmf:known"),
        ("links", "nmf graph_ae", "sym_nmf:graph"),
        ("views", "nmf joint_nmf", "sorec:missing"),
        ("labels", "nmf supervised_nmf", "inmf:covariates"),
    ],
    ids=list(KINDS),
)
@pytest.mark.quick("counts", "list", "graph")
def test_models_are_chosen_by_what_the_data_are(kind, fit, left_out):
    source = in_memory(**KINDS[kind])
    assert {name: asked(name, source) for name in fit.split()} == dict.fromkeys(fit.split())
    for name, word in (pair.split(":") for pair in left_out.split()):
        assert word in (asked(name, source) or "")


def test_templates_of_rows_are_for_rows_in_time(tmp_path):
    scipy.io.wavfile.write(tmp_path / "a.wav", 8000, tones())
    assert asked("nmfd", Audio(path=str(tmp_path / "a.wav"))) is None
    assert asked("nmfd", in_memory(X=COUNTS)) == "rows not in the order of time"


def test_a_loss_of_the_users_own_is_no_sign_of_counts():
    cfg = configuration({"model": "nmf", "loss": "poisson", "threads": 1})
    source = in_memory(X=COUNTS + 0.5)
    assert why_not(cfg, source) == "counts only, and X has fractions"
    assert why_not(cfg, source, any_loss=True) is None


def test_held_out_entries_are_entries_that_are_missing():
    source = in_memory(X=COUNTS)
    assert asked("rsnmf", source) == "no entry is missing or held out"
    assert asked("rsnmf", source, split="entries") is None


def test_what_a_model_needs_is_what_its_example_brings():
    assert needs(configuration({"model": "nmf"})) == set()
    assert needs(configuration({"model": "joint_nmf"})) == {"views"}
    assert needs(configuration({"model": "sorec"})) == {"mask", "views"}
    assert needs(configuration({"model": "avae"})) == {"reference"}


# ---------------------------------------------------------------------- the table
def test_models_of_one_reason_stand_together():
    told = in_a_line({"a": "no labels", "b": "one view only", "c": "no labels"})
    assert told == "a, c (no labels); b (one view only)"


def record(folder: Path, model: str, loss: str, error: float, **more) -> dict:
    run = folder / f"{model}{error}"
    run.mkdir()
    (run / "config.yaml").write_text(f"choices: {{model: {model}, loss: {loss}}}")
    numbers = {"train/relative_error": error, "train/loss": 100 * error, "status": "budget"}
    words = {"job": 0, "overrides": [f"model={model}"], "status": "done"}
    return {**words, "run_dir": str(run), "metrics": {**numbers, **more}}


def test_only_models_of_one_loss_are_ranked(tmp_path):
    records = [
        record(tmp_path, "nmf", "frobenius", 0.3, status="converged"),
        record(tmp_path, "nmf", "frobenius", 0.1),
        record(tmp_path, "pca", "frobenius", 0.15),
        record(tmp_path, "lda", "own", 0.01),
        record(tmp_path, "flow", "own", 0.02),
    ]
    groups = by_loss(records)
    assert list(groups) == ["frobenius", "own of lda", "own of flow"]
    assert [name for name, _ in ranked(groups["frobenius"], "train/relative_error")] == [
        "pca",
        "nmf",
    ]
    assert ended(records[:2]) == "1 converged, 1 budget"
    with_fall = {**records[0], "metrics": records[0]["metrics"] | {"certificate/fall": 2e-4}}
    assert ended([with_fall]) == "converged (fall left 2.0e-04)"


def test_links_told_are_the_same_whatever_was_minimised(tmp_path):
    records = [
        record(tmp_path, "graph_ae", "own", 0.1, **{"link/auc": 0.9}),
        record(tmp_path, "sym_nmf", "frobenius", 0.2, **{"link/auc": 0.8}),
    ]
    assert list(by_loss(records)) == ["any loss"]
    assert [name for name, _ in ranked(records, "link/auc")] == ["graph_ae", "sym_nmf"]


# ---------------------------------------------------------------------- the command
FAST = ("-m", "max_iter=20", "figures=false", "threads=1", "hparams_search=model_zoo")


def lines_of(out: str) -> dict[str, str]:
    """Lines of the printed table by the model."""
    return {line.split()[0]: line for line in out.splitlines() if line.strip()}


def write_csv(file: Path, rows) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def of_table(folder: Path) -> tuple[str, ...]:
    names = [f"f{i}" for i in range(COUNTS.shape[1])]
    rows = ([f"s{i}", *row] for i, row in enumerate(COUNTS.astype(int).tolist()))
    write_csv(folder / "x.csv", [["", *names], *rows])
    return "data=table", "data.path=x.csv", "data.orientation=samples_by_features"


def of_list(folder: Path) -> tuple[str, ...]:
    at = LIST.tocoo()
    rows = zip(at.row.tolist(), at.col.tolist(), at.data.tolist(), strict=True)
    write_csv(folder / "x.csv", [["user", "item", "rating"], *rows])
    options = ("row=user", "column=item", "value=rating")
    return ("data=triples", "data.path=x.csv", *(f"data.{option}" for option in options))


def of_graph(folder: Path) -> tuple[str, ...]:
    write_csv(folder / "x.csv", (f"{a} {b}".split() for a, b in np.argwhere(LINKS)))
    return "data=graph", "data.path=x.csv"


@pytest.mark.parametrize(
    ("data", "chosen", "left_out"),
    [
        (of_table, ("nmf", "lda"), "bpr (no entry is missing or held out)"),
        (of_list, ("nmf", "rsnmf"), "pca (needs a dense X, and this one is sparse)"),
        (of_graph, ("nmf", "sym_nmf"), "pca (needs a dense X, and this one is sparse)"),
    ],
    ids=["counts", "list", "graph"],
)
@pytest.mark.quick("counts")
def test_the_command_runs_what_fits_and_names_the_rest(data, chosen, left_out, tmp_path):
    words = data(tmp_path)
    other = left_out.split()[0]
    models = f"model={','.join((*chosen, other))}"
    done = train(*FAST, *words, models, "model.n_components=3", "seed=0,1", cwd=tmp_path)
    assert done.code == 0, done.err
    lines = lines_of(done.out)
    assert f"left out: {left_out}" in done.out
    assert other not in lines
    for name in chosen:
        assert any(word in lines[name] for word in ("budget", "converged", "stopped early"))
        assert lines[name].split()[-1] != ""
    (sweep,) = tmp_path.glob("runs/sweeps/*")
    assert [row["model"] for row in rows_of(sweep)] == [name for name in chosen for _ in "12"]


def test_data_are_the_same_for_all(tmp_path):
    said = refusal(*FAST, "data=planted,digits", "model=nmf,pca", cwd=tmp_path)
    assert "one data set at a time" in said


def test_where_nothing_fits_nothing_runs(tmp_path):
    said = refusal(*FAST, "data=planted", "model=sym_nmf,bpr", cwd=tmp_path)
    assert "no model fits these data: sym_nmf (needs a graph, and X is 200 x 50); bpr (no" in said


def test_a_misspelt_option_is_not_a_property_of_models(tmp_path):
    said = refusal(*FAST, "data=planted", "model=nmf,pca", "max_itr=3", cwd=tmp_path)
    assert "max_iter" in said


def test_every_model_that_fits_has_three_seeds(tmp_path, monkeypatch):
    whys = dict.fromkeys(options("model")) | {"nmfd": "no time", "inmf": "no labels"}
    launched = []
    monkeypatch.setattr(Zoo, "_asked", lambda self, names, words: {n: whys[n] for n in names})
    monkeypatch.setattr(Local, "launch", lambda self, jobs, first: launched.extend(jobs))
    done = train(*FAST, "data=planted", "hydra.sweep.dir=here", cwd=tmp_path)
    assert done.code == 0, done.err
    wanted = [name for name, why in whys.items() if why is None]
    assert [job[0] for job in launched] == [f"model={name}" for name in wanted for _ in range(3)]
    assert {word for job in launched for word in job if "seed" in word} == {
        *("++seed=0", "++seed=1", "++seed=2")
    }
    told = json.loads((tmp_path / "here" / "zoo.json").read_text())
    assert told == {"chosen": wanted, "left_out": "inmf (no labels); nmfd (no time)"}


def test_another_sweep_in_its_folder_has_the_table_of_sweeps(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "zoo.json").write_text('{"chosen": ["pca"], "left_out": "nmf (no)"}')
    (tmp_path / "here" / "sweep.json").write_text('{"arguments": [], "cwd": ".", "pid": 0}')
    words = ("-m", "data=planted", "max_iter=20", "figures=false", "threads=1", "model=pca,svd")
    done = train(*words, "hydra.sweep.dir=here", cwd=tmp_path)
    assert done.code == 0, done.err
    assert not (tmp_path / "here" / "zoo.json").exists()
    assert "left out" not in done.out
