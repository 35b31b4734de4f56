"""Everything a user can get wrong: exit code 2, one message, no traceback, nothing written."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from shell import FAST, refusal, the_message, the_run, train

# ---------------------------------------------------------------------- configuration
WRONG = {
    "unknown model": ("model=convexnmf", "model=convexnmf", "did you mean 'convex_nmf'", "nmf"),
    "two unknown choices": ("loss=kll solver=mux", "did you mean 'kl'", "did you mean 'mu'"),
    "unknown choice in a list": ("logger=[wandb,tensorbord]", "did you mean 'tensorboard'"),
    "no model": ("model=", "no such choice", "convex_nmf"),
    "group switched off": ("model=null", "model=null", "no such choice"),
    "no such experiment": ("experiment=sbs_extrakt", "did you mean 'sbs_extract'"),
    "unknown root key": ("modle=nmf", "modle", "did you mean 'model'"),
    "key of a group": ("data=planted n_components=3", "n_components' or 'model.n_components'"),
    "unknown nested key": ("model.n_componets=3", "model.n_componets", "'n_components'"),
    "added with +": ("+model.n_componets=3", "model.n_componets", "'n_components'"),
    "added with ++": (
        "solver=mu ++solver.extrapolate=true",
        "solver.extrapolate",
        "'extrapolation'",
    ),
    "key of another group": ("model.loss=kl", "model.loss", "n_components"),
    "unknown trainer key": ("trainer.max_epoch=3", "trainer.max_epoch", "'max_epochs'"),
    "a key that another key sets": ("trainer.accelerator=gpu", "trainer.accelerator", "device"),
    "several devices": ("trainer.devices=2", "trainer.devices", "ddp"),
    "a group that is no group": ("callbacks.mine=3", "callbacks.mine", "_target_"),
    "word for a count": ("model.n_components=abc", "model.n_components=abc", "a whole number"),
    "fraction for a count": ("model.n_components=2.5", "n_components=2.5", "a whole number"),
    "null for a count": ("model.n_components=null", "n_components=null", "a whole number"),
    "nothing for a count": ("model.n_components=", "n_components=", "a whole number"),
    "true for a count": ("n_restarts=true", "n_restarts=true", "a whole number"),
    "word for a number": ("tol=tiny", "tol=tiny", "a finite number"),
    "nan for a number": ("tol=nan", "tol=nan", "a finite number"),
    "infinity for a number": ("loss=beta loss.beta=inf", "loss.beta=inf", "a finite number"),
    "word for a switch": ("figures=maybe", "figures=maybe", "true or false"),
    "unknown word": ("dtype=float16", "dtype=float16", "float32, float64"),
    "gpu for cuda": ("device=gpu", "device=gpu", "auto, cpu, cuda"),
    "word for threads": ("threads=two", "threads=two", "a whole number", "or auto"),
    "short list": ("solver=adam solver.betas=[0.9]", "solver.betas", "a list"),
    "word in a list": ("model=autoencoder model.hidden=[a]", "model.hidden", "a list"),
    "unknown class": ("model._target_=nmfnet.models.nmf.NFM", "nmfnet.models.nmf.NFM", "found"),
    "no value": ("data=table", "data.path", "needs a value"),
    "a number for text": (
        "data=table data.path=x data.label_column=1",
        "label_column=1",
        "\"'1'\"",
    ),
    "no key": ("convex_nmf", "convex_nmf", "key=value"),
    "several values without -m": ("n_restarts=1,2", "n_restarts=1,2", "--multirun"),
    "broken list": ("model=autoencoder model.hidden=[1", "model.hidden=[1", "a list"),
    "unclosed quote": ("data.path='x", "data.path"),
    "removed root key": ("~tol", "tol", "missing"),
    "no such folder of configurations": ("--config-dir nowhere experiment=a", "nowhere", "folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_configurations_are_refused(case, tmp_path):
    words, *fragments = WRONG[case]
    message = refusal(*words.split(), cwd=tmp_path)
    for fragment in fragments:
        assert fragment in message


def test_all_misspelt_keys_are_named_at_once(tmp_path):
    words = "modle=nmf model.n_componets=3 solver=mu +solver.extrapolate=true ++data.foo=1 ssed=2"
    message = refusal(*words.split(), "penalty=l1", "penalty.l1.wieght=1", cwd=tmp_path)
    assert "6 problem(s)" in message
    for pair in (
        "modle: no such option; did you mean 'model'",
        "ssed: no such option; did you mean 'seed'",
        "model.n_componets: NMF has no such option; did you mean 'n_components'",
        "solver.extrapolate: Multiplicative has no such option; did you mean 'extrapolation'",
        "data.foo: Digits has no such option",
        "penalty.l1.wieght: L1 has no such option; did you mean 'weight'",
    ):
        assert pair in message


@pytest.fixture
def own(tmp_path):
    """A folder of the user's own experiments, good and bad."""
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    head = "# @package _global_\n"
    texts = {
        "typo": "defaults:\n  - override /solver: mu\n"
        "max_itr: 7\nmodel:\n  n_component: 3\nsolver:\n  n_iner: 2\n",
        "yes": "penalty:\n  mine:\n    _target_: nmfnet.core.penalties.L1\n    on: H\n",
        "broken": "model: [\n",
        "tab": "model:\n\tn_components: 3\n",
        "unknown": "defaults:\n  - override /loss: klx\n",
        "wrong": "model:\n  n_components: many\n",
    }
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(head + text)
    return folder.parent


