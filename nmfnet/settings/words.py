"""Settings as words of a command line or keywords of Python, and the configuration they mean."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmfnet.config import Config, Plain, check_config, conf_dir, options, read_choice
from nmfnet.errors import UserError
from nmfnet.settings.hints import did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

FOLLOWED = re.compile(
    "--(cfg|config-dir|config-name|config-path|info|package|shell-completion|experimental-rerun)"
    "|-(c|cd|cn|cp|i|p|sc)"
)
"""Options of Hydra that are followed by a word of their own."""

OF_HYDRA = {"launcher": "launcher", "hparams_search": "sweeper"}
"""Our groups whose options configure Hydra: launcher.n_jobs is hydra.launcher.n_jobs."""

OF_THE_ROOT = (
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.output_subdir=null",
    "hydra.run.dir=.",
    "hydra.sweep.dir=${runs}/sweeps/${now:%Y-%m-%d_%H-%M-%S-%f}",
    "hydra.sweep.subdir=.",
    "++hydra.callbacks.sweep._target_=nmfnet.sweep.summary.Summary",
    "++hydra.launcher._target_=nmfnet.sweep.launchers.processes.Local",
)
"""How train.yaml sets up Hydra."""


ALONE = ("loss", "init", "solver")
"""Groups of which no other file of ours says anything: what a choice of one means is in its file."""


def configuration(settings: dict[str, Any], folders: Sequence[Path] = ()) -> Config:
    """The checked configuration that a set of keywords means.

    A keyword is a root key, a choice of a group, an option of the model, or a dotted key. ``folders``
    hold choices of the user's own.

    Raises
    ------
    UserError
        For a keyword that is none of these.
    """
    chosen = {key: value for key, value in settings.items() if is_group(key, folders)}
    for group, choice in chosen.items():
        for word in choice if isinstance(choice, list | tuple) else [choice]:
            if not _is_choice(group, str(word), folders):
                known = choices_of(group, folders)
                hint = did_you_mean(str(word), known)
                raise UserError(
                    f"{group}={word!r}: no such choice{hint} (it has {', '.join(known)})"
                )
    words = tuple(sorted((k, _words(v)) for k, v in chosen.items()))
    cfg: Plain = pickle.loads(_composed(words, tuple(str(folder.resolve()) for folder in folders)))
    for key, value in settings.items():
        if key not in chosen:
            set_key(cfg, key, value)
    return check_config(cfg)


def _words(choice: Any) -> str:
    return f"[{','.join(choice)}]" if isinstance(choice, list | tuple) else str(choice)


@cache
def _composed(choices: tuple[tuple[str, str], ...], folders: tuple[str, ...]) -> bytes:
    """The configuration as a pickle, of which everybody takes a copy of his own."""
    alone = {} if folders else {g: c for g, c in choices if g in ALONE and c in options(g)}
    if not alone:
        return pickle.dumps(_compose(choices, folders))
    cfg: Plain = pickle.loads(_composed(tuple(c for c in choices if c[0] not in alone), folders))
    cfg["choices"] |= alone
    return pickle.dumps(cfg | {group: read_choice(group, c) for group, c in alone.items()})


def _compose(choices: tuple[tuple[str, str], ...], folders: tuple[str, ...]) -> Plain:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode
    from omegaconf import OmegaConf, open_dict

    from nmfnet.settings.arguments import quoted
    from nmfnet.settings.compose import Composer

    outer = GlobalHydra.instance().hydra  # a Hydra application may be calling
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            words = [f"{key}={value}" for key, value in choices]
            if folders:
                places = ",".join(quoted(f"file://{folder}") for folder in folders)
                words.append(f"hydra.searchpath=[{places}]")
            loader = Composer(GlobalHydra.instance().config_loader().get_search_path())
            cfg = loader.load_configuration("train", words, RunMode.RUN, from_shell=False)
        made = OmegaConf.to_container(cfg.hydra.runtime.choices)
        with open_dict(cfg):
            del cfg["hydra"]
        return to_plain(cfg, made)
    finally:
        GlobalHydra.instance().hydra = outer


def set_key(cfg: Plain, key: str, value: Any) -> None:
    """Put one keyword where it belongs: a dotted key, a root key, or an option of the model."""
    *path, last = key.split(".")
    if not path and key not in cfg:
        if key not in cfg["model"]:
            known = [*cfg, *cfg["model"]]
            raise UserError(f"{key}: no such setting{did_you_mean(key, known)}")
        path = ["model"]
    node = cfg
    for step in path:
        node = node.get(step) if isinstance(node, dict) else None  # type: ignore[assignment]
        if not isinstance(node, dict):
            raise UserError(f"{key}: no such setting (there is no group {step!r})")
    node[last] = list(value) if isinstance(value, tuple) else value


def to_plain(cfg: DictConfig, choices: Any) -> Plain:
    """The configuration as plain values, with the choice made in every group."""
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    made = {k: v for k, v in dict(choices).items() if not k.startswith("hydra/") and v is not None}
    several = {group: list(values.get(group) or {}) for group in ("penalty", "logger")}
    stored = values.get("choices") or {}  # of a config.yaml that is run again
    made = {**{group: names for group, names in several.items() if names}, **stored, **made}
    return {str(key): value for key, value in values.items()} | {"choices": made}


def open_keys(arguments: Sequence[str]) -> list[str]:
    """Check group choices, and let unknown keys through to :func:`check_config`.

    Hydra reports unknown keys one at a time and suggests to add them with ``+``; it gets every
    ``key=value`` as ``++key=value``, and our own check names all wrong keys at once.

    Raises
    ------
    UserError
        For choices that no group has, all at once.
    """
    folders = own_folders(arguments)
    opened: list[str] = []
    problems: list[str] = []
    for i, argument in enumerate(arguments):
        match = re.fullmatch(r"(\+{0,2})([\w./@-]+)=(.*)", argument, re.DOTALL)
        of_option = i > 0 and FOLLOWED.fullmatch(arguments[i - 1])
        if argument.startswith(("-", "~")) or of_option:
            opened.append(argument)
        elif match is None:
            problems.append(f"{argument}: write settings as key=value")
        elif match[2].startswith("hydra"):
            opened.append(argument)
        elif match[2].partition(".")[0] in OF_HYDRA and "." in match[2]:
            group, _, key = match[2].partition(".")
            opened.append(f"++hydra.{OF_HYDRA[group]}.{key}={match[3]}")
        elif is_group(match[2], folders):
            null = match[3] == "null" and "none" in options(match[2])
            value = "none" if null else match[3]
            problems += _wrong_choices(match[2], value, folders)
            opened.append(f"{match[2]}={value}")
        else:
            opened.append(f"++{match[2]}={match[3]}")
    if problems:
        raise UserError("\n".join(problems))
    return opened


def with_own_root(arguments: list[str]) -> list[str]:
    """Add what train.yaml tells Hydra when another root is run: ``--config-name config``."""
    if not any(re.match("--config-name|-cn", argument) for argument in arguments):
        return arguments
    return [*arguments, *OF_THE_ROOT]


def own_folders(arguments: Sequence[str]) -> list[Path]:
    """Folders with the user's own configurations: ``--config-dir`` and ``hydra.searchpath``."""
    text = "\n".join(arguments)
    found = re.findall(r"^(?:--config-dir|-cd)[=\n](.+)$", text, re.MULTILINE)
    for folder in found:
        if not Path(folder).is_dir():
            raise UserError(f"--config-dir {folder}: there is no such folder")
    return [Path(folder) for folder in found + re.findall(r"file://([^,\]\s]+)", text)]


