"""Verified files, downloads, the registry and the data commands."""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

import nmfnet.data
from nmfnet.data import Origin, Source, Split, Table, commands
from nmfnet.data.sources import registry
from nmfnet.errors import UserError

CONF = Path(__file__).resolve().parents[2] / "conf"
TEXT = b"id,a,b\nx,1,2\ny,3,4\n"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "t.csv").write_bytes(TEXT)
    handler = partial(Quiet, directory=str(tmp_path / "www"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("NMFNET_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def origin(url: str, digest: str | None = None, **fields: Any) -> Origin:
    digest = digest or hashlib.sha256(TEXT).hexdigest()
    files = {"t.csv": {"url": f"{url}/t.csv", "sha256": digest}}
    return Origin(name="toy", licence="none", citation="Toy 2024.", files=files, **fields)


def test_download_once_then_read_from_disk(server: str, cache: Path, tmp_path: Path) -> None:
    entry = origin(server)
    assert not entry.is_cached("t.csv")
    source = Table(path="t.csv", orientation="samples_by_features", origin=entry)
    matrix = source.read()
    assert matrix.values.tolist() == [[1, 2], [3, 4]]
    assert matrix.citation == "Toy 2024."
    assert matrix.sources == {"toy/t.csv": hashlib.sha256(TEXT).hexdigest()}
    assert (cache / "toy" / "t.csv").read_bytes() == TEXT
    (tmp_path / "www" / "t.csv").unlink()
    assert source.read().fingerprint() == matrix.fingerprint()


def test_damaged_copy_is_fetched_again(server: str, cache: Path) -> None:
    (cache / "toy").mkdir(parents=True)
    (cache / "toy" / "t.csv").write_text("half a fi")
    assert origin(server).path("t.csv").read_bytes() == TEXT


def test_other_bytes_are_refused(server: str, cache: Path) -> None:
    with pytest.raises(UserError, match=r"server sent other bytes than the registered ones"):
        origin(server, digest="0" * 64).path("t.csv")
    assert not (cache / "toy" / "t.csv").exists()


def test_failed_download_says_what_to_do(cache: Path, server: str) -> None:
    with pytest.raises(UserError) as caught:
        origin("http://127.0.0.1:9").path("t.csv")
    message = str(caught.value)
    for part in (
        str(cache / "toy" / "t.csv"),
        "no connection to the server (offline?)",
        "http://127.0.0.1:9/t.csv",
        hashlib.sha256(TEXT).hexdigest(),
        "Download it by hand to that place, or set NMFNET_DATA to a folder that holds toy/t.csv",
    ):
        assert part in message
    with pytest.raises(UserError, match=r"404"):
        origin(server + "/absent").path("t.csv")


def test_cache_that_cannot_be_written(server: str, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NMFNET_DATA", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"download failed: .*file"):
        origin(server).path("t.csv")


def test_terms_are_shown_before_the_first_download(server: str, capsys: Any) -> None:
    entry = origin(server, terms="be kind")
    entry.path("t.csv")
    assert "Terms of toy: be kind" in capsys.readouterr().err
    entry.path("t.csv")
    assert capsys.readouterr().err == ""


def test_unknown_file_of_a_data_set() -> None:
    with pytest.raises(UserError, match=r"'T.csv' is not a file of the data set toy.*'t.csv'"):
        origin("http://x").path("T.csv")


def test_default_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NMFNET_DATA")
    assert "nmfnet" in str(nmfnet.data.sources.origin.cache_folder())


@pytest.mark.parametrize("path", sorted((CONF / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_data_yaml_fits_its_source(path: Path) -> None:
    check_yaml(path, Source)
    config = yaml.safe_load(path.read_text())
    entry = config.get("origin")
    if entry:
        assert entry["name"] in {other.stem for other in path.parent.glob("*.yaml")}
        for file in entry["files"].values():
            assert len(file["sha256"]) == 64
            assert file["url"].startswith("https://")
    assert registry.data_summary(path.stem)
    if "???" not in config.values():
        registry.source(path.stem)


@pytest.mark.parametrize(
    "path", sorted((CONF / "split").glob("*.yaml")), ids=lambda path: path.stem
)
def test_split_yaml_fits_its_class(path: Path) -> None:
    check_yaml(path, Split)


def check_yaml(path: Path, base: type) -> None:
    """Keys are options of the class; without an origin, all of them with their defaults."""
    config = yaml.safe_load(path.read_text())
    target = getattr(nmfnet.data, config.pop("_target_").removeprefix("nmfnet.data."))
    assert issubclass(target, base)
    parameters = inspect.signature(target).parameters
    assert set(config) <= set(parameters)
    if "origin" in config:
        return
    for name, parameter in parameters.items():
        if name == "origin" or isinstance(config[name], dict):  # a source inside this one
            continue
        default = "???" if parameter.default is parameter.empty else parameter.default
        assert config[name] == default, name


def test_registry_refuses_unknown_names_and_options() -> None:
    with pytest.raises(UserError, match=r"no data set 'digit'.*Did you mean 'digits'"):
        registry.source("digit")
    with pytest.raises(UserError, match=r"no option 'n_component'.*'n_components'"):
        registry.source("planted", n_component=3)
    assert registry.source("planted", n_components=3).read().truth.H.shape[0] == 3  # type: ignore[union-attr]


def test_commands(capsys: Any) -> None:
    commands.list_data()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == registry.data_names()
    assert all(len(line.split("\t")) == 6 for line in lines)
    commands.info("planted")
    out = capsys.readouterr().out
    assert "size\t200 samples x 50 features" in out
    assert "data.noise\tnone" in out
    commands.info("orl-faces")  # not on disk: no size, no download
    out = capsys.readouterr().out
    assert "0 of 1 on disk" in out
    assert "size\t" not in out
    assert "Samaria & Harter 1994" in out
    commands.info("table")
    assert "data.path\t???" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"digits has no files to download"):
        commands.get("digits")
    with pytest.raises(UserError, match=r"Did you mean 'orl-faces'"):
        commands.info("orl")


def test_commands_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    commands.list_data()
    assert "what it is" in capsys.readouterr().out


def test_get_downloads_all_files(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    entry = origin(server)
    config = {
        "_target_": "nmfnet.data.Table",
        "origin": {"_target_": "nmfnet.data.Origin", **vars(entry)},
    }
    monkeypatch.setattr(commands, "data_config", lambda name: config)
    commands.get("toy")
    assert capsys.readouterr().out.strip() == str(cache / "toy" / "t.csv")
    assert entry.is_cached("t.csv")
