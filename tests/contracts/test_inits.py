"""What every start promises, for each file of ``conf/init``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import config, make, planted, positive, some_mask, values

import nmfnet
from nmfnet.config import options
from nmfnet.settings.objects import build

INITS = [name for name in options("init") if name != "given"]
MODELS = ["nmf", "convex_nmf", "projective_nmf", "autoencoder"]


def init_of(name, **own):
    return build(config({"init": name, **own}).init)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", INITS)
def test_proposal_is_non_negative_and_of_the_right_shape(name):
    x = torch.from_numpy(positive(20, 8))
    W, H = init_of(name)(x, 3, generator())
    assert W.shape == (20, 3)
    assert H.shape == (3, 8)
    assert W.dtype == H.dtype == x.dtype
    for part in (W, H):
        assert torch.isfinite(part).all()
        assert float(part.min()) >= 0
        assert bool((part.sum(0) > 0).all() if part is W else (part.sum(1) > 0).all())


@pytest.mark.parametrize("name", INITS)
def test_randomness_comes_from_the_generator_only(name):
    x, init = torch.from_numpy(planted(20, 8)[0]), init_of(name)
    torch.manual_seed(0)
    one = init(x, 3, generator(1))
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    two = init(x, 3, generator(1))
    assert torch.equal(one.W, two.W)
    assert torch.equal(one.H, two.H)
    if init.deterministic:
        assert torch.equal(one.W, init(x, 3, generator(2)).W)


@pytest.mark.parametrize("name", INITS)
def test_units_of_x_go_into_the_product(name):
    x, init = torch.from_numpy(positive(20, 8)), init_of(name)
    (W, H), (V, G) = (init(scale * x, 3, generator()) for scale in (1.0, 100.0))
    if name != "nndsvda":  # fills zeros with the mean of X in both factors: Boutsidis & Gallopoulos
        torch.testing.assert_close(V @ G, 100 * (W @ H), rtol=0.1, atol=0.5)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", INITS)
def test_every_model_starts_near_the_data_from_it(name, model):
    """The starting error is of the order of the data, whatever their units, masked or not."""
    if (name, model) == ("nndsvda", "nmf"):
        return  # as in the source and scikit-learn, mean(X) stands for zeros of W and of H alike
    for scale in (1e-3, 1e4):
        X = scale * (planted(20, 8)[0] + 0.1)
        for mask in (None, some_mask(20, 8)):
            fitted, batch = make(X, mask=mask, model=model, init=name)
            with torch.no_grad():
                start = float(fitted.objective(batch)["data"])
            assert start < 5 * 0.5 * float(batch.x.square().sum())


@pytest.mark.parametrize("name", [*INITS, "given"])
def test_too_many_components_or_restarts_are_refused(name, tmp_path):
    np.savez(tmp_path / "start.npz", W=np.ones((9, 3)), H=np.ones((3, 7)))
    own = {"init.path": str(tmp_path / "start.npz")} if name == "given" else {}
    init = init_of(name, **own)
    init.check(3, 9, 7, 1)
    if init.deterministic:
        with pytest.raises(nmfnet.UserError, match="n_restarts=2"):
            init.check(3, 9, 7, 2)
    if name == "random":
        init.check(20, 9, 7, 2)
    else:
        with pytest.raises(nmfnet.UserError):
            init.check(20, 9, 7, 1)


def test_given_factors_are_the_start_and_wrong_ones_are_refused(tmp_path):
    X = positive(9, 7)
    W, H = np.random.default_rng(0).random((9, 3)), np.random.default_rng(1).random((3, 7))
    path = tmp_path / "start.npz"
    own = {"init": "given", "init.path": str(path)}
    with pytest.raises(nmfnet.UserError, match="does not exist"):
        make(X, **own)
    np.savez(path, W=W, H=H)
    model, _ = make(X, **own)
    np.testing.assert_array_equal(values(model)["W"][0].numpy(), W)
    np.testing.assert_array_equal(values(model)["H"][0].numpy(), H)
    for arrays, word in (
        ({"V": W}, "neither an array 'W' nor 'H'"),
        ({"W": W[:5], "H": H}, "W has shape"),
        ({"W": -W, "H": H}, "given W is not feasible"),
        ({"W": W, "H": H * np.nan}, "H must be finite"),
        ({"W": W, "H": H.astype(str)}, "H must hold numbers"),
        ({"W": W, "H": H.astype(object)}, "allow_pickle"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(nmfnet.UserError, match=word):
            make(X, **own)
    with pytest.raises(nmfnet.UserError, match="nothing to start from"):
        make(X, init="given")
    np.savez(path, H=H)
    one, _ = make(X, **own)
    np.testing.assert_array_equal(values(one)["H"][0].numpy(), H)


@pytest.mark.quick("nndsvd", "random")
@pytest.mark.parametrize("name", INITS)
def test_data_of_low_rank_and_with_empty_rows_are_no_trouble(name):
    X = np.zeros((12, 6))
    X[:8, :4] = np.outer(np.arange(1, 9), np.arange(1, 5))
    if name == "spa":  # it starts from vertices, and there are no three
        with pytest.raises(nmfnet.UserError, match="combinations of 1 of them"):
            nmfnet.fit(X, n_components=3, init=name)
        return
    for model in MODELS:
        fitted = nmfnet.fit(X, model, n_components=3, init=name, max_iter=20)
        assert np.isfinite(fitted.metrics["objective"])


@pytest.mark.parametrize("solver", ["gd", "lbfgs"])
def test_a_start_is_as_large_as_data_of_mean_zero(solver):
    X = planted(20, 8)[0]
    X = X - X.mean(0)
    settings = {"n_components": 2, "dtype": "float64", "solver": solver}
    fitted = nmfnet.fit(X, constraint="free", **settings)
    assert fitted.metrics["train/relative_error"] < 1.01 * fitted.metrics["floor/relative_error"]


@pytest.mark.parametrize("init", ["random", "kmeans", "nndsvd", "nndsvda"])
@pytest.mark.parametrize("free", ["W", "H"])
def test_a_factor_of_any_sign_takes_that_of_the_data(init, free):
    X = positive(12, 7)
    error = [
        nmfnet.fit(sign * X, n_components=2, init=init, **{f"constraint.{free}": "free"}).metrics[
            "train/relative_error"
        ]
        for sign in (1, -1)
    ]
    assert error[1] == pytest.approx(error[0], rel=0.05)


def test_components_of_any_sign_are_held_from_a_file(tmp_path):
    X = positive(9, 7) - 1
    first = nmfnet.fit(X, "semi_nmf", n_components=2, run_dir=tmp_path, figures=False)
    assert (first.components_ < 0).any()
    own = {"init.path": str(tmp_path / "factors.npz"), "model.frozen": ["H"]}
    again = nmfnet.fit(X, "semi_nmf", n_components=2, init="given", **own)
    np.testing.assert_array_equal(again.components_, first.components_)
    np.testing.assert_allclose(again.transform(X), first.transform(X), atol=1e-6)
