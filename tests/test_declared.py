"""What is read out of the source of a class is what the class says."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from nmfnet.config import check_declared, conf_dir
from nmfnet.errors import UserError
from nmfnet.settings.declared import declared
from nmfnet.settings.objects import locate
from nmfnet.settings.targets import _hints
from nmfnet.settings.words import configuration


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)


def every_target() -> list[str]:
    files = conf_dir().rglob("*.yaml")
    return sorted(
        {target for file in files for target in targets(yaml.safe_load(file.read_text()))}
    )


OWN = [target for target in every_target() if target.startswith("nmfnet.")]


def test_the_options_and_types_of_every_choice_are_those_of_its_class() -> None:
    read = {target: declared(target) for target in OWN}
    assert sum(found is None for found in read.values()) < len(OWN) / 10
    for target, found in read.items():
        if found is None:
            continue
        made = locate(target)
        known = [
            name
            for name, one in inspect.signature(made).parameters.items()
            if one.kind == one.KEYWORD_ONLY or one.default is not one.empty
        ]
        assert list(found.options) == known, target
        assert found.name == made.__name__
        hints = _hints(made)
        for name, option in found.options.items():
            assert option.hint in (typing.Any, hints.get(name)), (target, name)


def test_the_configuration_of_every_model_passes() -> None:
    for file in (conf_dir() / "model").glob("*.yaml"):
        check_declared(vars(configuration({"model": file.stem})))


def test_wrong_options_and_values_are_told_together_and_nothing_is_imported() -> None:
    cfg = vars(configuration({"model": "nmf", "solver": "hals"}))
    cfg["solver"] |= {"extrapolatoin": True, "n_inner": "many"}
    cfg["tol"] = -1
    with pytest.raises(UserError) as error:
        check_declared(cfg)
    told = str(error.value)
    assert "did you mean 'extrapolation'" in told
    assert "solver.n_inner=many: must be a whole number" in told
    assert "tol=-1" in told


def test_what_the_source_does_not_say_is_left_to_the_class() -> None:
    assert declared("lightning.Trainer") is None
    assert declared("nmfnet.models.nmf.Nothing") is None
    assert declared("nmfnet.nowhere.NMF") is None
