"""What is composed once and copied is what Hydra composes."""

from __future__ import annotations

import pickle

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf

from nmfnet.config import conf_dir, options
from nmfnet.settings.compose import Composer
from nmfnet.settings.words import ALONE, _compose, _composed


@pytest.fixture(scope="module")
def loaders():
    place = create_automatic_config_search_path(None, None, str(conf_dir()))
    return ConfigLoaderImpl(place), Composer(place)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (RunMode.RUN, ["++seed=3", "model=convex_nmf", "++solver.n_inner=7", "hydra.mode=RUN"]),
        (RunMode.RUN, ["++seed=4", "model=convex_nmf", "++model.n_components=null"]),
        (RunMode.RUN, ["++hydra.job.env_copy=[PATH]", "++seed=3"]),
        (RunMode.RUN, ["loss=kl", "++penalty={}", "++seed=1", "++seed=2", "++data.path='a b'"]),
        (RunMode.MULTIRUN, ["loss=kl,frobenius", "++seed=1,2", "++tol=0.1", "launcher=joblib"]),
    ],
)
def test_a_copy_with_values_is_the_composition(loaders, mode, words):
    theirs, ours = (loader.load_configuration("train", list(words), mode) for loader in loaders)
    assert OmegaConf.to_container(ours) == OmegaConf.to_container(theirs)


def test_a_copy_keeps_what_was_composed(loaders):
    _, ours = loaders
    first = ours.load_configuration("train", ["++seed=5"], RunMode.RUN)
    first.seed = 6
    assert ours.load_configuration("train", [], RunMode.RUN).seed not in (5, 6)


def test_a_sweep_in_a_single_run_is_refused(loaders):
    for loader in loaders:
        with pytest.raises(ConfigCompositionException, match="Ambiguous value"):
            loader.load_configuration("train", ["++seed=1,2"], RunMode.RUN)


@pytest.mark.parametrize(
    "words",
    [
        {"loss": "beta"},
        {"init": "nndsvd", "model": "archetypes", "solver": "lbfgs"},
        {"loss": "zinb_ridge", "model": "vae", "solver": "adam_network"},
        {"experiment": "source_tracking", "loss": "frobenius", "penalty": "[l1,l2]"},
    ],
    ids=lambda words: "-".join(words.values()),
)
def test_what_is_put_into_a_composition_is_what_is_composed(words):
    choices = tuple(sorted(words.items()))
    cfg = pickle.loads(_composed(choices, ()))
    composed = _compose(choices, ())
    assert cfg == composed
    assert list(cfg) == list(composed)
    assert list(cfg["choices"]) == list(composed["choices"])


def test_choices_of_some_groups_are_their_files():
    """They say nothing of others, and no other file says anything of them."""
    for group in ALONE:
        for name in options(group):
            text = (conf_dir() / group / f"{name}.yaml").read_text()
            assert "defaults" not in yaml.safe_load(text)
            assert "@package" not in text
    for file in conf_dir().rglob("*.yaml"):
        if file.parent.name not in ALONE:
            assert not set(ALONE) & set(yaml.safe_load(file.read_text()) or {}), file
