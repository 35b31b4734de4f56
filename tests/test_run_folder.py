"""The run folder, file by file and key by key, and finding a run again."""

from __future__ import annotations

import csv
import json
import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from shell import FAST, TRAIN, Done, environment, stamps, the_message, the_run, train

import nmfnet
from nmfnet.config import check_config, run_id
from nmfnet.errors import UserError
from nmfnet.run.lock import locked

FILES = [
    "config.yaml",
    "factors.npz",
    "feature_scores.csv",
    "history.csv",
    "metrics.json",
    "model.ckpt",
    "provenance.json",
    "top_features.csv",
]
N, F, K = 60, 12, 3


def write_table(folder: Path) -> tuple[np.ndarray, list[str]]:
    """A csv of counts with names and two tissues; returns the counts and the sample names."""
    rng = np.random.default_rng(0)
    W, H = rng.gamma(0.5, size=(N, K)), rng.gamma(0.5, size=(K, F))
    X = rng.poisson(30 * W @ H) + rng.integers(1, 3, (N, F))
    names = [f"tumour-{i}" for i in range(N)]
    rows = [["sample", "tissue", *(f"channel{j}" for j in range(F))]]
    rows += [[names[i], "lung" if i % 3 else "skin", *X[i].tolist()] for i in range(N)]
    with (folder / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return X.astype(float), names


TABLE = (
    "data=table",
    "data.path=x.csv",
    "data.orientation=samples_by_features",
    "data.label_column=tissue",
    f"model.n_components={K}",
    "solver=mu",
    "max_iter=300",
)


def strict(file: Path) -> dict[str, Any]:
    """A json file without NaN or Infinity, which are no json."""

    def refuse(word: str) -> None:
        raise ValueError(f"{file.name} holds {word}")

    content = json.loads(file.read_text(), parse_constant=refuse)
    assert isinstance(content, dict)
    return content


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, Done, np.ndarray, list[str]]:
    """A run with everything: labels, restarts, held-out rows, two penalties, figures."""
    folder = tmp_path_factory.mktemp("run")
    X, names = write_table(folder)
    words = (*TABLE, "loss=kl", "n_restarts=5", "split=rows", "penalty=[l1,l2]", "dtype=float64")
    done = train(*words, "penalty.l2.weight=0.5", cwd=folder)
    assert done.code == 0, done.err
    return the_run(folder), done, X, names


def test_the_run_folder_holds_what_the_contract_says(run):
    folder, done, _, _ = run
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "figures"])
    assert done.out.rstrip().endswith(f"results in runs/nmf/{folder.name}")
    assert done.err == ""


def test_the_configuration_is_plain_resolved_and_names_the_folder(run):
    folder, *_ = run
    text = (folder / "config.yaml").read_text()
    stored = yaml.safe_load(text)
    assert "${" not in text
    assert "???" not in text
    assert folder.name == run_id(stored)
    check_config(stored)
    assert stored["choices"]["penalty"] == ["l1", "l2"]
    assert stored["penalty"]["l2"] == {
        "_target_": "nmfnet.core.penalties.L2",
        "on": "H",
        "weight": 0.5,
    }


def test_the_metrics_have_the_keys_of_the_contract(run):
    folder, *_ = run
    numbers = strict(folder / "metrics.json")
    for part in ("train", "test"):
        assert {f"{part}/{key}" for key in ("loss", "relative_error", "kl")} <= set(numbers)
    assert isinstance(numbers["n_iter"], int)
    assert 0 < numbers["n_iter"] <= 300
    assert isinstance(numbers["converged"], bool)
    assert numbers["seconds"] > 0
    assert numbers["n_restarts"] == 5
    assert any(key.startswith("stability/") for key in numbers)
    assert {"labels/ari", "labels/nmi"} <= set(numbers)
    assert all(isinstance(note, str) for note in numbers.pop("notes"))
    assert numbers.pop("solver") == "mu"
    assert numbers.pop("status") in ("converged", "budget")
    assert numbers["certificate/fall"] >= 0
    assert all(isinstance(value, int | float) for value in numbers.values())


