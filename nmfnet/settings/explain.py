"""``nmfnet-train --help``: the keys of the root and the groups; with choices, the options of these."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from nmfnet.config import Plain, conf_dir
from nmfnet.settings.declared import declared
from nmfnet.settings.hints import shown
from nmfnet.settings.words import choices_of, is_group

USAGE = """nmfnet-train - every factorisation, classical or neural, on equal terms

Usage:  nmfnet-train [group=choice] [key=value] ... [-m]

  nmfnet-train model=convex_nmf
  nmfnet-train data=table data.path=X.csv data.orientation=samples_by_features loss=kl
  nmfnet-train -m model=nmf,autoencoder model.n_components=4,8 n_restarts=10

Groups and their choices (nmfnet-train model=NAME --help shows the options of a choice):
"""

OPTIONS = """
--cfg job         print the configuration that would run
-m                sweep over every value given with commas
--info            where configurations are looked for
--config-dir DIR  a folder with yaml files of your own
--version         the version of nmfnet
"""


def explain(words: Sequence[str], folders: Sequence[Path]) -> str:
    """The help for a command.

    Parameters
    ----------
    words : sequence of str
        Its settings: the options of every choice in them are told.
    folders : sequence of Path
        Folders with the user's own configurations.
    """
    pairs = [word.lstrip("+").partition("=")[::2] for word in words]
    chosen = [(key, value) for key, value in pairs if is_group(key, folders)]
    if chosen:
        return "\n\n".join(_choice(*pair, folders) for pair in chosen if pair[1] != "none")
    groups = sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
    listed = _aligned([(group, ", ".join(choices_of(group, folders))) for group in groups])
    return f"{USAGE}\n{listed}\n\nKeys of the root, and what they are by default:\n\n{_root()}\n{OPTIONS}"


def _root() -> str:
    """The keys of train.yaml as it has them, each with its line."""
    text = (conf_dir() / "train.yaml").read_text(encoding="utf-8")
    first, last = text.index("# Equal terms"), text.index("choices: {}")
    return textwrap.indent(text[first:last].strip(), "  ")


def _choice(group: str, name: str, folders: Sequence[Path]) -> str:
    """What a choice is, and its options: default and meaning of each."""
    places = [folder / group / f"{name}.yaml" for folder in [*folders, conf_dir()]]
    text = next(file for file in places if file.is_file()).read_text(encoding="utf-8")
    node: Plain = yaml.safe_load(text) or {}
    package = re.search(r"^# @package ([\w.]+)", text, re.MULTILINE)
    place = package[1] if package and package[1].startswith(group) else group
    if package and package[1] == "_global_":
        node, place = (node[group], group) if group in node else (node, "")
    found = declared(str(node.get("_target_")))
    comment = re.search(r"^#\s*(?!@)(\S.*)", text, re.MULTILINE)
    title = found.words.split("\n", 1)[0] if found and found.words else comment and comment[1]
    remarks = dict(re.findall(r"^\s*\"?(\w+)\"?:.*?\s#\s*(.*?)\s*$", text, re.MULTILINE))
    options = dict(_flat(node))
    for key, option in found.options.items() if found else ():
        if key not in node:
            options[key] = option.default or ""
    rows = [
        (
            f"{place}.{key}={value}".lstrip("."),
            remarks.get(key.rpartition(".")[2]) or (found.line(key) if found else ""),
        )
        for key, value in options.items()
    ]
    return f"{group}={name}: {title or ''}\n\n{_aligned(rows) if rows else '  (no options)'}"


def _flat(node: Plain, above: str = "") -> Iterator[tuple[str, str]]:
    """Keys with dots, and values; without what is an object of its own."""
    for key, value in node.items():
        if isinstance(value, dict) and "_target_" not in value:
            yield from _flat(value, f"{above}{key}.") if "_target_" not in node else ()
        elif key not in ("_target_", "defaults") and not isinstance(value, dict):
            yield f"{above}{key}", shown(value)


def _aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns; the second is broken where the terminal ends."""
    left = min(max(len(first) for first, _ in rows), 34)
    width = max(shutil.get_terminal_size((100, 24)).columns - 2, left + 40)

    def lines() -> Iterator[str]:
        for first, second in rows:
            told = textwrap.wrap(second, width - left - 4, break_on_hyphens=False) or [""]
            start = [first] if len(first) <= left else [first, ""]
            for i in range(max(len(told) + len(start) - 1, 1)):
                head = start[i] if i < len(start) else ""
                tail = told[i - len(start) + 1] if i >= len(start) - 1 else ""
                yield f"  {head:<{left}}  {tail}".rstrip()

    return "\n".join(lines())
