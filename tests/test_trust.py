"""What is read back from files cannot run code: tried with every file, group and way to name it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from shell import FAST, nmfnet, refusal, the_message, the_run, train

import nmfnet as package
from nmfnet.errors import UserError
from nmfnet.sweep.summary import foreign

GROUPS = ("loss", "solver", "init", "constraint", "penalty", "model")
X = np.random.default_rng(0).gamma(1.0, size=(20, 6))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder that all tests copy the checkpoint of."""
    folder = tmp_path_factory.mktemp("trust") / "run"
    words = {"penalty": "l1", "max_iter": 20, "figures": False}
    package.fit(X, n_components=2, run_dir=folder, **words)
    return folder


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """A module that leaves a mark where it is imported, with a loss that works."""
    mark = tmp_path / "mark"
    (tmp_path / "foreign_code.py").write_text(
        f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
        "from nmfnet.core.losses import KL\n\n\nclass Mine(KL):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "foreign_code", raising=False)
    yield mark
    sys.modules.pop("foreign_code", None)


def changed(run: Path, to: Path, group: str, node: dict) -> Path:
    """A checkpoint whose configuration has another node in a group."""
    saved = torch.load(run / "model.ckpt", weights_only=True)
    config = saved["nmfnet"]["config"]
    config[group] = {"l1": node} if group == "penalty" else node
    torch.save(saved, to / "model.ckpt")
    return to / "model.ckpt"


@pytest.mark.parametrize("group", GROUPS)
def test_a_checkpoint_cannot_call_a_function(group, run, tmp_path):
    mark = tmp_path / "mark"
    for node in (
        {"_target_": "os.system", "command": f"touch {mark}"},
        {"_target_": "posix.system", "command": f"touch {mark}"},
        {"_target_": "builtins.open", "file": str(mark), "mode": "w"},
        {"_target_": "pathlib.Path.touch", "self": str(mark)},
        {"_target_": "nmfnet.load", "path": str(run), "trust": True},
        {"_target_": "nmfnet.config.build", "node": {"_target_": "os.system"}},
        {"_target_": 3},
    ):
        with pytest.raises(UserError, match=f"{group}|_target_"):
            package.load(changed(run, tmp_path, group, node))
        with pytest.raises(UserError):  # of the wrong kind all the same
            package.load(changed(run, tmp_path, group, node), trust=True)
    assert not mark.exists()


def test_nor_can_an_object_inside_another(run, tmp_path):
    mark = tmp_path / "mark"
    inner = {"_target_": "os.system", "command": f"touch {mark}"}
    for node in (
        {"_target_": "nmfnet.core.losses.Beta", "beta": inner},
        {"_target_": "nmfnet.core.losses.KL", "more": [inner]},
        {"_target_": "nmfnet.core.losses.KL", "more": {"deep": {"er": inner}}},
    ):
        with pytest.raises(UserError):
            package.load(changed(run, tmp_path, "loss", node))
    assert not mark.exists()


def test_nor_can_the_constraint_of_a_single_factor(run, tmp_path):
    mark = tmp_path / "mark"
    node = {"_target_": "nmfnet.core.constraints.Project"}
    for inner in (
        {"_target_": "os.system", "command": f"touch {mark}"},
        {"_target_": "nmfnet.core.penalties.L1"},
        {"_target_": "foreign_code.Mine"},
    ):
        with pytest.raises(UserError, match=r"constraint\.W|_target_"):
            package.load(changed(run, tmp_path, "constraint", node | {"W": inner}))
    assert not mark.exists()


def test_a_class_of_another_group_is_refused(run, tmp_path):
    node = {"_target_": "nmfnet.core.penalties.L1"}
    with pytest.raises(UserError, match=r"nmfnet\.core\.penalties\.L1 is no Loss"):
        package.load(changed(run, tmp_path, "loss", node))


def test_an_own_class_is_imported_only_if_the_file_is_trusted(run, mine, tmp_path):
    file = changed(run, tmp_path, "loss", {"_target_": "foreign_code.Mine"})
    with pytest.raises(UserError, match=r"import it first.*trust=True"):
        package.load(file)
    assert not mine.exists()
    assert package.load(file, trust=True).transform(X).shape == (20, 2)
    assert mine.exists()


def test_an_own_class_that_the_program_has_imported_is_taken(run, mine, tmp_path):
    import foreign_code

    file = changed(run, tmp_path, "loss", {"_target_": "foreign_code.Mine"})
    assert isinstance(package.load(file).loss, foreign_code.Mine)


def test_the_folder_of_a_rank_selection_cannot_run_code(mine, tmp_path):
    folder = tmp_path / "selection"
    folder.mkdir()
    (folder / "selection.json").write_text("{}")
    np.savez(folder / "factors.npz", W=np.ones((3, 2)), H=np.ones((2, 4)))
    config = package.fit(X, n_components=2, max_iter=5).recipe["config"]
    for target in ("os.system", "foreign_code.Mine"):
        changed = {**config, "loss": {"_target_": target}}
        (folder / "config.yaml").write_text(yaml.safe_dump(changed))
        with pytest.raises(UserError, match=target):
            package.load(folder)
    assert not mine.exists()
    assert package.load(folder, trust=True).components_.shape == (2, 4)
    (folder / "config.yaml").write_text("!!python/object/apply:os.system [touch mark]\n")
    with pytest.raises(UserError, match="not whole"):
        package.load(folder, trust=True)


def test_export_builds_only_what_it_may(run, tmp_path, mine):
    words = ("data=planted", "model=autoencoder", "max_iter=5", "figures=false")
    assert train(*words, cwd=tmp_path).code == 0
    folder = the_run(tmp_path)
    changed(folder, folder, "loss", {"_target_": "foreign_code.Mine"})
    export = ("export", str(folder), "--to", "onnx", "-o", str(tmp_path))
    done = nmfnet(*export, cwd=tmp_path)
    assert done.code == 2
    assert "--trust" in the_message(done)
    assert not mine.exists()
    nmfnet(*export, "--trust", cwd=tmp_path)  # fails later where onnx is not installed
    assert mine.exists()


def test_the_configuration_of_a_finished_run_is_not_built_when_it_is_found(tmp_path, mine):
    assert train(*FAST, cwd=tmp_path).code == 0
    file = the_run(tmp_path) / "config.yaml"
    config = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(config | {"logger": {"x": {"_target_": "foreign_code.Mine"}}}))
    done = train(*FAST, cwd=tmp_path)
    assert done.code == 0
    assert "was finished before" in done.out
    assert nmfnet("show", str(file.parent), cwd=tmp_path).code == 0
    assert not mine.exists()