def test_the_metrics_are_those_of_the_factors(run):
    folder, _, X, names = run
    numbers, arrays = strict(folder / "metrics.json"), np.load(folder / "factors.npz")
    W, H = arrays["W"], arrays["H"]
    place = {name: i for i, name in enumerate(names)}
    for part, code, who in (
        ("train", W, arrays["sample_names"]),
        ("test", arrays["W_test"], arrays["test_sample_names"]),
    ):
        x, x_hat = X[[place[name] for name in who]], code @ H
        error = np.linalg.norm(x - x_hat) / np.linalg.norm(x)
        assert numbers[f"{part}/relative_error"] == pytest.approx(error, rel=1e-9)
        kl = np.where(x > 0, x * np.log(np.maximum(x, 1e-300) / x_hat), 0) - x + x_hat
        assert numbers[f"{part}/kl"] == pytest.approx(kl.sum(), rel=1e-9)
        assert numbers[f"{part}/loss"] == pytest.approx(kl.sum(), rel=1e-9)
    penalty = 0.1 * H.sum() + 0.25 * (H**2).sum()
    assert numbers["objective"] == pytest.approx(numbers["train/loss"] + penalty, rel=1e-9)


def test_the_factors_are_named_and_in_order(run):
    folder, _, _, names = run
    arrays = np.load(folder / "factors.npz", allow_pickle=False)
    assert set(arrays.files) == {
        *("W", "H", "axes", "sample_names", "feature_names", "component_names"),
        *("W_test", "test_sample_names"),
    }
    n_test = len(arrays["test_sample_names"])
    assert n_test == 12
    assert arrays["W"].shape == (N - n_test, K)
    assert arrays["W_test"].shape == (n_test, K)
    assert arrays["H"].shape == (K, F)
    assert arrays["W"].dtype == arrays["H"].dtype == np.float64
    assert arrays["W"].min() >= 0
    assert arrays["H"].min() >= 0
    assert arrays["feature_names"].tolist() == [f"channel{j}" for j in range(F)]
    parts = [arrays["sample_names"].tolist(), arrays["test_sample_names"].tolist()]
    assert sorted(parts[0] + parts[1]) == sorted(names)
    assert all(part == sorted(part, key=names.index) for part in parts)


def test_the_history_is_one_line_per_step(run):
    folder, *_ = run
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"iteration", "seconds", "objective", "objective_max"} <= set(rows[0])
    assert {"term/data", "term/l1", "term/l2"} <= set(rows[0])
    iterations = [int(row["iteration"]) for row in rows]
    assert iterations == [100, 200, 300][: len(rows)]
    objective = [float(row["objective"]) for row in rows]
    assert objective == sorted(objective, reverse=True)
    assert objective[-1] == pytest.approx(strict(folder / "metrics.json")["objective"], rel=1e-9)
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    terms = sum(float(rows[-1][f"term/{name}"]) for name in ("data", "l1", "l2"))
    assert terms == pytest.approx(objective[-1], rel=1e-9)


def test_the_checkpoint_is_tensors_and_plain_values(run):
    folder, *_ = run
    saved = torch.load(folder / "model.ckpt", weights_only=True)
    assert {"state_dict", "nmfnet"} <= set(saved)
    assert json.loads(json.dumps(saved["nmfnet"]["config"])) == saved["nmfnet"]["config"]
    assert saved["nmfnet"]["config"] == yaml.safe_load((folder / "config.yaml").read_text())


def test_the_checkpoint_gives_the_model_back(run):
    folder, _, X, names = run
    model, arrays = nmfnet.load(folder), np.load(folder / "factors.npz")
    np.testing.assert_array_equal(model.components_, arrays["H"])
    place = {name: i for i, name in enumerate(names)}
    rows = X[[place[name] for name in arrays["test_sample_names"]]]
    np.testing.assert_allclose(model.transform(rows), arrays["W_test"], rtol=1e-6, atol=1e-8)
    assert model.reconstruct(rows).shape == rows.shape
    assert nmfnet.load(folder / "model.ckpt").components_.shape == (K, F)


def test_the_provenance_says_what_ran_on_what(run):
    import hashlib

    folder, *_ = run
    origin = strict(folder / "provenance.json")
    assert origin["versions"]["nmfnet"] == nmfnet.__version__
    assert origin["versions"]["torch"] == torch.__version__
    assert origin["seed"] == 0
    data = folder.parents[2] / "x.csv"
    assert origin["data_files"] == {"x.csv": hashlib.sha256(data.read_bytes()).hexdigest()}
    assert len(origin["data_sha256"]) == 64
    assert origin["git"] is None or set(origin["git"]) == {"commit", "changed"}
    assert origin["device"] == "cpu" or origin["device"].startswith("cuda")
    assert "data=table" in origin["command"]