@pytest.mark.parametrize(
    ("name", "fragments"),
    [
        ("typo", ("max_itr", "'max_iter'", "n_component", "'n_components'", "'n_inner'")),
        ("yes", ("yaml reads this key as true", "quotes")),
        ("broken", ("not valid yaml", "broken.yaml", "line")),
        ("tab", ("not valid yaml", "tab.yaml", "line 3")),
        ("unknown", ("loss/klx", "kl")),
        ("wrong", ("model.n_components=many", "a whole number")),
        ("typpo", ("experiment=typpo", "did you mean 'typo'")),
    ],
)
def test_mistakes_in_own_experiments_are_refused(name, fragments, own, tmp_path):
    message = refusal("--config-dir", str(own), f"experiment={name}", cwd=tmp_path)
    for fragment in fragments:
        assert fragment in message


def test_mistakes_in_folders_of_the_search_path_are_refused(own, tmp_path):
    given = f"hydra.searchpath=[file://{own}]"
    assert "'max_iter'" in refusal(given, "experiment=typo", cwd=tmp_path)
    assert "'typo'" in refusal(given, "experiment=typpo", cwd=tmp_path)


# ---------------------------------------------------------------------- values out of range
OUT_OF_RANGE = {
    "no restart": ("n_restarts=0", "n_restarts=0", ">= 1"),
    "negative restarts": ("n_restarts=-3", "n_restarts=-3", ">= 1"),
    "negative seed": ("seed=-1", "seed=-1", ">= 0"),
    "empty batches": ("batch_size=0 solver=adam", "batch_size=0", ">= 1"),
    "no threads": ("threads=0", "threads=0", ">= 1"),
    "no iterations": ("max_iter=0", "max_iter=0", ">= 1"),
    "more threads than can be": ("threads=100000", "threads=100000", "<= 1024", "auto"),
    "restarts without end": ("n_restarts=1000000000000", "<= 1e+06"),
    "no steps": ("trainer.max_steps=0", "trainer.max_steps=0", "-1 or a whole number >= 1"),
    "no epochs": ("trainer.max_epochs=0", "trainer.max_epochs=0", ">= 1"),
    "no batches": ("trainer.limit_train_batches=0", "limit_train_batches=0", "> 0"),
    "one batch": ("trainer.fast_dev_run=true", "trainer.fast_dev_run", "max_iter"),
    "precision of the trainer": ("trainer.precision=64", "trainer.precision", "dtype"),
    "time of the trainer": ("trainer.max_time=00:00:00:00", "trainer.max_time", "time_limit"),
    "negative ridge": ("solver=als solver.ridge=-1e9", "solver.ridge=", "a finite number >= 0"),
    "negative eps": ("solver=adam solver.eps=-1", "solver.eps=-1", "a finite number > 0"),
    "momentum": (
        "solver=adam solver.betas=[0.9,1]",
        "solver.betas",
        "a finite number >= 0 and < 1",
    ),
    "checkpoints all the time": ("checkpoint_every=-1", "checkpoint_every=-1", ">= 0"),
    "no step between ranks": ("ranks=2:5:0", "ranks=2:5:0", "names no rank"),
    "ranks without end": ("ranks=2:99999999999", "names no rank"),
    "components without end": (
        "model.n_components=1000000000000",
        "this machine has",
        "n_components",
    ),
    "components beyond numbers": ("model.n_components=10000000000000000000000", "too large"),
    "components as a fraction": ("model.n_components=1e22", "a whole number"),
    "jobs of no process": (
        "-m launcher=joblib launcher.n_jobs=0 seed=1,2",
        "launcher.n_jobs=0",
        ">= 1",
    ),
    "negative tolerance": ("tol=-1e-3", "tol=-0.001", ">= 0"),
    "empty window": ("window=0", "window=0"),
    "no patience": ("patience=0", "patience=0"),
    "no time": ("time_limit=0", "time_limit=0", "null"),
    "no residual": ("kkt_tol=0", "kkt_tol=0", "null"),
    "no components": ("model.n_components=0", "n_components=0", "at least 1"),
    "negative components": ("model.n_components=-2", "n_components=-2", "at least 1"),
    "more components than nndsvd has": ("model.n_components=65 init=nndsvd", "65", "64", "random"),
    "more components than samples": ("data.n_samples=9 model.n_components=10 init=kmeans", "9"),
    "a deterministic start repeated": ("init=nndsvd n_restarts=3", "n_restarts=3", "random"),
    "no step": ("solver=adam solver.lr=0.0", "solver.lr=0", "> 0"),
    "no inner iterations": ("solver=mu solver.n_inner=0", "solver.n_inner=0", ">= 1"),
    "negative penalty": ("penalty=l1 penalty.l1.weight=-1.0", "-1", ">= 0"),
    "penalty on a factor that is not there": (
        "penalty=l1 penalty.l1.on=Z",
        "'Z'",
        "W, H",
        "penalty.on",
    ),
    "test part of more than everything": ("split=rows split.test_fraction=1.5", "1.5"),
    "no published test part": ("split=predefined", "split=rows"),
    "solver that cannot train the model": ("model=deep_autoencoder solver=mu", "solver=adam"),
    "solver that cannot use the constraint": ("constraint=exp solver=mu", "constraint=project"),
    "solver that cannot use minibatches": ("batch_size=10 solver=mu", "solver=adam"),
    "impossible data": ("data.n_components=0", "data.n_components=0"),
}