# ---------------------------------------------------------------------- sweeps
@pytest.mark.parametrize(
    "word",
    [
        "hydra.callbacks.x._target_=os.system",
        "++hydra.launcher._target_=foreign_code.Mine",
        "+hydra/launcher=mine",
        "hydra.job.env_set.LD_PRELOAD=x",
        "hydra.searchpath=[file:///tmp]",
        "--config-dir",
        "--config-dir=/tmp",
        "-cd",
        "loss._target_=foreign_code.Mine",
        "loss={_target_:foreign_code.Mine}",
        "experiment=../../tmp/x",
        "+experiment=/tmp/x",
        "launcher.setup=[touch mark]",
        "++launcher.setup=[touch mark]",
        "launcher={setup:[touch mark]}",
        "launcher._target_=foreign_code.Mine",
        "launcher.extra.wrap=x",
        "~hydra.callbacks",
        "foo",
        "--hydra-help",
        "x@y=z",
    ],
)
def test_a_stored_sweep_cannot_run_code(word, tmp_path):
    assert foreign(["-m", word]) == word
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    command = {"arguments": ["-m", *FAST, word], "cwd": str(tmp_path)}
    (sweep / "sweep.json").write_text(json.dumps(command))
    done = nmfnet("sweep", "resume", str(sweep), cwd=tmp_path)
    assert done.code == 2
    message = the_message(done)
    assert word in message
    assert "--trust" in message