def test_the_figures_are_pictures(run):
    folder, *_ = run
    figures = sorted(folder.glob("figures/*"))
    names = {path.stem for path in figures}
    assert {"convergence", "components", "reconstruction", "weights_by_class", "restarts"} <= names
    for path in figures:
        assert path.suffix == ".png"
        assert path.read_bytes().startswith(b"\x89PNG")


# ---------------------------------------------------------------------- finding a run again
def test_a_run_that_is_found_says_its_notes_again(tmp_path):
    words = ("data=digits", "max_iter=5", "figures=false")
    first, again = (train(*words, cwd=tmp_path) for _ in range(2))
    notes = [line for line in first.out.splitlines() if line.startswith("note: 3 of 64 features")]
    assert len(notes) == 1
    assert notes[0] in again.out.splitlines()


def test_the_same_run_is_found_and_force_runs_it_again(tmp_path):
    first = train(*FAST, cwd=tmp_path)
    before = stamps(tmp_path)
    again = train(*FAST, cwd=tmp_path)
    assert again.code == 0
    assert again.new == []
    assert stamps(tmp_path) == before
    assert "finished before" in again.out
    assert "force=true" in again.out
    assert first.out.splitlines()[0] in again.out
    same = train(*FAST, "threads=1", "logger=none", "progress=false", cwd=tmp_path)
    assert "finished before" in same.out
    forced = train(*FAST, "force=true", cwd=tmp_path)
    assert "finished before" not in forced.out
    assert f"{the_run(tmp_path).relative_to(tmp_path)}/metrics.json" in forced.new
    assert len(list(tmp_path.glob("runs/*/*"))) == 1


def test_a_found_run_needs_no_torch(tmp_path):
    """Finding takes a moment: what takes seconds to import is not."""
    from shell import finished, start

    train(*FAST, cwd=tmp_path)
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
        "from nmfnet.cli import main; main()"
    )
    done = finished(start(*FAST, cwd=tmp_path, code=code), tmp_path, stamps(tmp_path))
    assert done.code == 0
    assert "finished before" in done.out
    assert done.err == "False\n"
    assert done.new == []


def test_a_changed_table_is_run_again(tmp_path):
    write_table(tmp_path)
    words = (*TABLE, "figures=false", "max_iter=20")
    first = train(*words, cwd=tmp_path)
    assert "finished before" in train(*words, cwd=tmp_path).out
    text = (tmp_path / "x.csv").read_text().splitlines()
    text[1] = text[1].rpartition(",")[0] + ",4000"
    (tmp_path / "x.csv").write_text("\n".join(text) + "\n")
    changed = train(*words, cwd=tmp_path)
    assert "finished before" not in changed.out
    assert changed.out.splitlines()[0] != first.out.splitlines()[0]
    assert "finished before" in train(*words, cwd=tmp_path).out


def test_the_stored_configuration_can_be_run(tmp_path):
    train(*FAST, "model=convex_nmf", "seed=4", cwd=tmp_path)
    folder = the_run(tmp_path)
    numbers = strict(folder / "metrics.json")
    stored = ("--config-dir", str(folder), "--config-name", "config")
    again = train(*stored, cwd=tmp_path)
    assert "finished before" in again.out
    assert again.new == []
    forced = train(*stored, "force=true", cwd=tmp_path)
    assert forced.code == 0
    assert strict(folder / "metrics.json")["objective"] == numbers["objective"]
    other = train(*stored, "seed=5", cwd=tmp_path)
    assert other.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    assert len(list(tmp_path.glob("runs/convex_nmf/*/metrics.json"))) == 2
    sweep = train("-m", *stored, "seed=5,6", cwd=tmp_path)
    assert sweep.code == 0
    assert "found" in sweep.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_a_run_without_results_is_run_again(tmp_path):
    train(*FAST, cwd=tmp_path)
    (the_run(tmp_path) / "metrics.json").unlink()
    done = train(*FAST, cwd=tmp_path)
    assert "finished before" not in done.out
    assert (the_run(tmp_path) / "metrics.json").exists()


@pytest.mark.slow
def test_nothing_of_an_earlier_run_stays_in_the_folder(tmp_path):
    write_table(tmp_path)
    words = (*TABLE, "run_dir=here", "force=true", "max_iter=20")
    train(*words, "n_restarts=2", cwd=tmp_path)
    assert (tmp_path / "here/figures/restarts.png").exists()
    train(*words, cwd=tmp_path)
    assert not (tmp_path / "here/figures/restarts.png").exists()