@pytest.mark.parametrize("case", OUT_OF_RANGE)
def test_values_out_of_range_are_refused(case, tmp_path):
    words, *fragments = OUT_OF_RANGE[case]
    data = [] if "64" in fragments else ["data=planted"]
    message = refusal(*data, *words.split(), cwd=tmp_path)
    for fragment in fragments:
        assert fragment in message


def test_a_start_from_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 3)))
    message = refusal("data=planted", "init=given", "init.path=x.npy", cwd=tmp_path)
    assert ".npz with W and H" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused(tmp_path):
    message = refusal(*FAST, "device=cuda", cwd=tmp_path)
    assert "device=auto" in message


# ---------------------------------------------------------------------- data
@pytest.fixture
def table(tmp_path):
    """``write(name, X)`` writes a csv with names and returns the words that select it."""

    def write(name: str, X: np.ndarray | str) -> list[str]:
        file = tmp_path / "data" / name
        file.parent.mkdir(exist_ok=True)
        if isinstance(X, str):
            file.write_text(X)
        else:
            lines = [",".join(["name", *(f"f{j}" for j in range(X.shape[1]))])]
            lines += [",".join([f"s{i}", *map(str, row)]) for i, row in enumerate(X.tolist())]
            file.write_text("\n".join(lines).replace("nan", "") + "\n")
        return ["data=table", f"data.path={file}", "model.n_components=2", "max_iter=20"]

    return write


ORIENTED = "data.orientation=samples_by_features"
COUNTS = np.random.default_rng(0).poisson(5, (12, 6)) + 1.0


def changed(row: int, column: int, value: float) -> np.ndarray:
    X = COUNTS.copy()
    X[row, column] = value
    return X


