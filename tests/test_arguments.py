"""Any path works as typed, options go anywhere, and what cannot be read is said in our own words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from shell import FAST, nmfnet, refusal, the_message, train

import nmfnet as package
from nmfnet.settings.arguments import as_hydra_reads, parsed

NAMES = [
    *("a=b", "x,y", "data(1)", "tableé", "[a]", "{b:1}", "it's", 'q"q', "a#b", "c&d", "e;f", "g~h"),
    *("i!j", "sp ace", "do$l", "b\\s", "b\\'", "100%", "a@b", "a:b", "2024", "1e5", "true", " a "),
    *("üß", "'", "[", "=", "glob(*)", "range(1,3)", "a\\", "*", "?", "+", "~no-such-user", "日本"),
]
"""Names of files and folders, each special to Hydra, omegaconf or shells in some way."""


def value_of(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("name", NAMES)
def test_hydra_reads_a_path_as_it_was_typed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for key in ("++data.path", "++run_dir", "++runs", "hydra.sweep.dir", "++init.path"):
        for path in (name, f"folder/{name}", f"/home/{name}/x.csv"):
            assert value_of(as_hydra_reads(f"{key}={path}", sweep=False)) == path
    (tmp_path / name).touch()
    assert value_of(as_hydra_reads(f"++data.path={name}", sweep=True)) == name


def test_a_tilde_is_the_home_folder():
    home = str(Path("~/x").expanduser())
    for key in ("++data.path", "++runs", "++run_dir"):
        assert value_of(as_hydra_reads(f"{key}=~/x", sweep=False)) == home


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("++data.delimiter=;", ";"),
        ("++data.delimiter=\\t", "\\t"),
        ("++data.token_pattern=(", "("),
        ("++data.label_column=größe", "größe"),
        ("++data.path='a b'", "a b"),
        ("++data.path=null", None),
        ("++run_dir=null", None),
        ("++seed=3", 3),
        ("++model.hidden=[8,4]", [8, 4]),
        ("++data.origin={a:1}", {"a": 1}),
        ("++figures=false", False),
    ],
)
def test_other_values_mean_what_they_meant(word, value):
    assert value_of(as_hydra_reads(word, sweep=False)) == value


def test_a_sweep_over_paths_is_one():
    word = as_hydra_reads("++data.path=a=b.csv,tableé.csv", sweep=True)
    override = OverridesParser.create().parse_override(word)
    assert list(override.sweep_string_iterator()) == ["'a=b.csv'", "'tableé.csv'"]


def test_options_go_anywhere():
    words = parsed(["++a=1", "-m", "++b=2", "--config-dir", "conf", "++c=3"])
    assert words.multirun
    assert words.config_dir == "conf"
    assert words.overrides == ["++a=1", "++b=2", "++c=3"]


@pytest.fixture
def table(tmp_path):
    def write(name: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text("name,a,b\ns1,1,2\ns2,3,4\n")
        return file

    return write


WORDS = ("data=table", "data.orientation=samples_by_features", "max_iter=3", "figures=false")
ONE = "model.n_components=1"
ODD = "ü é=,[({'#&~;$ \"!"


def test_a_run_reads_and_writes_where_it_was_told(tmp_path, table):
    table(f"{ODD}/{ODD}.csv")
    done = train(*WORDS, ONE, f"data.path={ODD}/{ODD}.csv", f"run_dir={ODD} run", cwd=tmp_path)
    assert done.code == 0, done.err
    folder = tmp_path / f"{ODD} run"
    assert package.load(folder).n_components == 1
    done = nmfnet("export", str(folder), "--to", "csv", "-o", f"{ODD}out", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / f"{ODD}out" / "W.csv").is_file()


def test_a_sweep_is_resumed_wherever_it_lies(tmp_path, table):
    folder = table(f"{ODD}/x.csv").parent
    done = train(*WORDS, "data.path=x.csv", "-m", "model.n_components=1,2", cwd=folder)
    assert done.code == 0, done.err
    assert done.out.count("done") == 2
    sweep = next((folder / "runs" / "sweeps").iterdir())
    stored = json.loads((sweep / "sweep.json").read_text())
    assert stored["arguments"] == [*WORDS, "data.path=x.csv", "-m", "model.n_components=1,2"]
    (sweep / "jobs" / "0001.json").unlink()
    done = nmfnet("sweep", "resume", str(sweep), cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.count("found") == 2
    assert sorted((folder / "runs" / "sweeps").iterdir()) == [sweep]


def test_home_folders_are_expanded(tmp_path, table, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    table("home/x.csv")
    words = (*WORDS, "data.path=~/x.csv", "seed=1,2", ONE, "-m")
    assert train(*words, "runs=~/r", cwd=tmp_path).code == 0
    assert not (tmp_path / "~").exists()
    sweep = next((tmp_path / "home" / "r" / "sweeps").iterdir())
    assert nmfnet("ls", "~/r", cwd=tmp_path).code == 0
    assert nmfnet("sweep", "resume", f"~/r/sweeps/{sweep.name}", cwd=tmp_path).code == 0
    run = next((tmp_path / "home" / "r" / "nmf").iterdir())
    assert package.load(f"~/r/nmf/{run.name}").n_components == 1
    assert nmfnet("report", "~/r", "-o", "~/page.html", cwd=tmp_path).code == 0
    assert (tmp_path / "home" / "page.html").is_file()


REFUSED = {
    "resolve alone": (("--resolve",), "--cfg job"),
    "unknown option": (("-x",), "-x"),
    "unknown long option": (("--foo", "seed=1"), "--foo"),
    "two modes": (("--cfg", "job", "-m"), "--multirun"),
    "wrong word": (("--cfg", "jb"), "jb"),
    "no word": (("--config-dir",), "--config-dir"),
    "a pickle": (("--experimental-rerun", "x"), "pickle"),
    "no such root": (("--config-name", "nope"), "nope"),
    "choices": (("choices=3",), "group=NAME"),
    "one choice": (("choices.model=nmf",), "group=NAME"),
    "launcher without -m": (("launcher=joblib",), "launcher=joblib is for sweeps: add -m"),
    "its option": (("launcher.foo=1",), "launcher.foo=1 is for sweeps: add -m"),
    "search without -m": (("hparams_search.n_trials=3",), "is for sweeps: add -m"),
    "several values": (("seed=1,2",), "seed=1,2: several values need -m"),
    "several choices": (("model=nmf,convex_nmf",), "several values need -m"),
    "nothing to sweep": (("-m", "seed=range(0,0)"), "seed=range(0,0)"),
    "no step": (("-m", "seed=range(0,5,0)"), "no value in this range"),
    "backwards": (("-m", "seed=range(5,0)"), "no value in this range"),
    "broken choice": (("loss=[kl",), "loss=[NAME,NAME]"),
    "comma at the end": (("-m", "loss=kl,"), "loss=kl,"),
    "interpolation": (("data.path=${x}",), "'x' not found"),
    "tilde": (("~/x",), "key=value"),
    "nothing to leave out": (("~foo",), "foo"),
    "key below a value": (("model.n_components.x=3",), "a whole number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_said_in_our_words(case, tmp_path):
    words, fragment = REFUSED[case]
    message = refusal(*words, cwd=tmp_path)
    assert fragment in message
    assert "++" not in message
    assert len(message.splitlines()) <= 2
    for foreign in ("usage:", "Exception", "hydra.cc", "searchpath", "Error executing"):
        assert foreign not in message


def test_a_sweep_of_nothing_leaves_nothing(tmp_path):
    done = train("-m", *FAST, "seed=range(0,0)", cwd=tmp_path)
    assert done.code == 2
    the_message(done)
    assert list(tmp_path.iterdir()) == []


def test_both_commands_tell_the_same_version(tmp_path):
    told = [command("--version", cwd=tmp_path).out for command in (train, nmfnet)]
    assert told[0] == told[1] == f"nmfnet {package.__version__}\n"


def test_provenance_has_the_command_as_it_was_typed(tmp_path, table):
    table("a=b.csv")
    words = (*WORDS, ONE, "data.path=a=b.csv", "run_dir=run")
    assert train(*words, cwd=tmp_path).code == 0
    origin = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert origin["command"] == ["nmfnet-train", *words]
