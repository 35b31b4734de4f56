from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from report_runs import begin, make_job, make_run

from nmfnet import UserError
from nmfnet.report.dashboard import Dashboard, fingerprint
from nmfnet.run.lock import locked


@pytest.fixture
def serve():
    servers = []

    def start(root):
        server = Dashboard(root, 0)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(server: Dashboard, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def shown(server: Dashboard) -> str:
    return json.loads(ask(server, "/fingerprint.json")[1])["fingerprint"]


def test_serves_the_page_and_a_fingerprint_that_changes_with_the_runs(tmp_path, serve):
    server = serve(tmp_path)
    status, text = ask(server, "/")
    assert status == 200
    assert "0 runs" in text  # nothing yet is no error: the sweep may just have begun
    before = shown(server)
    assert shown(server) == before
    assert before in text
    make_run(tmp_path, "a")
    time.sleep(max(0.2, 4 * server._cost))
    after = shown(server)
    assert after != before
    status, text = ask(server, "/?x=1")
    assert "1 run" in text
    assert after in text


def test_a_report_file_asks_no_server(tmp_path):
    from nmfnet.report.page import report

    make_run(tmp_path / "runs", "a")
    assert '"fingerprint":null' in report(tmp_path / "runs", tmp_path / "r.html").read_text()


def test_only_the_page_is_served_and_only_on_this_machine(tmp_path, serve):
    make_run(tmp_path, "a")
    server = serve(tmp_path)
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "/nmf/a/config.yaml")[0] == 404
    assert ask(server, "/../../etc/passwd")[0] == 404
    assert ask(server, "/", host="evil.example:80")[0] == 403
    assert ask(server, "/", host=f"localhost:{server.server_port}")[0] == 200


def test_fingerprint_sees_runs_that_begin_end_fail_and_go(tmp_path):
    seen = [fingerprint(tmp_path)]
    folder = tmp_path / "nmf" / "a"
    folder.mkdir(parents=True)
    (folder / "history.csv").touch()
    seen.append(fingerprint(tmp_path))
    (folder / "history.csv").write_text("iteration,seconds,objective\n1,1,1\n")
    assert fingerprint(tmp_path) == seen[-1]  # progress alone makes no new page
    (folder / "metrics.json").write_text("{}")
    seen.append(fingerprint(tmp_path))
    make_job(tmp_path / "sweeps" / "s", 0, tmp_path / "b", "failed")
    seen.append(fingerprint(tmp_path))
    (folder / "metrics.json").unlink()
    seen.append(fingerprint(tmp_path))
    assert len(set(seen)) == 5


def test_a_taken_port_and_a_missing_folder_have_one_message(tmp_path, serve):
    taken = serve(tmp_path).server_port
    with pytest.raises(UserError, match=f"port {taken}.*--port"):
        Dashboard(tmp_path, taken)
    with pytest.raises(UserError, match="port 99999"):
        Dashboard(tmp_path, 99999)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is no folder"):
        Dashboard(tmp_path / "file", 0)


def test_it_waits_for_the_first_run_and_shows_how_far_it_is(tmp_path, serve):
    server = serve(tmp_path / "runs")
    assert "0 runs" in ask(server, "/")[1]
    folder = begin(
        tmp_path / "runs" / "nmf" / "a",
        "100,0.5,12\n200,1.5,7.25\n300,2",  # not yet whole
    )
    time.sleep(max(0.2, 4 * server._cost))
    said = [["nmf/a", "iteration 200, objective 7.25, 2 s"]]
    with locked(folder):
        assert json.loads(ask(server, "/fingerprint.json")[1])["running"] == said
        assert said[0][1] in ask(server, "/")[1]
        before = fingerprint(tmp_path / "runs")
    assert fingerprint(tmp_path / "runs") != before  # without results, as after a kill


def test_the_command_says_its_address_and_ctrl_c_ends_it(tmp_path):
    code = "import sys; from nmfnet.commands import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, "dashboard", str(tmp_path), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert "http://127.0.0.1:" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "dashboard ended" in out
    assert err == ""
