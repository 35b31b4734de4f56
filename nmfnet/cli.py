"""``nmfnet-train``: Hydra in front of :func:`nmfnet.train.train`. Heavy imports wait for a job."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nmfnet.config import Plain, check_config, conf_dir, did_you_mean, options
from nmfnet.errors import UserError


def main() -> None:
    """Console entry point: exit code 0 done, 2 bad configuration or input, 1 failed jobs, 130 Ctrl-C."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of Hydra's own printer
    try:
        sys.argv[1:] = open_keys(sys.argv[1:])
        _hydra_main()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        stop(str(error).replace("++", ""))
    except OSError as error:
        if error.filename is None:
            raise
        stop(f"cannot write to {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        stop("interrupted", code=130)


def stop(message: str, code: int = 2) -> None:
    """One message on standard error, then the exit code."""
    print(f"nmfnet: {message}", file=sys.stderr)
    sys.exit(code)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def _hydra_main(cfg: DictConfig) -> float:
    context = HydraConfig.get()
    try:
        plain = to_plain(cfg, context.runtime.choices)
        check_config(plain)
        if context.mode is not RunMode.MULTIRUN:
            return run_one(plain)
    except UserError as error:  # stopped here, before Hydra announces it in its own words
        stop(str(error))
    from nmfnet.sweep import run_job

    return run_job(plain, context)


def run_one(cfg: Plain) -> float:
    """Train, print the result, return the objective."""
    from nmfnet.report.tables import print_result
    from nmfnet.train import Interrupted, train

    try:
        result = train(cfg)
    except Interrupted as error:
        stop(str(error), code=130)
        raise
    print_result(result)
    return float(result.metrics["objective"])


def to_plain(cfg: DictConfig, choices: Any) -> Plain:
    """The configuration as plain values, with the choice made in every group."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    made = {k: v for k, v in dict(choices).items() if not k.startswith("hydra/") and v is not None}
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
    own_configs = any(a.startswith(("--config-dir", "-cd", "hydra.searchpath")) for a in arguments)
    opened, problems = [], []
    for argument in arguments:
        match = re.fullmatch(r"(\+{0,2})([\w./@-]+)=(.*)", argument, re.DOTALL)
        if argument.startswith("-") or match is None:
            opened.append(argument)
            continue
        key, value = match[2], match[3]
        if (conf_dir() / key.partition("@")[0]).is_dir():
            opened.append(argument)
            problems += [] if own_configs else _wrong_choices(key.partition("@")[0], value)
        else:
            opened.append(argument if key.startswith("hydra") else f"++{key}={value}")
    if problems:
        raise UserError("\n".join(problems))
    return opened


def _wrong_choices(group: str, value: str) -> list[str]:
    known = options(group)
    words = [word.strip() for word in re.split(r"[,\[\]]", value) if word.strip()]
    if any(re.search(r"[()*]", word) for word in words):
        return []  # glob(*) and the like
    return [
        f"{group}={word}: no such choice{did_you_mean(word, known)} ({group} has: {', '.join(known)})"
        for word in words
        if word not in (*known, "null")
    ]
