"""The folder conf/data is the registry of data sets: one yaml each, nothing else to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nmfnet.config import conf_dir
from nmfnet.data.formats.raw import did_you_mean
from nmfnet.data.sources.source import Source
from nmfnet.errors import UserError

__all__ = ["data_config", "data_names", "data_summary", "source"]


def data_names() -> list[str]:
    """Names that ``data=NAME`` understands."""
    return sorted(path.stem for path in (conf_dir() / "data").glob("*.yaml"))


def data_config(name: str) -> dict[str, Any]:
    """The configuration of a data set as plain values.

    Raises
    ------
    UserError
        No such data set.
    """
    import yaml

    text = _yaml(name).read_text(encoding="utf-8")
    return {key: value for key, value in yaml.safe_load(text).items() if key != "defaults"}


def data_summary(name: str) -> str:
    """The first comment line of its yaml: what the data set is."""
    first = _yaml(name).read_text(encoding="utf-8").split("\n", 1)[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def source(name: str, **options: Any) -> Source:
    """The source of a data set, with some options changed.

    Raises
    ------
    UserError
        No such data set, or no such option.
    """
    from hydra.utils import instantiate

    config = data_config(name)
    for key in options:
        if key not in config:
            known = [option for option in config if option not in ("_target_", "origin")]
            raise UserError(f"{name} has no option {key!r}.{did_you_mean(key, known)}")
    made = instantiate({**config, **options}, _convert_="all")
    assert isinstance(made, Source)
    return made


def _yaml(name: str) -> Path:
    names = data_names()
    if name not in names:
        raise UserError(
            f"There is no data set {name!r}.{did_you_mean(name, names)} Known: {', '.join(names)}."
        )
    return (conf_dir() / "data") / f"{name}.yaml"
