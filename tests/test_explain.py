"""The help names every option of every choice."""

from __future__ import annotations

import pytest
import yaml

from nmfnet.config import conf_dir, options
from nmfnet.settings.explain import explain

GROUPS = sorted(path.name for path in conf_dir().iterdir() if path.is_dir())


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_of_a_choice_has_a_line(group: str) -> None:
    for name in set(options(group)) - {"none"}:
        text = explain([f"{group}={name}"], [])
        assert text.startswith(f"{group}={name}: ")
        node = yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text()) or {}
        node = node.get(group, node)
        for key, value in node.items():
            if key[0] != "_" and key != "defaults" and not isinstance(value, dict):
                assert f"{key}=" in text, (name, key)


def test_options_that_the_yaml_leaves_out_come_from_the_class() -> None:
    text = explain(["model=autoencoder", "solver=hals"], [])
    assert "model.n_components=5        Width of the code" in text
    assert "solver.n_inner=20" in text
    assert "Iterations per training step" in text