@pytest.mark.parametrize(
    ("X", "words", "fragments"),
    [
        (changed(3, 2, -1), "loss=kl", ("1 negative", "'s3'", "'f2'", "loss=kl")),
        (changed(3, 2, -1), "loss=frobenius", ("1 negative", "NMF", "convex_nmf")),
        (changed(5, 1, 0), "loss=itakura_saito", ("1 zero", "'s5'", "'f1'")),
        (changed(4, 1, np.nan), "", ("1 of 72", "'s4'", "'f1'", "data.missing=mask")),
        (changed(2, 2, np.inf), "", ("infinite", "'s2'", "'f2'")),
        ("name,a,b\ns1,1,2\ns2,3,many\n", "", ("'many'", "'b'", "'s2'")),
        ("name,a,b\ns1,1,2\ns1,3,4\n", "", ("'s1'", "more than once")),
        ("", "", ("empty",)),
        ("name,a,b\n", "", ("header", "no rows")),
        (COUNTS, "data.missing=mak", ("mak", "mask")),
        (COUNTS, "data.label_column=tissue", ("tissue",)),
        (COUNTS, "data.mask=nowhere.csv", ("nowhere.csv",)),
        (COUNTS, "split=rows split.stratify=true", ("label",)),
    ],
)
def test_data_that_cannot_be_used_are_refused(X, words, fragments, table, tmp_path):
    message = refusal(*table("x.csv", X), ORIENTED, *words.split(), cwd=tmp_path)
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (f"data.path=nowhere.csv {ORIENTED}", ("nowhere.csv", "does not exist")),
        (f"data.path=. {ORIENTED}", ("folder",)),
        (f"data.path=notes.xyz {ORIENTED}", (".xyz", ".csv")),
        ("data.path=x.csv", ("12 rows x 6 columns", ORIENTED, "features_by_samples", "'s0'")),
        ("data.path=x.csv data.orientation=sideways", ("sideways", "samples_by_features")),
    ],
)
def test_files_that_cannot_be_used_are_refused(words, fragments, table, tmp_path):
    table("x.csv", COUNTS)
    (tmp_path / "data" / "notes.xyz").write_text("hello")
    message = refusal("data=table", *words.split(), cwd=tmp_path / "data")
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize(
    ("where", "told"),
    [((5, slice(None)), "(first: s5)"), ((slice(None), 4), "(first: f4)"), (..., "12 of 12")],
)
def test_an_empty_sample_or_feature_is_trained_on_and_told(where, told, table, tmp_path):
    X = COUNTS.copy()
    X[where] = 0
    done = train(*table("x.csv", X), ORIENTED, "loss=kl", "figures=false", cwd=tmp_path)
    assert done.code == 0
    assert told in done.out
    assert not re.search(r"\b(nan|inf)\b", done.out)


def test_the_wrong_orientation_is_refused_where_the_names_tell(tmp_path):
    from nmfnet.data.sources.channels import SBS96

    lines = ["channel,t1,t2"] + [f"{name},1,2" for name in SBS96]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    words = ("data=table", "data.path=x.csv", "data.kind=sbs96")
    assert "features_by_samples" in refusal(*words, ORIENTED, cwd=tmp_path)


@pytest.mark.parametrize(
    ("arrays", "fragments"),
    [
        ({"W": (200, 4), "H": (3, 50)}, ("W has shape (200, 4)", "(200, 3)")),
        ({"W": (200, 3), "H": (50, 3)}, ("H has shape (50, 3)", "(3, 50)")),
        ({"V": (200, 3)}, ("neither an array 'W' nor 'H'", "V")),
        ({"W": (200, 3), "H": (3, 50), "value": -1}, ("given W", "constraint=project")),
        ({"W": (200, 3), "H": (3, 50), "value": np.nan}, ("finite",)),
        ("hello", ("given.npz", "W and H")),
        (None, ("given.npz", "does not exist")),
    ],
)
def test_a_given_start_that_does_not_fit_is_refused(arrays, fragments, tmp_path):
    file = tmp_path / "given.npz"
    if isinstance(arrays, str):
        file.write_text(arrays)
    elif arrays is not None:
        value = arrays.pop("value", 1)
        np.savez(file, **{name: np.full(shape, value, float) for name, shape in arrays.items()})
    message = refusal(*FAST, "init=given", f"init.path={file}", cwd=tmp_path)
    for fragment in fragments:
        assert fragment in message


