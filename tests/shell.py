"""Running the commands as a user does, inside this process where that is possible."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from hydra.core.global_hydra import GlobalHydra

from nmfnet import cli, commands

TRAIN = "from nmfnet.cli import main; main()"
FAST = ("data=planted", "model.n_components=3", "solver=mu", "max_iter=20", "figures=false")
"""A run of a fraction of a second."""


class Done(NamedTuple):
    """How a command ended: exit code, what it printed, the files that it left or changed."""

    code: int
    out: str
    err: str
    new: list[str]


def train(*words: str, cwd: Path) -> Done:
    """``nmfnet-train WORDS`` in a folder."""
    GlobalHydra.instance().clear()
    return _called(cli.main, ["nmfnet-train", *words], cwd)


def nmfnet(*words: str, cwd: Path) -> Done:
    """``nmfnet WORDS`` in a folder."""
    return _called(commands.main, ["nmfnet", *words], cwd)


def _called(main, argv: list[str], cwd: Path) -> Done:
    out, err, code = io.StringIO(), io.StringIO(), 0
    before, argv_before, environment = stamps(cwd), sys.argv, dict(os.environ)
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    sys.argv = argv
    try:
        with (
            contextlib.chdir(cwd),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = argv_before
        os.environ.clear()
        os.environ.update(environment)
        root.setLevel(level)  # --info would leave all that follows to log what it composes
        root.handlers[:] = handlers
    after = stamps(cwd)
    new = sorted(name for name, stamp in after.items() if before.get(name) != stamp)
    return Done(code, out.getvalue(), err.getvalue(), new)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Time and size of everything below a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.exists()
    }


def refusal(*words: str, cwd: Path, leaving: tuple[str, ...] = ()) -> str:
    """The one message of a command that must refuse; checks the contract of bad input."""
    done = train(*words, cwd=cwd)
    assert done.code == 2, f"exit code {done.code}: {done.out}{done.err}"
    return the_message(done, leaving)


def the_message(done: Done, leaving: tuple[str, ...] = ()) -> str:
    """Check: one message on standard error, no traceback, nothing else printed or written."""
    assert done.out == ""
    assert "Traceback" not in done.err
    assert "Error executing job" not in done.err
    assert done.err.startswith("nmfnet: ")
    assert done.err.count("nmfnet: ") == 1, done.err
    assert [name for name in done.new if not name.endswith(leaving or "/")] == []
    return done.err


def environment() -> dict[str, str]:
    """Of a subprocess: one thread, no trackers' settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA"))}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def start(*words: str, cwd: Path, code: str = TRAIN) -> subprocess.Popen[str]:
    """A command in a process of its own, with Ctrl-C not ignored and no terminal."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def finished(process: subprocess.Popen[str], cwd: Path, before: dict | None = None) -> Done:
    """Wait for a process."""
    out, err = process.communicate(timeout=300)
    new = sorted(set(stamps(cwd)) - set(before or {}))
    return Done(process.returncode, out, err, new)


def the_run(folder: Path) -> Path:
    """The only run folder below ``runs``."""
    (found,) = {path.parent for path in folder.glob("runs/*/*/history.csv")}
    return found
