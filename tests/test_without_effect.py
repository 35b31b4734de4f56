"""Options that other choices of a model leave without effect: who sets them is told."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import nmfnet

X = np.random.default_rng(0).poisson(5, (20, 6)).astype(float)

SET: dict[str, tuple[dict[str, Any], str]] = {
    "flow": ({"bins": 16, "dequantise": 1.0}, "model.coupling=affine"),
    "autoencoder": ({"activation": "tanh"}, "model.hidden=[]"),
    "vae": ({"covariates": "both"}, "data without covariates"),
    "dca": ({"beta": 2.0}, "model.law=point"),
    "autoencoder_free": ({"reads": "scaled"}, "loss=frobenius, which is not of counts"),
    "semi_supervised_nmf": ({"label_weight": 1.0}, "data without labels"),
    "neural_nmf": ({"label_weight": 1.0, "layers": [4, 2]}, "model.supervision=null"),
    "reference_nmf": ({"gamma": 2.0}, "model.rule=optimum"),
    "nnmf": ({"others": 7}, "model.target=ratings"),
    "rsnmf": ({"l2_bias": 3.0}, "model.biases=false"),
}


def notes(model: str, **given: Any) -> list[str]:
    own = {"H": X[:3]} if model == "reference_nmf" else {}
    words = {f"model.{name}": value for name, value in given.items()}
    fitted = nmfnet.fit(X, model, max_iter=1, threads=1, **own, **words)
    assert set(fitted.idle) <= set(inspect.signature(type(fitted).__init__).parameters)
    return [note for note in fitted.notes if "has no effect" in note]


@pytest.mark.parametrize("model", SET)
def test_an_option_without_effect_is_said(model):
    given, beside = SET[model]
    name, value = next(iter(given.items()))
    assert notes(model, **given) == [f"model.{name}={value} has no effect with {beside}."]
    assert notes(model, **{k: v for k, v in given.items() if k != name}) == []


def test_an_option_with_an_effect_is_not():
    assert notes("flow", coupling="spline", bins=4, dequantise=1.0) == []
    assert notes("autoencoder", hidden=[4], activation="tanh") == []
    assert notes("reference_nmf", rule="ebic", gamma=2.0) == []


def test_semi_supervised_nmf_without_labels_says_what_it_is():
    assert "is NMF" in " ".join(nmfnet.fit(X, "semi_supervised_nmf", max_iter=1).notes)


@pytest.mark.parametrize("model", ["trifactor", "pca", "kmeans", "archetypes", "lda"])
def test_a_start_that_a_model_does_not_take_is_said(model):
    said = f"init=nndsvd has no effect with model={model}, which starts by a rule of its own."
    notes = nmfnet.fit(X, model, n_components=2, init="nndsvd", max_iter=1, threads=1).notes
    assert said in notes


@pytest.mark.parametrize("model", ["nmf", "nsnmf", "autoencoder", "convex_nmf"])
def test_a_start_that_a_model_takes_is_not(model):
    own = {"n_components": 2, "max_iter": 1, "threads": 1}
    given = {"init": "given", "W": np.full((20, 2), 0.5)}
    for fitted in (
        nmfnet.fit(X, model, init="nndsvd", **own),
        nmfnet.fit(X, "archetypes", **given, **own),
    ):
        assert not [note for note in fitted.notes if "no effect" in note]


@pytest.mark.parametrize("model", ["svd", "flow", "gan"])
def test_a_constraint_that_no_factor_takes_is_said(model):
    words = (
        f"constraint=softplus has no effect with model={model}, whose factors have constraints of"
    )
    fitted = nmfnet.fit(X, model, constraint="softplus", max_iter=1, threads=1)
    assert words in " ".join(fitted.notes)


@pytest.mark.parametrize("model", ["nmf", "archetypes", "semi_nmf", "autoencoder"])
def test_a_constraint_that_a_factor_takes_is_not(model):
    fitted = nmfnet.fit(X, model, n_components=2, constraint="simplex", max_iter=1, threads=1)
    assert not [note for note in fitted.notes if "no effect" in note]
