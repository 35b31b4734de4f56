from __future__ import annotations

import json
import re

import pytest
from report_runs import draw, make_job, make_run, zoo

from nmfnet import UserError, commands
from nmfnet.report.collect import collect
from nmfnet.report.page import page, report
from nmfnet.report.payload import POINTS, command_of
from nmfnet.report.pictures import Album


def data_of(text: str) -> dict:
    """What the page's scripts read."""
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1]
    )


@pytest.fixture
def runs(tmp_path):
    zoo(tmp_path / "runs")
    make_job(
        tmp_path / "runs" / "sweeps" / "x", 0, tmp_path / "runs/nmf/no", "failed", error="bad k"
    )
    return tmp_path / "runs"


def test_the_page_is_one_file_that_loads_nothing_from_elsewhere(runs, tmp_path, capsys):
    target = report(runs, tmp_path / "new" / "report.html")
    text = target.read_text()
    assert "27 runs, 1 failed in" in capsys.readouterr().out
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//|[\w./]+\.(js|css|png))", text)
    assert not re.search(r"@import|url\((?!data:)", text)
    assert "default-src 'none'" in text
    assert sorted(p.name for p in target.parent.iterdir()) == ["report.html"]


def test_the_page_holds_runs_groups_comparisons_curves_and_failures(runs):
    data = data_of(page(collect(runs), runs))
    assert len(data["runs"]) == 27
    (group,) = data["groups"]
    assert group["main"] == "test/relative_error"
    assert group["methods"] == ["nmf", "ae", "convex_nmf"]
    sizes = {row[0] for row in group["compared"]}
    assert sizes == {None, 2, 4, 8}
    verdicts = {
        (row[2], row[3]): row[-1]
        for row in group["compared"]
        if row[0] is None and row[1] == "test/relative_error"
    }
    assert verdicts["convex_nmf", "nmf"] == "worse"
    assert verdicts["ae", "nmf"] == "noise"
    assert any("No different from nmf (noise): ae" in text for text in group["short"])
    assert any("Worse than nmf: convex_nmf (+" in text for text in group["short"])
    run = data["runs"][0]
    assert run["history"][0] == [100, 200, 300, 400, 500]
    assert run["history"][2][0] == 150
    assert set(run["figures"]) == {"components", "convergence"}
    assert data["images"][run["figures"]["components"]].startswith("data:image/png;base64,")
    assert [job["problem"] for job in data["lost"]] == ["bad k"]
    assert data["notes"] == ["digits: a note"]
    assert data["common"]["max_iter"] == 1000
    assert "max_iter" not in run["settings"]


def test_names_from_outside_cannot_become_markup(tmp_path):
    evil = "</script><img src=x onerror=alert(1)>&\u2028"
    make_run(tmp_path, "a", origin={"notes": [evil]}, choices={"data": evil})
    text = page(collect(tmp_path), tmp_path / evil)
    assert "<img src=x" not in text
    data = data_of(text)
    assert data["notes"] == [f"{evil}: {evil}"]
    assert data["groups"][0]["name"].startswith(evil)


def test_warnings_name_what_is_wrong_with_a_run(tmp_path):
    odd = {"converged": False, "components/collapsed": 2, "stability/matched_cosine": 0.5}
    make_run(tmp_path, "a", metrics=odd | {"stability/objective_spread": 0.3})
    make_run(tmp_path, "b")
    told = {
        run["id"]: run["warnings"] for run in data_of(page(collect(tmp_path), tmp_path))["runs"]
    }
    assert told["nmf/b"] == []
    said = " | ".join(told["nmf/a"])
    for word in (
        "not converged in 500",
        "2 pairs of components",
        "cosine of 0.50",
        "differ by 30.0%",
    ):
        assert word in said


def test_long_histories_are_thinned_and_keep_their_ends(tmp_path):
    folder = make_run(tmp_path, "a")
    rows = [f"{i},{i / 10},{1000 / i}" for i in range(1, 5001)]
    (folder / "history.csv").write_text("iteration,seconds,objective\n" + "\n".join(rows) + "\n")
    iterations, _, objective = data_of(page(collect(tmp_path), tmp_path))["runs"][0]["history"]
    assert 20 < len(iterations) <= POINTS
    assert (iterations[0], iterations[-1]) == (1, 5000)
    assert objective[-1] == pytest.approx(0.2)


@pytest.mark.parametrize("text", ["", "iteration,seconds,objective\n", "a,b\n1,2\n", "\x00"])
def test_a_history_that_cannot_be_read_costs_only_its_curve(tmp_path, text):
    (make_run(tmp_path, "a") / "history.csv").write_text(text)
    assert data_of(page(collect(tmp_path), tmp_path))["runs"][0]["history"] == []


@pytest.mark.parametrize(
    ("metrics", "config"),
    [
        ({"test/relative_error": None, "train/relative_error": None}, {}),
        ({"test/relative_error": float("nan"), "converged": None}, {"kkt_tol": 0.1}),
        ({"seconds": "x", "n_iter": []}, {"model": {"_target_": "a.B"}, "seed": None}),
    ],
)
def test_odd_runs_do_not_break_the_page(tmp_path, metrics, config):
    make_run(tmp_path, "odd", model="ae", metrics=metrics, config=config)
    make_run(tmp_path, "good")
    assert len(data_of(page(collect(tmp_path), tmp_path))["runs"]) == 2