def import_from(folders: Sequence[Path]) -> None:
    """Let the modules of a user be found: in the current folder and in those of the configurations."""
    if folders:
        places = [str(folder.resolve()) for folder in [Path(), *folders]]
        sys.path += [place for place in dict.fromkeys(places) if place not in sys.path]


def is_group(key: str, folders: Sequence[Path]) -> bool:
    """Whether a key names a config group rather than a value."""
    return any((folder / key).is_dir() for folder in [conf_dir(), *folders])


def _is_choice(group: str, word: str, folders: Sequence[Path]) -> bool:
    return any((folder / group / f"{word}.yaml").is_file() for folder in [conf_dir(), *folders])


def choices_of(group: str, folders: Sequence[Path]) -> list[str]:
    """Choices of a group: nmfnet's and the user's own."""
    own = [path.stem for folder in folders for path in (folder / group).glob("*.yaml")]
    return sorted({*options(group), *own})


def _wrong_choices(group: str, value: str, folders: Sequence[Path]) -> list[str]:
    known = choices_of(group, folders)
    words = [word.strip() for word in re.split(r"[,\[\]]", value) if word.strip()]
    if any(re.search(r"[()*/]", word) for word in words):
        return []  # glob(*) and the like
    has = ", ".join(known) if known else "no choices yet: give the folder of yours as --config-dir"
    return [
        f"{group}={word}: no such choice{did_you_mean(word, known)} ({group} has: {has})"
        for word in words or [""]
        if word not in known
    ]
