"""``nmfnet-train``: Hydra in front of :func:`nmfnet.run.train.train`. Heavy imports wait for a job."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra.version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nmfnet.arguments import in_a_sentence, parsed
from nmfnet.config import Plain, check_config, conf_dir, did_you_mean, options, root_is_sound
from nmfnet.errors import UserError

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


def main() -> None:
    """Console entry point: exit code 0 done, 1 failed jobs, 2 bad input, 130 Ctrl-C or SIGTERM."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of Hydra's own printer
    try:
        if "--version" in sys.argv[1:]:
            from nmfnet import __version__

            print(f"nmfnet {__version__}")
            return
        given = parsed(open_keys(sys.argv[1:]))
        given.overrides += with_own_root(sys.argv[1:])[len(sys.argv[1:]) :]
        if given.multirun:
            from nmfnet.sweep import launchers
            from nmfnet.sweep.search.sweeper import Search

            launchers.register(*launchers.PLUGINS, Search)
        hydra.version.setbase("1.3")
        _run_hydra(given, get_args_parser(), _task, str(conf_dir()), "train")
    except UserError as error:
        stop(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        stop(in_a_sentence(error))
    except YAMLError as error:
        stop(f"a configuration file is not valid yaml: {error}")
    except BrokenPipeError:  # | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        stop_unusable(error)
    except KeyboardInterrupt:
        stop("interrupted", code=130)


def stop(message: str, code: int = 2) -> None:
    """One message on standard error, then the exit code."""
    print(f"nmfnet: {message}", file=sys.stderr)
    sys.exit(code)


def stop_unusable(error: OSError) -> None:
    """Stop for a file that cannot be read or written."""
    if error.strerror is None:
        raise error
    stop(f"cannot use {error.filename or 'the output'}: {error.strerror}")


def _task(cfg: DictConfig) -> float:
    choices = HydraConfig.get().runtime.choices
    try:  # stopped here, before Hydra announces an error in its own words
        if (search := choices.get("hparams_search")) not in (None, "none"):
            raise UserError(f"hparams_search={search} is for sweeps: add -m")
        return run_one(to_plain(cfg, choices))
    except UserError as error:
        stop(str(error))
        raise
    except OmegaConfBaseException as error:
        stop(in_a_sentence(error))
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        stop_unusable(error)
        raise


def run_one(cfg: Plain) -> float:
    """Train, print the result, return the objective."""
    from nmfnet.report.tables import print_result
    from nmfnet.run.finished import finished

    try:
        before = finished(cfg) if root_is_sound(cfg) else None
    except UserError:
        check_config(cfg)  # a misspelt key is the more helpful message
        raise
    if before is not None:
        print_result(before)
        return float(before.metrics["objective"])
    check_config(cfg)
    from nmfnet.run.train import Interrupted, NotFirst, Terminated, train

    try:
        if cfg.get("ranks") is not None:
            return select_rank(cfg)
        result = train(cfg)
    except NotFirst:
        sys.exit(0)
    except (Interrupted, Terminated) as error:
        stop(str(error), code=130)
        raise
    print_result(result)
    return float(result.metrics["objective"])


def select_rank(cfg: Plain) -> float:
    """Run a rank selection, print its table, return the objective at the suggested rank."""
    from nmfnet.report.tables import print_result
    from nmfnet.selection.run import Selected, select
    from nmfnet.selection.tables import print_selection

    result = select(cfg)
    if isinstance(result, Selected):
        print_selection(result)
    else:
        print_result(result)
    return float(result.metrics["objective"])


def to_plain(cfg: DictConfig, choices: Any) -> Plain:
    """The configuration as plain values, with the choice made in every group."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    made = {k: v for k, v in dict(choices).items() if not k.startswith("hydra/") and v is not None}
    several = {group: list(plain.get(group) or {}) for group in ("penalty", "logger")}
    stored = plain.get("choices") or {}  # of a config.yaml that is run again
    made = {**{group: names for group, names in several.items() if names}, **stored, **made}
    return {str(key): value for key, value in plain.items()} | {"choices": made}


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


def is_group(key: str, folders: Sequence[Path]) -> bool:
    """Whether a key names a config group rather than a value."""
    return any((folder / key).is_dir() for folder in [conf_dir(), *folders])


def _wrong_choices(group: str, value: str, folders: Sequence[Path]) -> list[str]:
    own = [path.stem for folder in folders for path in (folder / group).glob("*.yaml")]
    known = sorted({*options(group), *own})
    words = [word.strip() for word in re.split(r"[,\[\]]", value) if word.strip()]
    if any(re.search(r"[()*/]", word) for word in words):
        return []  # glob(*) and the like
    has = ", ".join(known) if known else "no choices yet: give the folder of yours as --config-dir"
    return [
        f"{group}={word}: no such choice{did_you_mean(word, known)} ({group} has: {has})"
        for word in words or [""]
        if word not in known
    ]
