"""One process at a time in a run folder."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nmfnet.errors import UserError
from nmfnet.run.stored import read_table

__all__ = ["LOCK", "Busy", "alive", "check_free", "held", "locked", "wait_until_free"]

LOCK = "lock.json"
"""File in a run folder while a process writes there: its host, number and start."""

BEAT = 20.0
"""Seconds between signs of life, for processes of other machines to see."""

POLL = 0.2
"""Seconds between looks at a folder that another process works in."""

DEAD = 6 * BEAT
"""A process of another machine that gave no sign of life for so many seconds has ended."""


class Busy(UserError):
    """Another process is at work in a folder.

    Attributes
    ----------
    folder : Path
    """

    def __init__(self, folder: Path, message: str) -> None:
        super().__init__(message)
        self.folder = folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder of a run, a rank selection or a sweep; made if need be.

    A lock that was left by a process that has ended is taken over.

    Raises
    ------
    Busy
        If another process is at work there.
    UserError
        If the folder cannot be written.
    """
    file = folder / LOCK
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _take(file)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}: choose another run_dir or runs"
        ) from error
    ended = threading.Event()
    threading.Thread(target=_beat, args=(file, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        file.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: a run was begun
            for path in new:
                path.rmdir()


def check_free(folder: Path) -> None:
    """Refuse a folder that another process, or another thread of this one, has locked.

    Raises
    ------
    Busy
        If it has.
    """
    file = folder / LOCK
    holder = _holder(file)
    if holder is not None:
        raise Busy(
            folder,
            f"{folder} is being written by process {holder.get('pid')} on {holder.get('host')}: wait "
            f"for it or end it, or choose another folder; remove {file} if there is no such process",
        )


def held(file: Path) -> bool:
    """Whether the process that a lock, or the record of a job, names by host and number is at work."""
    return _holder(file) is not None


def wait_until_free(folder: Path) -> None:
    """Return when no other process is at work in a folder any more."""
    while held(folder / LOCK):
        time.sleep(POLL)


def _take(file: Path) -> None:
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
    for _ in range(2):
        try:
            with file.open("x") as stream:
                json.dump(mine, stream)
            return
        except FileExistsError:
            check_free(file.parent)
            file.unlink(missing_ok=True)
    raise Busy(file.parent, f"{file.parent} is being written by another process: wait for it")


def _holder(file: Path) -> dict[str, Any] | None:
    """Who holds a lock; None if nobody does, or that process has ended."""
    try:
        age = time.time() - file.stat().st_mtime
        holder = read_table(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return None if age > BEAT else {}  # perhaps just being written
    if holder.get("host") != socket.gethostname():
        return holder if age < DEAD else None
    return holder if alive(holder.get("pid"), holder.get("started")) else None


def _beat(file: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(OSError):
            os.utime(file)


def alive(pid: Any, started: Any = None) -> bool:
    """Whether a process of this machine is there, and is the one that started then."""
    if not isinstance(pid, int) or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    state = _state(pid)
    if state is not None and state[0] == "Z":  # has ended, but nobody has waited for it
        return False
    return started is None or state is None or state[1] == started


def _started(pid: int) -> str | None:
    state = _state(pid)
    return None if state is None else state[1]


def _state(pid: int) -> tuple[str, str] | None:
    """State and start of a process where the machine tells (Linux)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], fields[19]