# ---------------------------------------------------------------------- folders
@pytest.mark.parametrize("words", ["run_dir=file", "run_dir=file/run", "runs=file", "runs=/proc/x"])
def test_folders_that_cannot_be_written_are_refused(words, tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = refusal(*FAST, words, cwd=tmp_path)
    assert words.partition("=")[2] in message
    assert "run_dir" in message


class Full:
    """A disk that is full from the second training step on."""

    def __init__(self, file) -> None:
        self.file = file
        self.lines = 0

    def write(self, text: str) -> int:
        self.lines += 1
        if self.lines > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(text)

    def close(self) -> None:
        self.file.close()


def test_a_full_disk_while_training_is_told(monkeypatch, tmp_path):
    plain = Path.open

    def opened(self, mode="r", *args, **options):
        file = plain(self, mode, *args, **options)
        return Full(file) if self.name == "history.csv" and "w" in mode else file

    monkeypatch.setattr(Path, "open", opened)
    message = refusal(*FAST, "max_iter=400", cwd=tmp_path, leaving=(".csv", "nmf", "runs", *ID))
    assert "No space left on device" in message
    assert "runs/nmf" in message


ID = tuple("0123456789abcdef")
"""What the name of a run folder ends in."""


def test_a_full_disk_while_writing_results_is_told(monkeypatch, tmp_path):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    done = train(*FAST, cwd=tmp_path)
    assert done.code == 2
    assert "No space left on device" in done.err
    assert "Traceback" not in done.err
    assert not (the_run(tmp_path) / "metrics.json").exists()
    monkeypatch.undo()
    assert train(*FAST, cwd=tmp_path).code == 0  # the same command, with space again


def test_a_folder_with_another_run_is_refused(tmp_path):
    assert train(*FAST, "run_dir=here", cwd=tmp_path).code == 0
    message = refusal(*FAST, "seed=2", "run_dir=here", cwd=tmp_path)
    assert "another configuration" in message
    assert "force=true" in message
    done = train(*FAST, "seed=2", "run_dir=here", "force=true", cwd=tmp_path)
    assert done.code == 0
    assert "here/metrics.json" in done.new


@pytest.mark.parametrize("damage", ["config.yaml", "metrics.json"])
def test_a_damaged_run_folder_is_told(damage, tmp_path):
    train(*FAST, cwd=tmp_path)
    (the_run(tmp_path) / damage).write_text("{ [ not yaml")
    assert "force=true" in refusal(*FAST, cwd=tmp_path)
    assert train(*FAST, "force=true", cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ("solver=adam solver.lr=1e30 max_iter=400", "solver.lr"),
        ("trainer.overfit_batches=0.1", "the trainer cannot be used"),
    ],
)
def test_mistakes_that_show_while_training_are_told(words, fragment, tmp_path):
    done = train(*FAST, *words.split(), cwd=tmp_path)
    assert done.code == 2
    assert fragment in the_message(done, (".csv", "nmf", "runs", *ID))
    assert not (the_run(tmp_path) / "metrics.json").exists()


# ---------------------------------------------------------------------- loading
def test_folders_without_a_model_are_refused_by_load(tmp_path):
    import nmfnet

    train(*FAST, cwd=tmp_path)
    file = the_run(tmp_path) / "model.ckpt"
    with pytest.raises(nmfnet.UserError, match=r"holds no model\.ckpt"):
        nmfnet.load(tmp_path)
    torch.save({"a": 1}, tmp_path / "other.ckpt")
    with pytest.raises(nmfnet.UserError, match="not a checkpoint of nmfnet"):
        nmfnet.load(tmp_path / "other.ckpt")
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(nmfnet.UserError, match="cannot be read as a checkpoint"):
        nmfnet.load(file.parent)
    file.write_text("")
    with pytest.raises(nmfnet.UserError, match="cannot be read as a checkpoint"):
        nmfnet.load(file.parent)


def test_a_checkpoint_of_a_newer_format_is_refused_by_load(tmp_path):
    import nmfnet

    train(*FAST, cwd=tmp_path)
    file = the_run(tmp_path) / "model.ckpt"
    saved = torch.load(file, weights_only=True)
    saved["nmfnet"]["format"] += 1
    torch.save(saved, file)
    with pytest.raises(nmfnet.UserError, match="upgrade nmfnet"):
        nmfnet.load(file.parent)


def test_an_unexpected_error_keeps_its_traceback(monkeypatch, tmp_path):
    """A bug is not dressed up as the user's mistake."""

    def bug(*args, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("nmfnet.run.train.run_metrics", bug)
    with pytest.raises(ZeroDivisionError):
        train(*FAST, cwd=tmp_path)


def test_output_that_cannot_be_written_is_told(tmp_path):
    import subprocess
    import sys

    from shell import environment

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from nmfnet.commands import main; main()", "data", "list"],
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_commands_refuse_what_is_not_there(tmp_path):
    from shell import nmfnet

    for words, fragment in (
        ("ls nowhere", "nowhere does not exist"),
        ("ls", "runs does not exist"),
        ("ls .", "no runs"),
        ("show nowhere", "nowhere does not exist"),
        ("show .", "no metrics.json"),
        ("data info digit", "'digits'"),
        ("data get digits", "no files"),
    ):
        done = nmfnet(*words.split(), cwd=tmp_path)
        assert done.code == 2, words
        assert fragment in the_message(done)
