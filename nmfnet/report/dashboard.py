"""``nmfnet dashboard RUNS``: the page, served on this machine only, fresh while a sweep runs."""

from __future__ import annotations

import hashlib
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from nmfnet.errors import UserError
from nmfnet.report.collect import Run, collect
from nmfnet.report.page import page
from nmfnet.report.run import progress_of
from nmfnet.run.lock import LOCK, held

__all__ = ["Dashboard", "dashboard", "fingerprint"]

REST = 3.0
"""A new page is made at most every so many times the seconds that making one takes."""


def dashboard(runs: str | Path = "runs", port: int = 8050) -> None:
    """Serve the report of a folder until Ctrl-C, at http://127.0.0.1:PORT.

    Parameters
    ----------
    runs : str or Path
        A folder of runs; it may still be empty, or not be there yet.
    port : int
        0 = any free port.

    Raises
    ------
    UserError
        If that is no folder, or the port is in use.
    """
    server = Dashboard(Path(runs), port)
    try:
        if not server.root.is_dir():
            print(f"{runs} is not there yet: the page waits for the first run")
        print(
            f"nmfnet dashboard of {runs}: http://127.0.0.1:{server.server_port}  (Ctrl-C ends it)"
        )
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        print("\ndashboard ended")
    finally:
        server.server_close()


class Dashboard(ThreadingHTTPServer):
    """A server of ``/`` (the page) and ``/fingerprint.json`` (is there a newer one, what is running).

    Listens on 127.0.0.1 and answers only to that name, so that no other site can read it.

    Parameters
    ----------
    root : Path
        Folder of the runs.
    port : int
        0 = any free port; ``server_port`` says which.
    """

    daemon_threads = True

    def __init__(self, root: Path, port: int) -> None:
        if root.exists() and not root.is_dir():
            raise UserError(f"{root} is no folder: give one that holds runs, such as runs/")
        self.root = root
        self._lock = Lock()
        self._page = b""
        self._shown = ""
        self._running: list[Run] = []
        self._made, self._cost = 0.0, 0.0
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"cannot listen on port {port} ({error}): choose another with --port, or 0 for any"
            ) from error

    def current(self) -> tuple[bytes, str]:
        """The page and its fingerprint, made anew when the runs have changed."""
        with self._lock:
            rested = time.monotonic() - self._made > REST * self._cost
            if not self._page or rested:
                now = fingerprint(self.root)
                if now != self._shown or not self._page:
                    began = time.monotonic()
                    every = _runs(self.root)
                    self._running = [run for run in every if run.status == "running"]
                    self._page = page(every, self.root, fingerprint=now).encode()
                    self._shown, self._made = now, time.monotonic()
                    self._cost = self._made - began
            return self._page, self._shown

    def running(self) -> list[list[str]]:
        """Name of every run that is training, and how far it is."""
        return [[run.name, progress_of(run.folder)] for run in self._running]


def fingerprint(root: Path) -> str:
    """A short text that changes when a run begins, ends or is removed below a folder."""
    digest = hashlib.sha256()
    for place, inside, files in os.walk(root):
        inside.sort()
        for name in sorted(files):
            if name == "metrics.json" or (name.endswith(".json") and place.endswith("jobs")):
                try:
                    stamp = str(Path(place, name).stat().st_mtime_ns)
                except OSError:
                    stamp = "gone"
                digest.update(f"{place}/{name} {stamp}\n".encode())
            elif name == "history.csv":
                digest.update(f"{place}/{name} {held(Path(place, LOCK))}\n".encode())
        if "history.csv" in files or "metrics.json" in files:
            inside.clear()
    return digest.hexdigest()[:16]


def _runs(root: Path) -> list[Run]:
    try:
        return collect(root)
    except UserError:  # none yet: the page waits
        return []


class _Handler(BaseHTTPRequestHandler):
    server: Dashboard

    def do_GET(self) -> None:
        """Answer one request."""
        host = self.headers.get("Host", "").rpartition(":")[0]
        path = self.path.partition("?")[0]
        if host not in ("127.0.0.1", "localhost"):
            self._send(403, "text/plain", b"this dashboard answers to 127.0.0.1 only")
        elif path == "/":
            self._send(200, "text/html; charset=utf-8", self.server.current()[0])
        elif path == "/fingerprint.json":
            news = {"fingerprint": self.server.current()[1], "running": self.server.running()}
            body = json.dumps(news).encode()
            self._send(200, "application/json", body)
        else:
            self._send(404, "text/plain", b"not here: the dashboard is at /")

    def _send(self, status: int, kind: str, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):  # the browser left
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the terminal belongs to the user."""