def test_folders_can_be_chosen(tmp_path):
    exact = train(*FAST, "run_dir=deep/down/here", cwd=tmp_path)
    assert {f"deep/down/here/{name}" for name in FILES} <= set(exact.new)
    assert "results in deep/down/here" in exact.out
    elsewhere = train(*FAST, "seed=1", f"runs={tmp_path}/other", cwd=tmp_path)
    assert elsewhere.code == 0
    assert len(list(tmp_path.glob("other/nmf/*/metrics.json"))) == 1
    assert not (tmp_path / "runs").exists()


def test_no_figures_when_not_asked_for(tmp_path):
    train(*FAST, cwd=tmp_path)
    assert list(the_run(tmp_path).glob("figures/*")) == []


# ---------------------------------------------------------------------- the settings of a run
@pytest.mark.parametrize("words", ["split=rows n_restarts=2", "batch_size=16 solver=adam"])
def test_the_same_seed_gives_the_same_bits(words, tmp_path):
    for name in ("one", "two"):
        done = train(*FAST, "seed=3", *words.split(), f"run_dir={name}", cwd=tmp_path)
        assert done.code == 0, done.err
    one, two = (np.load(tmp_path / name / "factors.npz") for name in ("one", "two"))
    assert all(np.array_equal(one[key], two[key]) for key in one.files)


def test_held_out_entries_are_scored_and_not_trained_on(tmp_path):
    X, _ = write_table(tmp_path)
    done = train(*TABLE, "split=entries", "split.fraction=0.2", "run_dir=here", cwd=tmp_path)
    assert done.code == 0, done.err
    numbers, arrays = strict(tmp_path / "here/metrics.json"), np.load(tmp_path / "here/factors.npz")
    x_hat = arrays["W"] @ arrays["H"]
    assert arrays["W"].shape == (N, K)
    whole = ((X - x_hat) ** 2).sum()
    parts = []
    for part in ("train", "test"):
        # loss = sum of squares / 2 over the entries of the part
        parts.append(2 * numbers[f"{part}/loss"])
        assert 0 < numbers[f"{part}/relative_error"] < 1
    assert sum(parts) == pytest.approx(whole, rel=1e-4)
    assert numbers["test/mse"] * 0.2 * X.size == pytest.approx(parts[1], rel=0.02)


@pytest.mark.parametrize(
    ("words", "dtype"),
    [
        ("solver=adam batch_size=16", np.float32),
        ("solver=adam batch_size=1000", np.float32),
        ("dtype=float64", np.float64),
        ("model=autoencoder solver=adam batch_size=16 split=rows", np.float32),
        ("model=projective_nmf loss=kl n_restarts=3", np.float32),
        ("penalty=[l1,orthogonal] penalty.l1.on=W", np.float32),
        ("init=nndsvda", np.float32),
        ("time_limit=0.2 tol=0 max_iter=10000000", np.float32),
    ],
)
def test_runs_of_many_settings_end_well(words, dtype, tmp_path):
    done = train(*FAST, *words.split(), cwd=tmp_path)
    assert done.code == 0, done.err
    folder = the_run(tmp_path)
    arrays, numbers = np.load(folder / "factors.npz"), strict(folder / "metrics.json")
    assert arrays["H"].dtype == dtype
    assert math.isfinite(numbers["train/relative_error"])
    model = nmfnet.load(folder)
    np.testing.assert_array_equal(model.components_, arrays["H"])
    assert model.transform(np.ones((2, 50))).shape == (2, 3)


