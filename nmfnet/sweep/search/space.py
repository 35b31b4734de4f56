"""What is searched: Hydra's words for ranges, as Optuna's distributions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from nmfnet.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass
class Space:
    """Settings that every trial has, and those that it chooses.

    Attributes
    ----------
    fixed : dict
        Key as Hydra wants it (``++seed``) to value.
    keys : dict
        Name of a parameter (``model.n_components``) to key (``++model.n_components``).
    searched : dict
        Name of a parameter to its distribution.
    """

    fixed: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    searched: dict[str, BaseDistribution] = field(default_factory=dict)

    def overrides(self, params: dict[str, Any]) -> list[str]:
        """The settings of one trial, as on the command line."""
        chosen = [f"{self.keys[name]}={value}" for name, value in params.items()]
        return [*(f"{key}={value}" for key, value in self.fixed.items()), *chosen]

    def text(self) -> str:
        """The space in one line, the same for the same space."""
        from optuna.distributions import distribution_to_json

        parts = {name: json.loads(distribution_to_json(d)) for name, d in self.searched.items()}
        return json.dumps(parts, sort_keys=True)

    def grid(self) -> dict[str, list[Any]]:
        """Every value of every parameter.

        Raises
        ------
        UserError
            If a parameter has infinitely many.
        """
        from optuna.distributions import CategoricalDistribution, IntDistribution

        values: dict[str, list[Any]] = {}
        for name, d in self.searched.items():
            if isinstance(d, CategoricalDistribution):
                values[name] = list(d.choices)
            elif isinstance(d, IntDistribution):
                values[name] = list(range(d.low, d.high + 1, d.step))
            elif d.step is not None:  # type: ignore[attr-defined]
                n = round((d.high - d.low) / d.step)  # type: ignore[attr-defined]
                values[name] = [d.low + i * d.step for i in range(n + 1)]  # type: ignore[attr-defined]
            else:
                raise UserError(
                    f"hparams_search.sampler=grid needs values to go through, and {name} is an "
                    f"interval: give it as range(start,stop,step) or a list, or sampler=tpe"
                )
        return values


def read_space(words: Sequence[str], parser: OverridesParser) -> Space:
    """Sort settings into fixed and searched; a later word for a key replaces an earlier one.

    Raises
    ------
    UserError
        If nothing is searched, or a range is empty.
    """
    space = Space()
    for override in parser.parse_overrides(list(words)):
        key = override.get_key_element()
        name = key.lstrip("+")
        for table in (space.fixed, space.searched, space.keys):
            for old in (key, name):
                table.pop(old, None)  # type: ignore[attr-defined]
        if override.is_sweep_override():
            space.keys[name], space.searched[name] = key, _distribution(name, override)
        else:
            space.fixed[key] = override.get_value_element_as_str()
    if not space.searched:
        raise UserError(
            "hparams_search=optuna has nothing to search: give values as lists or ranges, such as "
            "'model.n_components=range(2,10)' 'solver.lr=tag(log,interval(1e-4,1e-1))' "
            "loss=kl,frobenius"
        )
    return space


def _distribution(name: str, override: Override) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    value = override.value()
    log = "log" in getattr(value, "tags", ())
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low or 0), float(high or 0), log=log)
        if isinstance(value, RangeSweep):
            low, stop, step = value.start, value.stop, value.step
            values = list(value.range())
            if all(isinstance(v, int) for v in (low, stop, step)):
                high = max(values)
                return IntDistribution(
                    int(min(values)), int(high), step=1 if log else abs(int(step)), log=log
                )
            return FloatDistribution(float(min(values)), float(max(values)), step=abs(float(step)))
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    except ValueError as error:
        raise UserError(f"{str(override.input_line).lstrip('+')}: {error}") from error
