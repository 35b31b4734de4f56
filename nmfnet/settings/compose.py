"""Hydra's composition, with every yaml file read once, and those of a set of choices merged once.

A single run is composed twice and a job of a sweep twice more, nearly always with the same choices of
the groups. What differs are values, ``++key=value``, and those are put into a copy.
"""

from __future__ import annotations

import copy
import os
from typing import ClassVar

from hydra._internal import hydra as hydra_internal
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig

from nmfnet.config import conf_dir


def compose_once() -> None:
    """Let Hydra compose by :class:`Composer` from here on."""
    hydra_internal.ConfigLoaderImpl = Composer  # type: ignore[attr-defined, misc]


class Composer(ConfigLoaderImpl):
    """Keeps what it has composed: files of configurations are taken not to change meanwhile."""

    composed: ClassVar[dict[tuple[str | None, ...], DictConfig]] = {}

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.repository = Repository(config_search_path)

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        parsed = OverridesParser.create().parse_overrides(overrides=overrides)
        if validate_sweep_overrides:
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        else:
            run_mode = RunMode.RUN  # only the mode is asked for
        values = [override for override in parsed if _is_value(override)]
        chosen = [str(o.input_line) for o in parsed if not _is_value(o)]
        places = [str(place.path) for place in self.config_search_path.get_path()]
        key = (
            config_name,
            run_mode.name,
            JobRuntime.instance().get("name"),
            *places,
            None,
            *chosen,
        )
        if key not in self.composed:
            self.composed[key] = super()._load_configuration_impl(
                config_name, chosen, run_mode, from_shell, validate_sweep_overrides=False
            )
        cfg = copy.deepcopy(self.composed[key])
        cfg.hydra.runtime.cwd = os.getcwd()  # noqa: PTH109
        self._apply_overrides_to_config(values, cfg)
        for words, own in ((cfg.hydra.overrides.task, False), (cfg.hydra.overrides.hydra, True)):
            words.clear()
            words.extend([o.input_line for o in parsed if o.is_hydra_override() is own])
        form = cfg.hydra.job.config.override_dirname
        cfg.hydra.job.override_dirname = get_overrides_dirname(
            [o for o in parsed if not o.is_hydra_override()],
            exclude_keys=form.exclude_keys,
            item_sep=form.item_sep,
            kv_sep=form.kv_sep,
        )
        return cfg


class Repository(ConfigRepository):
    """Keeps what it has read of our own files and of Hydra's; others may change meanwhile."""

    read: ClassVar[dict[tuple[str, str], ConfigResult | None]] = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or (source.scheme() == "file" and source.path != str(conf_dir())):
            return super().load_config(config_path)
        key = source.path, config_path
        if key not in self.read:
            self.read[key] = super().load_config(config_path)
        return copy.deepcopy(self.read[key])


def _is_value(override: Override) -> bool:
    """Whether it sets a value of ours, whatever the choices of the groups are, or Hydra's mode."""
    ours = override.is_force_add() and not override.is_hydra_override()
    single = not override.is_sweep_override() and override.package is None
    return single and (ours or override.key_or_group == "hydra.mode")
