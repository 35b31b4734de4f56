"""Models in layers and with labels: their mathematics, and what they refuse."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from making import advance, batch_of, planted
from shell import train

import nmfnet
from nmfnet.core.model import Factorization
from nmfnet.core.objective import factor_sums
from nmfnet.core.starting import initialise
from nmfnet.data import HierarchicalBlocks
from nmfnet.run.checkpoint import assemble
from nmfnet.settings.words import configuration
from nmfnet.solvers.base import total
from nmfnet.types import Batch, Sizes

X = planted(24, 10, 4)[0] + 0.05 * np.random.default_rng(1).random((24, 10))
Y = np.arange(24) % 3
Y[::4] = -1


def labelled(x: np.ndarray = X, labels: np.ndarray = Y, **settings) -> tuple[Factorization, Batch]:
    """A started model in float64, with the labels in its batch."""
    layers = {} if settings["model"] == "semi_supervised_nmf" else {"layers": [5, 3]}
    cfg = configuration({"dtype": "float64", **layers, **settings})
    batch = batch_of(x)._replace(extra={"labels": torch.from_numpy(labels)})
    model = assemble(cfg, Sizes(*x.shape), axes={"class": int(labels.max()) + 1})
    initialise(model, batch)
    return model, batch


def published_gradient(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """Gradient of ``mean((X - A0 A1 S1)²)``, sample by sample with pseudo-inverses of supports.

    Columns are samples, as published: X (m, n), A0 (m, k0), A1 (k0, k1).
    """
    from scipy.optimize import nnls

    m, n = x.shape
    grads = [np.zeros_like(a), np.zeros_like(b)]
    for i in range(n):
        s0 = nnls(a, x[:, i])[0]
        s1 = nnls(b, s0)[0]
        error = 2 / (m * n) * (a @ b @ s1 - x[:, i])
        grads[0] += np.outer(error, b @ s1)
        grads[1] += np.outer(a.T @ error, s1)
        g = (a @ b).T @ error
        for layer, data, s in ((1, s0, s1), (0, x[:, i], s0)):
            matrix, on = (a, b)[layer], s > 0
            inverse = np.linalg.pinv(matrix[:, on])
            back = inverse.T @ g[on]
            grads[layer][:, on] -= np.outer(back, s[on])
            grads[layer][:, on] += np.outer(data - matrix @ s, inverse @ back)
            g = np.zeros(len(data)) + back
    return grads


def test_the_gradient_is_the_published_one():
    model, batch = labelled(model="neural_nmf", as_released=True)
    value = model.objective(batch)["data"].sum()
    value.backward()
    a, b = (model.factors[name]()[0].detach().numpy() for name in ("A0", "A1"))
    wanted = published_gradient(X.T, a.T, b.T)
    for name, grad in zip(("A0", "A1"), wanted, strict=True):
        found = model.factors[name].raw.grad
        assert found is not None
        np.testing.assert_allclose(found[0].numpy().T, grad, rtol=1e-7, atol=1e-11)
    W = model.encode(batch)[0].detach().numpy()
    assert float(value.detach()) == pytest.approx(((X - W @ b @ a) ** 2).mean(), rel=1e-9)


@pytest.mark.slow
def test_scale_between_layers_does_not_change_the_energy_but_games_the_released_one():
    for released in (False, True):
        model, batch = labelled(model="neural_nmf", objective="energy", as_released=released)
        before = {k: float(v.detach()) for k, v in model.objective(batch).items()}
        model.factors["A0"].assign_(100 * model.factors["A0"]())
        after = {k: float(v.detach()) for k, v in model.objective(batch).items()}
        assert list(before) == ["layer1", "layer2"]
        assert after["layer1"] == pytest.approx(before["layer1"])
        ratio = after["layer2"] / before["layer2"]
        assert ratio == pytest.approx(1e-4 if released else 1, rel=1e-6)


@pytest.mark.slow
def test_every_layer_counts_with_its_weight():
    one, batch = labelled(model="neural_nmf", objective="every_layer", layer_weights=[3.0, 0.5])
    found = one.objective(batch)
    for i, (weight, (W, H)) in enumerate(zip((3, 0.5), one.layers(batch), strict=True), start=1):
        misfit = (batch.x - W @ H).square().sum((-2, -1)) / 2
        torch.testing.assert_close(found[f"layer{i}"], weight * misfit)
    last, _ = labelled(model="neural_nmf", objective="every_layer", layer_weights=[0.0, 1.0])
    plain, _ = labelled(model="neural_nmf")
    torch.testing.assert_close(total(last.objective(batch)), total(plain.objective(batch)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layers", "start"),
    [pytest.param([5, 3], "layerwise", marks=pytest.mark.slow), ([4], "random")],
)
def test_gradient_descent_never_rises_and_ends_where_others_do(layers, start):
    own = {"layers": layers, "start": start, "n_restarts": 3}
    falls = []
    for solver, n in (("gd", 15), ("lbfgs", 4)):
        model, batch = labelled(model="neural_nmf", solver=solver, **own)
        optimizer = model.configure_optimizers()
        model.optimizers = lambda optimizer=optimizer: optimizer
        falls.append(torch.stack([advance(model, batch, 40) for _ in range(n)]))
        assert bool((falls[-1].diff(dim=0) <= 0).all())
    assert float(falls[0][-1].min()) == pytest.approx(float(falls[1][-1].min()), rel=0.01)


def test_gradient_descent_at_a_fixed_rate_is_that_of_the_released_code():
    """The settings it was published with: means, a random start, no projection, one rate for all."""
    own = {"model": "neural_nmf", "as_released": True, "solver": "gd"}
    model, batch = labelled(**own)
    a, b = (model.factors[name]()[0].detach().numpy().T for name in ("A0", "A1"))
    for _ in range(5):
        steps = published_gradient(X.T, a, b)
        a, b = a - 0.5 * steps[0], b - 0.5 * steps[1]
    model.solver.lr = 0.5
    optimizer = model.configure_optimizers()
    model.optimizers = lambda: optimizer
    advance(model, batch, 5)
    for name, wanted in (("A0", a), ("A1", b)):
        found = model.factors[name]()[0].detach().numpy().T
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.quick("deep_nmf-layers0-frobenius", "deep_nmf-layers0-kl")
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("layers", [[4], [5, 3]])
@pytest.mark.parametrize("model", ["semi_supervised_nmf", "hierarchical_nmf", "deep_nmf"])
def test_multiplicative_sums_are_the_derivative_of_the_objective(model, layers, loss):
    """Labels included; the sums of a deeper layer are in the units of its own data."""
    options = {} if model == "deep_nmf" else {"label_weight": 0.5}
    own = {"n_components": 4} if model == "semi_supervised_nmf" else {"layers": layers}
    fitted, batch = labelled(**({"model": model, "loss": loss} | options | own))
    terms = fitted.objective(batch)
    torch.stack([term.sum() for term in terms.values()]).sum().backward()
    deeper = model == "hierarchical_nmf" and len(layers) == 2
    power = 2 if loss == "frobenius" else 1
    for name, factor in fitted.factors.items():
        neg, pos = factor_sums(fitted, name, batch)
        assert bool((neg >= 0).all())
        found = pos.expand_as(neg) - neg
        if deeper and name not in ("S0", "A0"):
            data = fitted.codes()[0].detach()
            found = found * (batch.x**power).sum() / (data**power).sum()
        torch.testing.assert_close(found, factor.raw.grad, rtol=1e-7, atol=1e-8)


@pytest.mark.quick("kl-deep_nmf")
@pytest.mark.parametrize("model", ["semi_supervised_nmf", "deep_nmf"])
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_multiplicative_updates_never_raise_the_objective(model, loss):
    layers = {} if model == "semi_supervised_nmf" else {"layers": [5, 3]}
    cfg = configuration(
        {"dtype": "float64", "model": model, "loss": loss, "solver": "mu", **layers}
    )
    fitted = assemble(cfg, Sizes(*X.shape), axes={"class": 3})
    batch = batch_of(X)._replace(extra={"labels": torch.from_numpy(Y)})
    initialise(fitted, batch)
    fitted.solver.extrapolation = False
    optimizer = fitted.configure_optimizers()
    fitted.optimizers = lambda: optimizer
    values = [float(advance(fitted, batch, 1)) for _ in range(60)]
    assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(values))


@pytest.mark.slow
def test_no_layer_sees_a_deeper_one():
    found = []
    for layers in ([5, 3], [5, 2]):
        model, batch = labelled(model="hierarchical_nmf", layers=layers, solver="mu")
        model.solver.extrapolation = False
        optimizer = model.configure_optimizers()
        model.optimizers = lambda optimizer=optimizer: optimizer
        generator = torch.Generator().manual_seed(0)
        for name in ("S0", "A0"):  # the same start
            shape = model.factors[name].raw.shape
            model.factors[name].assign_(torch.rand(shape, generator=generator, dtype=torch.float64))
        advance(model, batch, 30)
        found.append(model.factors["A0"]().detach().clone())
    torch.testing.assert_close(*found, rtol=1e-12, atol=0)


@pytest.mark.slow
def test_new_rows_get_their_weights_layer_after_layer_as_the_training_rows_did():
    noisy = X + np.random.default_rng(1).uniform(0, 0.5, X.shape)
    options: dict = {"layers": [5, 2], "loss": "kl", "tol": 1e-7, "max_iter": 3000}
    fitted = nmfnet.fit(noisy, "hierarchical_nmf", dtype="float64", figures=False, **options)
    W = fitted.codes()[-1][int(fitted.best)].detach().numpy()
    np.testing.assert_allclose(fitted.transform(noisy), W, atol=1e-2 * W.max())
    best = nmfnet.project(noisy, fitted.components_, loss="kl")  # a weight that sees X itself
    assert np.abs(best - W).max() > 0.05 * W.max()


@pytest.mark.parametrize("model", ["neural_nmf", "hierarchical_nmf", "semi_supervised_nmf"])
def test_layers_and_labels_count_alike_in_every_unit_of_x(model):
    options: dict = {"supervision": "l2"} if model == "neural_nmf" else {"label_weight": 0.5}
    options |= {"n_components": 3} if model == "semi_supervised_nmf" else {"layers": [5, 3]}
    found = []
    for scale in (1, 2.0**-40):
        fitted = nmfnet.fit(
            scale * X, model, labels=list(Y), max_iter=20, figures=False, threads=1, **options
        )
        found.append(fitted.metrics["train/relative_error"])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_without_labels_semi_supervised_nmf_is_nmf():
    options = {"n_components": 3, "max_iter": 40, "figures": False}
    one, two = (nmfnet.fit(X, name, **options) for name in ("nmf", "semi_supervised_nmf"))
    assert np.array_equal(one.components_, two.components_)


@pytest.mark.slow
def test_one_layer_of_each_is_nmf():
    """The same optimum of X ~ W H, whatever moves towards it."""
    floor = nmfnet.fit(X, "nmf", n_components=3, n_restarts=5, dtype="float64", figures=False)
    for model in ("neural_nmf", "hierarchical_nmf", "deep_nmf"):
        fitted = nmfnet.fit(
            X, model, layers=[3], n_restarts=5, dtype="float64", figures=False, max_iter=3000
        )
        found = fitted.metrics["train/relative_error"]
        assert found == pytest.approx(floor.metrics["train/relative_error"], rel=2e-3), model


@pytest.mark.slow
def test_signed_layers_fit_negative_data_better_than_their_clipped_self():
    centred = X - X.mean(0)
    fitted = nmfnet.fit(
        centred, "deep_nmf", layers=[6, 4], signed=True, solver="adam", max_iter=1000, figures=False
    )
    assert fitted.transform(centred).min() >= 0
    assert fitted.components_.min() < 0
    plain = nmfnet.fit(np.maximum(centred, 0), "nmf", n_components=4, figures=False)
    clipped = np.linalg.norm(centred - plain.reconstruct(np.maximum(centred, 0)))
    assert fitted.metrics["train/relative_error"] < 0.8 * clipped / np.linalg.norm(centred)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize(
    "model", ["neural_nmf", "deep_nmf", "hierarchical_nmf", "semi_supervised_nmf"]
)
def test_a_sparse_x_gives_the_objective_and_gradient_of_a_dense_one(model):
    cfg = configuration({"dtype": "float64", "model": model, "n_restarts": 2})
    cfg.model.update({"layers": [4, 3]} if "layers" in cfg.model else {})
    made = assemble(cfg, Sizes(*X.shape))
    dense = batch_of(X * (X > 0.3))
    sparse = dense._replace(x=dense.x.to_sparse_csr())
    initialise(made, sparse)
    found = []
    for batch in (dense, sparse):
        terms = made.objective(batch)
        made.zero_grad()
        torch.stack([term.sum() for term in terms.values()]).sum().backward()
        found.append([total(terms).detach(), *(p.grad.clone() for p in made.parameters())])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-10)
    if model != "neural_nmf":
        with made.restarts(0):
            for name in made.factors:
                for one, two in zip(
                    factor_sums(made, name, dense), factor_sums(made, name, sparse), strict=True
                ):
                    torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-10)


@pytest.mark.quick("l2")
@pytest.mark.parametrize("kind", ["l2", "cross_entropy"])
def test_labels_reach_the_codes(kind, tmp_path):
    """Hidden labels of blocks that share most features are found with the help of the others."""
    words = ["data=hierarchical_blocks", "data.labels=four", "split=labels", "split.hidden=0.5"]
    done = train(
        "model=neural_nmf",
        "model.layers=[9,4]",
        f"model.supervision={kind}",
        *words,
        "max_iter=200",
        "run_dir=run",
        "figures=false",
        cwd=tmp_path,
    )
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["labels/accuracy"] == 1
    assert numbers["layer1/relative_error"] < numbers["layer2/relative_error"] < 0.4
    assert numbers["layer2/ari"] > 0.6
    loaded = nmfnet.load(tmp_path / "run")
    assert loaded.transform(HierarchicalBlocks().read().values).shape == (90, 4)


BAD = [
    ({"model": "neural_nmf", "layers": [3, 5]}, "layer 2 has rank 5, above that of the layer"),
    ({"model": "deep_nmf", "layers": [5, 3, 4]}, "layer 3 has rank 4, above"),
    (
        {"model": "hierarchical_nmf", "layers": [11, 3]},
        "above the number of features, n_features=10",
    ),
    ({"model": "neural_nmf", "layers": []}, "give the rank of every layer"),
    ({"model": "neural_nmf", "layers": [5, 3], "layer_weights": [1.0]}, "each of the 2 layers"),
    ({"model": "neural_nmf", "layers": [5, 3], "layer_weights": [1.0, -1.0]}, "must be >= 0"),
    (
        {"model": "neural_nmf", "layers": [5], "objective": "every_layer", "as_released": True},
        "not in the released code",
    ),
    ({"model": "neural_nmf", "layers": [5], "supervision": "l2"}, "needs labels"),
    ({"model": "neural_nmf", "layers": [5], "objective": "energy", "loss": "kl"}, "frobenius"),
    ({"model": "deep_nmf", "layers": [5, 3], "init": "nndsvd"}, "use init=random"),
    ({"model": "deep_nmf", "layers": [5, 3], "signed": True, "loss": "kl"}, "loss=frobenius"),
    ({"model": "semi_supervised_nmf", "label_weight": -1.0}, "must be >= 0"),
]


@pytest.mark.parametrize(("settings", "message"), BAD)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(nmfnet.UserError, match=message):
        nmfnet.fit(X, figures=False, max_iter=2, **settings)


@pytest.mark.parametrize("model", ["neural_nmf", "hierarchical_nmf", "semi_supervised_nmf"])
def test_a_class_without_a_label_is_refused(model):
    few = np.where(Y == 1, -1, Y)
    options = {"supervision": "l2"} if model == "neural_nmf" else {"label_weight": 1.0}
    cfg = configuration({"dtype": "float64", "model": model, **options})
    cfg.model.update({"layers": [5, 3]} if "layers" in cfg.model else {})
    made = assemble(cfg, Sizes(*X.shape), axes={"class": 3})
    batch = batch_of(X)._replace(extra={"labels": torch.from_numpy(few)})
    with pytest.raises(nmfnet.UserError, match="1 of 3 classes have no labelled sample"):
        initialise(made, batch)


def test_labels_of_the_wrong_length_are_refused_by_fit():
    with pytest.raises(nmfnet.UserError, match="5 labels for 24 samples"):
        nmfnet.fit(X, "semi_supervised_nmf", labels=list("abcab"), figures=False)


@pytest.mark.quick("samples_by_features")
@pytest.mark.parametrize("orientation", ["samples_by_features", "features_by_samples"])
def test_a_survey_of_symptoms_with_a_group_of_every_patient(tmp_path, orientation):
    """Severities 0 to 4 of named symptoms, whole numbers, with the answer of some patients unknown."""
    rng = np.random.default_rng(0)
    groups = np.array(["well", "unwell"])[np.arange(60) % 2]
    severe = np.where((groups == "unwell")[:, None] == (np.arange(20) < 12), 0.7, 0.2)
    frame = pd.DataFrame(
        rng.binomial(4, severe),
        index=[f"patient{i:03d}" for i in range(60)],
        columns=[f"symptom{j:02d}" for j in range(20)],
    ).astype(object)
    frame["group"] = groups
    (frame if orientation == "samples_by_features" else frame.T).to_csv(tmp_path / "survey.csv")
    done = train(
        "data=table", "data.path=survey.csv", f"data.orientation={orientation}",
        "data.label_column=group", "model=neural_nmf", "model.layers=[4,2]", "split=labels",
        "model.supervision=l2", "max_iter=100", "figures=false", "run_dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["labels/accuracy"] > 0.9
    with np.load(tmp_path / "run" / "factors.npz") as arrays:
        assert list(arrays["feature_names"]) == [f"symptom{j:02d}" for j in range(20)]
        assert arrays["W"].shape == (60, 2)