def test_plain_words_of_a_stored_sweep_are_taken():
    words = ["-m", *FAST, "seed=1,2", "launcher=joblib", "launcher.n_jobs=2", "penalty=[l1,l2]"]
    words += ["data.path=/home/me/x.csv", "++model.n_components=choice(1,2)", "loss=glob(*)"]
    assert foreign([*words, "hparams_search.n_trials=3", "experiment=sbs_extract"]) is None


@pytest.mark.parametrize("content", ['{"arguments": [3], "cwd": "."}', "[" * 100_000, "[]", "3"])
def test_a_damaged_sweep_is_refused_in_a_sentence(content, tmp_path):
    (tmp_path / "sweep.json").write_text(content)
    done = nmfnet("sweep", "resume", str(tmp_path), cwd=tmp_path)
    assert done.code == 2
    assert "damaged" in the_message(done)


def test_a_trusted_sweep_goes_on_with_own_folders(tmp_path):
    own = tmp_path / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\nmax_iter: 5\n")
    words = ("-m", "--config-dir", "own", "experiment=mine", *FAST[:3], "figures=false", "seed=1,2")
    assert train(*words, cwd=tmp_path).code == 0
    sweep = next((tmp_path / "runs" / "sweeps").iterdir())
    done = nmfnet("sweep", "resume", str(sweep), cwd=tmp_path)
    assert "--trust" in the_message(done)
    assert nmfnet("sweep", "resume", str(sweep), "--trust", cwd=tmp_path).code == 0


# ---------------------------------------------------------------------- one's own commands
@pytest.mark.parametrize(
    ("word", "fragment"),
    [
        ("loss._target_=builtins.print", "loss._target_: builtins.print is no Loss"),
        ("loss._target_=nmfnet.core.penalties.L1", "is no Loss"),
        ("model._target_=os.system", "is no Factorization"),
        ("solver._target_=nmfnet.solvers.base.total", "is no Solver"),
        ("+callbacks.x._target_=builtins.print", "callbacks.x._target_: builtins.print"),
        ("trainer._target_=builtins.print", "is no Trainer"),
        ("+trainer.strategy._target_=builtins.print", "is no Strategy"),
        ("logger.x._target_=builtins.print", "is no Logger"),
        ("data._target_=nmfnet.data.RowSplit", "is no Source"),
        ("split._target_=nmfnet.data.Digits", "is no Split"),
        ("loss._target_=3", "loss: needs a _target_"),
        ("constraint.W._target_=builtins.print", "constraint.W._target_: builtins.print is no"),
    ],
)
def test_a_command_must_name_objects_of_the_right_kind(word, fragment, tmp_path):
    assert fragment in refusal("data=planted", word, cwd=tmp_path)