def test_a_given_start_continues_a_run(tmp_path):
    train(*FAST, "run_dir=one", cwd=tmp_path)
    words = (*FAST, "init=given", "init.path=one/factors.npz", "run_dir=two")
    done = train(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    one, two = (strict(tmp_path / name / "metrics.json") for name in ("one", "two"))
    assert two["objective"] < one["objective"]


def test_undefined_numbers_are_null(tmp_path):
    from nmfnet.run.stored import without_nan

    assert without_nan({"a": math.nan, "b": math.inf, "c": 1.5, "d": 2, "e": True}) == {
        **dict.fromkeys("ab"),
        **{"c": 1.5, "d": 2, "e": True},
    }


def test_the_command_is_in_the_provenance(tmp_path):
    train(*FAST, "seed=9", cwd=tmp_path)
    command = strict(the_run(tmp_path) / "provenance.json")["command"]
    assert [word.lstrip("+") for word in command] == ["nmfnet-train", *FAST, "seed=9"]
    assert sys.argv != command


# ---------------------------------------------------------------------- one process at a time
def test_a_folder_in_use_is_refused_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("nmfnet.run.lock.BEAT", 1e6)  # no sign of life meanwhile
    with locked(tmp_path / "run"):
        before = stamps(tmp_path)
        done = train(*FAST, "run_dir=run", cwd=tmp_path)
        assert done.code == 2
        message = the_message(done)
        assert f"run is being written by process {os.getpid()} on {socket.gethostname()}" in message
        assert stamps(tmp_path) == before
    assert not (tmp_path / "run").exists()
    assert train(*FAST, "run_dir=run", cwd=tmp_path).code == 0
    assert not (tmp_path / "run" / "lock.json").exists()


@pytest.mark.parametrize("at_start", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        ("ranks=2:3", "run_dir=held"),
        ("-m", "seed=1,2", "hydra.sweep.dir=held"),
        ("-m", "hparams_search=optuna", "++seed=choice(1,2)", "hydra.sweep.dir=held"),
    ],
)
def test_so_are_the_folders_of_selections_and_sweeps(words, at_start, tmp_path, monkeypatch):
    if "hparams_search=optuna" in words:
        pytest.importorskip("optuna")
    monkeypatch.setattr("nmfnet.run.lock.BEAT", 1e6)
    if not at_start:  # the other command came just after this one had looked
        monkeypatch.setattr("nmfnet.sweep.summary.check_free", lambda folder: None)
    with locked(tmp_path / "held"):
        (tmp_path / "held" / "file").touch()
        before = stamps(tmp_path)
        done = train("data=planted", "figures=false", *words, cwd=tmp_path)
        assert done.code == 2
        assert "held is being written by process" in the_message(done, ("held", "multirun.yaml"))
        assert [*before] == [name for name in stamps(tmp_path) if "multirun" not in name]
    assert not (tmp_path / "held" / "lock.json").exists()


@pytest.mark.slow
def test_the_same_command_twice_at_once_does_not_mix_its_histories(tmp_path, monkeypatch):
    """The second comes while the first trains."""
    from nmfnet.run.callbacks.history import History

    plain, second = History.on_train_start, []

    def on_train_start(self, *others):
        plain(self, *others)
        if not second:
            second.append(None)
            second[0] = subprocess.run(
                [sys.executable, "-c", TRAIN, *FAST, "run_dir=run"],
                cwd=tmp_path,
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
            )

    monkeypatch.setattr(History, "on_train_start", on_train_start)
    assert train(*FAST, "run_dir=run", cwd=tmp_path).code == 0
    assert second[0].returncode == 2
    assert "is being written by process" in second[0].stderr
    monkeypatch.undo()
    other = train(*FAST, "run_dir=other", cwd=tmp_path)
    assert other.code == 0
    lines = [(tmp_path / run / "history.csv").read_text().splitlines() for run in ("run", "other")]
    assert len(lines[0]) == len(lines[1])


@pytest.mark.parametrize(
    ("holder", "age", "free"),
    [
        ({"host": "here", "pid": "ended"}, 0, True),
        ({"host": "here", "pid": "mine"}, 1000, False),
        ({"host": "here", "pid": "mine", "started": "other"}, 0, True),
        ({"host": "elsewhere", "pid": 1}, 0, False),
        ({"host": "elsewhere", "pid": 1}, 1000, True),
        ({"host": "here", "pid": -1.5}, 0, True),
        ("", 0, False),
        ("", 1000, True),
        ("[" * 100_000, 1000, True),
    ],
)
def test_a_lock_that_was_left_behind_is_taken_over(holder, age, free, tmp_path):
    if isinstance(holder, dict):
        ended = subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpid())"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        words = {"here": socket.gethostname(), "ended": int(ended), "mine": os.getpid()}
        holder = json.dumps({key: words.get(value, value) for key, value in holder.items()})
    file = tmp_path / "lock.json"
    file.write_text(holder)
    os.utime(file, (time.time() - age,) * 2)
    if free:
        with locked(tmp_path):
            assert json.loads(file.read_text())["pid"] == os.getpid()
        assert not file.exists()
    else:
        with pytest.raises(UserError, match="is being written by"), locked(tmp_path):
            pytest.fail("it was taken")
        assert file.read_text() == holder


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to"), locked(tmp_path / "file" / "run"):
        pytest.fail("it was taken")
