"""``nmfnet-train``: Hydra in front of :func:`nmfnet.run.train.train`. Heavy imports wait for a job."""

from __future__ import annotations

import os
import sys

import hydra.version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nmfnet.config import (
    Config,
    Plain,
    check_config,
    check_declared,
    check_files,
    conf_dir,
    root_is_sound,
)
from nmfnet.errors import UserError, stop, stop_unusable
from nmfnet.settings.arguments import in_a_sentence, parsed
from nmfnet.settings.compose import compose_once
from nmfnet.settings.words import import_from, open_keys, own_folders, to_plain, with_own_root


def main() -> None:
    """Console entry point: exit code 0 done, 1 failed jobs, 2 bad input, 130 Ctrl-C or SIGTERM."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of Hydra's own printer
    try:
        if "--version" in sys.argv[1:]:
            from nmfnet import __version__

            print(f"nmfnet {__version__}")
            return
        given = parsed(open_keys(sys.argv[1:]))
        import_from(own_folders(sys.argv[1:]))
        if given.help:
            from nmfnet.settings.explain import explain

            print(explain(given.overrides, own_folders(sys.argv[1:])))
            return
        given.overrides += with_own_root(sys.argv[1:])[len(sys.argv[1:]) :]
        if given.multirun:
            from nmfnet.sweep import launchers
            from nmfnet.sweep.search.sweeper import Search
            from nmfnet.sweep.search.zoo import Zoo

            launchers.register(*launchers.PLUGINS, Search, Zoo)
        hydra.version.setbase("1.3")
        compose_once()
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


def _task(cfg: DictConfig) -> float:
    choices = HydraConfig.get().runtime.choices
    try:  # stopped here, before Hydra announces an error in its own words
        if (search := choices.get("hparams_search")) not in (None, "none"):
            raise UserError(f"hparams_search={search} is for sweeps: add -m")
        return run_one(to_plain(cfg, choices))
    except UserError as error:
        stop(str(error))
    except OmegaConfBaseException as error:
        stop(in_a_sentence(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        stop_unusable(error)


def run_one(values: Plain) -> float:
    """Train, print the result, return the objective."""
    from nmfnet.run.finished import finished
    from nmfnet.run.tables import print_result

    try:
        before = finished(Config(**values)) if root_is_sound(values) else None
    except UserError:
        check_declared(values)  # a misspelt key is the more helpful message
        raise
    if before is not None:
        print_result(before)
        return float(before.metrics["objective"])
    check_declared(values)  # these two need no torch, which takes seconds to import
    check_files(values)
    cfg = check_config(values)
    from nmfnet.run.stopping import Interrupted, Terminated
    from nmfnet.run.train import NotFirst, train

    try:
        if cfg.ranks is not None:
            return select_rank(cfg)
        result = train(cfg)
    except NotFirst:
        sys.exit(0)
    except (Interrupted, Terminated) as error:
        stop(str(error), code=130)
    print_result(result)
    return float(result.metrics["objective"])


def select_rank(cfg: Config) -> float:
    """Run a rank selection, print its table, return the objective at the suggested rank."""
    from nmfnet.run.tables import print_result
    from nmfnet.selection.run import Selected, select
    from nmfnet.selection.tables import print_selection

    result = select(cfg)
    if isinstance(result, Selected):
        print_selection(result)
    else:
        print_result(result)
    return float(result.metrics["objective"])