def test_runs_with_the_same_last_folders_can_be_told_apart(tmp_path):
    make_run(tmp_path / "one", "x")
    make_run(tmp_path / "two", "x")
    found = {run["id"] for run in data_of(page(collect(tmp_path), tmp_path))["runs"]}
    assert found == {str(tmp_path / "one" / "nmf" / "x"), str(tmp_path / "two" / "nmf" / "x")}


def test_the_page_of_a_single_run(tmp_path):
    folder = make_run(tmp_path, "a")
    (run,) = data_of(page(collect(folder), folder))["runs"]
    assert (run["id"], run["folder"]) == ("nmf/a", ".")


def test_a_model_that_finds_its_number_of_components_is_told_without_one(tmp_path):
    make_run(tmp_path, "a", model="reference_nmf", config={"model.n_components": None})
    (group,) = data_of(page(collect(tmp_path), tmp_path))["groups"]
    assert group["short"][0] == "Best held-out relative error: reference_nmf, 0.4."


def test_repeating_commands(tmp_path):
    run = make_run(
        tmp_path, "a", origin={"command": ["/x/nmfnet-train", "++seed=1", "data.path=a b"]}
    )
    make_run(tmp_path, "b", origin={"command": ["/x/nmfnet-train", "-m", "seed=1,2"]})
    make_run(tmp_path, "c", origin={"command": ["/x/notebook.py"]})
    make_job(tmp_path / "sweeps" / "s", 0, tmp_path / "nmf" / "b", "done")
    told = {r.folder.name: command_of(r) for r in collect(tmp_path)}
    assert told["a"] == "nmfnet-train seed=1 'data.path=a b'"
    assert told["b"] == "nmfnet-train seed=7 model=nmf"
    assert told["c"] == "made by /x/notebook.py"
    assert run.is_dir()


def test_pictures_are_rationed_and_what_is_left_out_is_counted(tmp_path):
    (tmp_path / "figures").mkdir()
    for i in range(12):
        draw(tmp_path / "figures" / f"{i}.png", seed=i, size=40)
    album = Album(budget=20_000)
    kept = album.take(tmp_path)
    assert 0 < len(kept) < 12
    assert len(album.left_out) == 12 - len(kept)
    assert sum(map(len, album.images)) <= 20_000
    assert album.take(tmp_path, ["0"]) == {"0": kept["0"]}


def test_large_pictures_are_drawn_smaller(tmp_path):
    (tmp_path / "figures").mkdir()
    draw(tmp_path / "figures" / "big.png", size=300)
    whole = (tmp_path / "figures" / "big.png").stat().st_size
    album = Album()
    assert album.take(tmp_path) == {"big": 0}
    assert len(album.images[0]) < whole
    (tmp_path / "figures" / "no.png").write_text("no picture")
    assert "no" not in album.take(tmp_path)


def test_bad_output_has_one_message(runs, tmp_path):
    with pytest.raises(UserError, match="is a folder: name the page"):
        report(runs, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        report(runs, tmp_path / "file" / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "nope"], "nope does not exist"),
        (["report", "."], "no runs in ."),
        (["dashboard", "file"], "file is no folder"),
        (["compare", "nope", "nope"], "nope is no folder"),
        (["export", "nope", "--to", "csv"], "nope is no folder"),
        (["export", "nope", "--to", "cvs"], "did you mean 'csv'"),
    ],
)
def test_commands_answer_bad_input_with_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stop:
        commands.main(words)
    told = capsys.readouterr()
    assert stop.value.code == 2
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


@pytest.mark.parametrize("command", ["report", "dashboard", "compare", "export"])
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as stop:
        commands.main([command, "--help"])
    assert stop.value.code == 0
    assert command in capsys.readouterr().out


def test_damaged_runs_are_named_when_the_report_is_written(runs, tmp_path, capsys):
    (make_run(runs, "bad") / "metrics.json").write_text("{")
    commands.main(["report", str(runs), "-o", str(tmp_path / "a.html")])
    told = capsys.readouterr().out
    assert "1 damaged" in told
    assert "metrics.json cannot be read" in told


@pytest.mark.slow
def test_a_thousand_runs_fit_in_a_page(tmp_path):
    zoo(tmp_path / "runs", seeds=112, sizes=(2, 4, 8))
    for folder in (tmp_path / "runs").glob("*/*/figures"):
        for i in range(4):
            draw(folder / f"more{i}.png", seed=hash(str(folder)) % 2**31, size=60)
    target = report(tmp_path / "runs", tmp_path / "report.html")
    assert target.stat().st_size < 20e6
    assert data_of(target.read_text())["left_out"] > 0


def test_one_component_is_no_plural(tmp_path):
    make_run(tmp_path, "a", k=1)
    (group,) = data_of(page(collect(tmp_path), tmp_path))["groups"]
    assert group["short"][0] == "Best held-out relative error: nmf with 1 component, 0.4."
