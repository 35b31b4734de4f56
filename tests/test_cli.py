"""The commands as a user meets them: help, output, progress."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from shell import FAST, TRAIN, Done, environment, finished, nmfnet, start, the_run, train

from nmfnet.config import conf_dir, options

HEAVY = ("torch", "lightning", "sklearn", "scipy", "pandas", "matplotlib", "wandb", "numba")


def in_a_terminal(*words: str, cwd: Path, interrupt_at: str = "") -> Done:
    """A training command with a terminal for standard output and error (both come as ``out``)."""
    pty = pytest.importorskip("pty")
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(cwd)
        variables = environment() | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        os.execve(sys.executable, [sys.executable, "-c", TRAIN, *words], variables)
    out, sent = b"", False
    while True:
        ready, _, _ = select.select([terminal], [], [], 120)
        assert ready, f"no output for two minutes after {out!r}"
        try:
            more = os.read(terminal, 65536)
        except OSError:
            break
        if not more:
            break
        out += more
        if interrupt_at and not sent and interrupt_at.encode() in out:
            os.write(terminal, b"\x03")
            sent = True
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return Done(os.waitstatus_to_exitcode(status), out.decode(), "", [])


def screen(out: str) -> str:
    """Without colours, and with each line as it was left."""
    out = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out).replace("\r\n", "\n")
    return "\n".join(line.rpartition("\r")[2] for line in out.split("\n"))


# ---------------------------------------------------------------------- help and start
@pytest.mark.parametrize("module", ["cli", "commands"])
def test_commands_start_without_heavy_imports(module):
    code = f"import sys, nmfnet.{module}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.strip() == "[]"


def test_help_lists_every_choice_without_heavy_imports(tmp_path):
    told = f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    code = f"import atexit, sys; atexit.register(lambda: {told}); {TRAIN}"
    done = finished(start("--help", cwd=tmp_path, code=code), tmp_path)
    assert done.code == 0
    assert done.err == "[]\n"
    for group in sorted(folder.name for folder in conf_dir().iterdir() if folder.is_dir()):
        if options(group):
            assert f"{group}: {', '.join(options(group))}\n" in done.out
    assert "nmfnet-train model=convex_nmf" in done.out
    assert done.new == []


def test_the_commands_are_installed():
    scripts = importlib.metadata.entry_points(group="console_scripts")
    found = {script.name: script.value for script in scripts if script.name.startswith("nmfnet")}
    assert found == {"nmfnet": "nmfnet.commands:main", "nmfnet-train": "nmfnet.cli:main"}


def test_train_py_is_the_same_command(tmp_path):
    script = Path(__file__).parents[1] / "train.py"
    assert "from nmfnet.cli import main" in script.read_text()
    done = subprocess.run(
        [sys.executable, str(script), "modle=nmf", "model=nfm"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 2
    assert "did you mean 'nmf'" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ("--cfg job model=convex_nmf", "convex_axis: samples"),
        ("--info searchpath", "file://"),
        ("-sc install=bash", "complete"),
    ],
)
def test_hydras_own_options_work(words, fragment, tmp_path):
    done = train(*words.split(), cwd=tmp_path)
    assert done.code == 0
    assert fragment in done.out
    assert done.new == []


# ---------------------------------------------------------------------- output
@pytest.mark.slow
def test_nothing_but_the_result_is_printed_without_a_terminal(tmp_path):
    done = finished(start(*FAST[:3], "n_restarts=3", "loss=kl", cwd=tmp_path), tmp_path)
    assert done.code == 0
    assert done.err == ""
    lines = [line.rstrip() for line in done.out.splitlines()]
    assert lines[0].startswith("training loss ")
    assert lines[-1] == f"results in {the_run(tmp_path).relative_to(tmp_path)}"
    shape = re.compile(r"[a-z A-Z,()-]+?  +(\S+)|note: .+|results in \S+")
    assert all(shape.fullmatch(line) for line in lines), done.out
    assert len(lines) == len(set(lines))
    assert not re.search(r"\x1b|\r|Lightning|litlogger|wandb|warn", done.out, re.IGNORECASE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_the_printed_numbers_are_those_of_the_folder(tmp_path):
    done = train(*FAST, cwd=tmp_path)
    numbers = json.loads((the_run(tmp_path) / "metrics.json").read_text())
    printed = {line[: line.index("  ")]: line.split()[-1] for line in done.out.splitlines()[:-2]}
    assert printed["training loss"] == f"{numbers['train/loss']:.5g}"
    assert printed["training relative error"] == f"{numbers['train/relative_error']:.5g}"
    assert printed["iterations"] == "20"
    assert printed["converged"] == "no"
    assert printed["ended"] == "budget"
    assert "not converged in 20 iterations" in done.out


def test_long_paths_and_brackets_are_printed_as_they_are(tmp_path):
    folder = "[a] long name/" + "x" * 120
    done = train(*FAST, f"run_dir='{folder}'", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == f"results in {folder}"


@pytest.mark.slow
def test_a_terminal_gets_a_progress_bar_that_goes_away(tmp_path):
    done = in_a_terminal(*FAST[:3], "figures=false", "tol=0", "max_iter=30000", cwd=tmp_path)
    assert done.code == 0
    bar = re.search(
        r"(\d+)/30000 .*?objective \S+ +change \S+ +(\d+) it/s", screen_of_bar(done.out)
    )
    assert bar, done.out
    assert done.out.count("\x1b[?25h") >= done.out.count("\x1b[?25l") > 0  # the cursor is back
    left = screen(done.out.rpartition("\x1b[?25h")[2]).strip().splitlines()
    assert left[0].startswith("training loss")
    assert "results in runs/nmf/" in left[-1]
    assert "it/s" not in "\n".join(left)


def screen_of_bar(out: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_leaves_one_message_and_a_cursor(tmp_path):
    words = (*FAST[:3], "figures=false", "tol=0", "max_iter=1000000000")
    done = in_a_terminal(*words, cwd=tmp_path, interrupt_at="it/s")
    assert done.code == 130
    left = screen(done.out.rpartition("\x1b[?25h")[2]).strip()
    assert left.startswith("nmfnet: interrupted at iteration")
    assert "model.ckpt" in left.replace("\n", "")


@pytest.mark.slow
def test_the_default_run_ends_with_pictures(tmp_path):
    """Digits, nmf, figures: from the prompt to the pictures."""
    done = finished(start(cwd=tmp_path), tmp_path)
    assert done.code == 0, done.err
    assert len(list(tmp_path.glob("runs/nmf/*/figures/*.png"))) >= 4


# ---------------------------------------------------------------------- nmfnet
def test_ls_lists_runs_and_what_differs(tmp_path):
    train("-m", *FAST, "model=nmf,convex_nmf", "seed=1,2", cwd=tmp_path)
    done = nmfnet("ls", cwd=tmp_path)
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0][:4] == ["run", "model", "seed", "status"]
    assert len(lines) == 5
    assert {tuple(line[1:4]) for line in lines[1:]} == {
        (model, seed, "done") for model in ("nmf", "convex_nmf") for seed in "12"
    }
    assert {line[0] for line in lines[1:]} == {
        str(path.relative_to(tmp_path / "runs")) for path in tmp_path.glob("runs/*nmf/*")
    }
    assert nmfnet("ls", "runs/nmf", cwd=tmp_path).out.count("done") == 2


def test_ls_tells_runs_without_results(tmp_path):
    train(*FAST, cwd=tmp_path)
    train(*FAST, "seed=1", cwd=tmp_path)
    folder = sorted(tmp_path.glob("runs/nmf/*"))[0]
    (folder / "metrics.json").unlink()
    os.utime(folder / "history.csv", (0, 0))
    done = nmfnet("ls", cwd=tmp_path)
    assert done.code == 0
    assert [line.split()[-1] == "interrupted" for line in done.out.splitlines()[1:]].count(
        True
    ) == 1
    refused = nmfnet("show", str(folder), cwd=tmp_path)
    assert refused.code == 2
    assert "not a finished run" in refused.err


def test_show_tells_settings_results_origin_and_files(tmp_path):
    train(*FAST, "loss=kl", "seed=0", cwd=tmp_path)
    folder = the_run(tmp_path)
    done = nmfnet("show", str(folder), cwd=tmp_path)
    assert done.code == 0
    told = {
        parts[0]: parts[1].strip()
        for parts in (line.strip().split("  ", 1) for line in done.out.splitlines())
        if len(parts) == 2
    }
    numbers = json.loads((folder / "metrics.json").read_text())
    assert told["loss"] == "kl"
    assert told["seed"] == "0"
    assert told["model.n_components"] == "3"
    assert told["time_limit"] == "null"
    assert told["train/loss"] == f"{numbers['train/loss']:.5g}"
    assert told["versions/nmfnet"] == importlib.metadata.version("nmfnet")
    assert told["model.ckpt"] == f"{(folder / 'model.ckpt').stat().st_size:,} bytes"
    assert set(numbers) <= set(told)


def test_data_sets_are_listed_and_described(tmp_path):
    done = nmfnet("data", "list", cwd=tmp_path)
    assert done.code == 0
    assert [line.split("\t")[0] for line in done.out.splitlines()] == options("data")
    info = nmfnet("data", "info", "digits", cwd=tmp_path)
    assert info.code == 0
    assert "1797 samples x 64 features" in info.out


@pytest.mark.catalogue
def test_files_of_the_catalogue_are_found(tmp_path):
    done = nmfnet("data", "get", "sbs21-breast", cwd=tmp_path)
    assert done.code == 0
    assert Path(done.out.strip()).is_file()


def test_help_of_nmfnet_names_every_command(tmp_path):
    done = nmfnet("--help", cwd=tmp_path)
    assert done.code == 0
    for word in ("data", "ls", "show", "nmfnet-train"):
        assert word in done.out
    assert nmfnet("--version", cwd=tmp_path).out.startswith("nmfnet ")
    for words in ((), ("data",), ("lss",), ("show",)):
        assert nmfnet(*words, cwd=tmp_path).code == 2


# ---------------------------------------------------------------------- README and CI
def test_ci_runs_the_test_command_of_the_readme():
    """What the README promises is what continuous integration runs, word by word."""
    root = Path(__file__).parents[1]
    command = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest"
    assert command in (root / "README.md").read_text()
    assert "readme_command" in (root / ".ci" / "run").read_text()


def test_the_readme_uses_keys_that_are_there(tmp_path):
    """Every ``nmfnet-train`` and ``train.py`` line of the README passes the configuration check."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    blocks = blocks.replace("\\\n", " ")
    lines = re.findall(r"(?:python3? train\.py|nmfnet-train) (.+)$", blocks, re.MULTILINE)
    assert lines
    for line in lines:
        if "--config-dir" in line:  # a model of the reader's own
            continue
        words = [word for word in shlex.split(line, comments=True) if word != "-m"]
        words = [word for word in words if "(" not in word]  # ranges of a search
        first = [re.sub(r"=([^\[,]+),.*", r"=\1", word) for word in words]
        done = train("--cfg", "job", *first, cwd=tmp_path)
        assert done.code == 0, (line, done.err)
        unknown = set(yaml.safe_load(done.out)) - set(yaml.safe_load(default_text(tmp_path)))
        assert not unknown, line


def default_text(folder: Path) -> str:
    return train("--cfg", "job", cwd=folder).out