def test_a_module_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    own, here = tmp_path / "own", tmp_path / "here"
    own.mkdir()
    here.mkdir()
    (own / "broken_code.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(own)
    message = refusal("data=planted", "loss._target_=broken_code.Mine", cwd=here)
    assert "broken_code.Mine cannot be imported: ZeroDivisionError" in message


# ---------------------------------------------------------------------- damaged files
BAD = {
    "brackets": "[" * 100_000,
    "braces": '{"a":' * 100_000,
    "deep": '{"a": ' + "[" * 400 + "]" * 400 + "}",
    "list": "[1, 2]",
    "number": "3",
    "empty": "",
    "cut": '{"train/loss": 1.0, "n_i',
    "bytes": "\xff\xfe",
    "no json": "yes: [no",
}


@pytest.mark.parametrize("name", ["metrics.json", "config.yaml", "provenance.json"])
def test_one_bad_run_folder_does_not_cost_the_others(name, tmp_path):
    for seed in (0, 1):
        assert train(*FAST, f"seed={seed}", f"run_dir=runs/{seed}", cwd=tmp_path).code == 0
    file = tmp_path / "runs" / "1" / name
    for text in BAD.values():
        file.write_bytes(text.encode("latin-1"))
        done = nmfnet("ls", cwd=tmp_path)
        assert done.code == 0, done.err
        assert "Traceback" not in done.err + done.out
        lines = [line for line in done.out.splitlines() if line.startswith("0 ")]
        assert len(lines) == 1
        assert "done" in lines[0]
        table = package.runs(tmp_path / "runs")
        assert sorted(table["status"]) == ["damaged", "done"]
        assert nmfnet("report", cwd=tmp_path).code == 0
        shown = nmfnet("show", "runs/1", cwd=tmp_path)
        assert shown.code == 2
        assert "Traceback" not in shown.err
    again = train(*FAST, "seed=1", "run_dir=runs/1", cwd=tmp_path)
    assert again.code == (0 if name == "provenance.json" else 2), again.err
    if again.code == 2:
        assert "force=true" in the_message(again)


def test_records_of_sweeps_may_be_damaged(tmp_path):
    assert train("-m", *FAST, "seed=1,2", cwd=tmp_path).code == 0
    sweep = next((tmp_path / "runs" / "sweeps").iterdir())
    for text in (*BAD.values(), "{}", '{"status": "done"}', '{"job": 1, "status": 3}'):
        (sweep / "jobs" / "0001.json").write_bytes(text.encode("latin-1"))
        assert nmfnet("ls", cwd=tmp_path).code == 0
        done = nmfnet("sweep", "resume", str(sweep), cwd=tmp_path)
        assert done.code == 0, done.err
        assert done.out.count("found") == 2


def broken_checkpoints(run: Path):
    def without(*path):
        saved = torch.load(run / "model.ckpt", weights_only=True)
        node = saved
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]
        return saved

    def altered(change):
        saved = torch.load(run / "model.ckpt", weights_only=True)
        change(saved)
        return saved

    factor = next(k for k in without("nmfnet")["state_dict"] if k.startswith("H."))
    yield from (without("nmfnet", key) for key in ("config", "sizes", "masked", "iteration"))
    yield from (without("nmfnet", "config", key) for key in ("loss", "model", "tol", "seed"))
    yield from (without("nmfnet"), without("state_dict"), without("state_dict", factor))
    yield [1, 2]
    yield altered(lambda s: s["state_dict"][factor].fill_(float("nan")))
    yield altered(lambda s: s["state_dict"].update({factor: torch.ones(3)}))
    yield altered(lambda s: s["nmfnet"].update(sizes=[2]))
    yield altered(lambda s: s["nmfnet"].update(sizes=[10**13, 10**13]))
    yield altered(lambda s: s["nmfnet"].update(format="x"))
    yield altered(lambda s: s["nmfnet"].update(config=3))
    yield altered(lambda s: s["nmfnet"]["config"].update(model=3))
    yield altered(lambda s: s["nmfnet"]["config"].update(dtype="float3"))


def test_a_checkpoint_that_is_not_whole_is_refused_in_a_sentence(run, tmp_path):
    for saved in broken_checkpoints(run):
        torch.save(saved, tmp_path / "model.ckpt")
        with pytest.raises(UserError, match=str(tmp_path)) as refused:
            package.load(tmp_path)
        assert len(str(refused.value).splitlines()) <= 2
    (tmp_path / "model.ckpt").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(UserError, match="cannot be read"):
        package.load(tmp_path)


def test_json_that_is_written_is_json(tmp_path):
    from nmfnet.run.stored import read_table, write_json

    values = {"a": float("inf"), "b": [float("nan"), {"c": -float("inf"), "d": (1.5, "x")}]}
    write_json(tmp_path / "x.json", values)
    text = (tmp_path / "x.json").read_text()
    assert "Infinity" not in text
    assert "NaN" not in text
    assert read_table(tmp_path / "x.json") == {"a": None, "b": [None, {"c": None, "d": [1.5, "x"]}]}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
