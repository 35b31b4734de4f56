"""Which models are the same model: T1 to T11 of the theory of autoencoders and convex NMF.

The linear non-negative autoencoder on X is convex NMF of X with the features' axis, and on Xᵀ with the
samples' axis (the published AE-NMF); tied, both are projective NMF. KL-NMF is pLSI. Without
constraints the linear autoencoder is PCA.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import (
    LOSSES,
    MULTILINEAR,
    advance,
    make,
    planted,
    positive,
    reconstruct,
    some_mask,
    values,
)

from nmfnet.core.objective import kkt
from nmfnet.kernels.divergences import beta_divergence
from nmfnet.kernels.multiplicative import apply_update_, nmf_sums_H, nmf_sums_W
from nmfnet.metrics import svd_floor
from nmfnet.solvers.base import total

N, F, K = 12, 7, 3
close = torch.testing.assert_close


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, *shape, generator=generator, dtype=torch.float64) + 0.1


def at(model, **factors):
    """The model at given factors."""
    for name, value in factors.items():
        model.factors[name].assign_(value)
    return model


def loss_and_gradients(model, batch):
    loss = total(model.objective(batch))
    raws = {name: factor.raw for name, factor in model.factors.items()}
    slopes = torch.autograd.grad(loss.sum(), list(raws.values()))
    return loss.detach(), dict(zip(raws, slopes, strict=True))


# ------------------------------------------------------- T1, T2: AE = convex NMF
@pytest.mark.parametrize("constraint", ["project", "abs"])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("loss", LOSSES)
def test_t1_t2_autoencoder_is_convex_nmf_of_the_features(loss, masked, constraint):
    """Same loss, same gradients, same feasible set, at any point."""
    X = positive(N, F)
    mask = some_mask(N, F) if masked else None
    own = {"constraint": constraint, "solver": "adam", **LOSSES[loss]}
    ae, batch = make(X, mask=mask, model="autoencoder", **own)
    convex, _ = make(X, mask=mask, model="convex_nmf", convex_axis="features", **own)
    E, D = random(F, K), random(K, F, seed=1)
    one, slopes = loss_and_gradients(at(ae, E=E, H=D), batch)
    two, others = loss_and_gradients(at(convex, G=E, H=D), batch)
    close(one, two, rtol=1e-12, atol=0)
    close(slopes["E"], others["G"], rtol=1e-11, atol=1e-12)
    close(slopes["H"], others["H"], rtol=1e-11, atol=1e-12)
    feasible = [{f.raw.shape[1:] for f in m.factors.values()} for m in (ae, convex)]
    assert feasible[0] == feasible[1]


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("loss", LOSSES)
def test_t1_t2_t10_autoencoder_of_the_transpose_is_convex_nmf_of_the_samples(loss, masked):
    """Xᵀ ~ Xᵀ E D is X ~ Dᵀ Eᵀ X: the published orientation."""
    X = positive(N, F)
    mask = some_mask(N, F) if masked else None
    ae, other = make(
        X.T, mask=None if mask is None else mask.T, model="autoencoder", **LOSSES[loss]
    )
    convex, batch = make(X, mask=mask, model="convex_nmf", convex_axis="samples", **LOSSES[loss])
    E, D = random(N, K), random(K, N, seed=1)
    one, slopes = loss_and_gradients(at(ae, E=E, H=D), other)
    two, others = loss_and_gradients(at(convex, A=E.mT, W=D.mT), batch)
    close(one, two, rtol=1e-12, atol=0)
    close(slopes["E"].mT, others["A"], rtol=1e-11, atol=1e-12)
    close(slopes["H"].mT, others["W"], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_t1_same_updates_too(loss):
    """From one start, the multiplicative runs coincide (the AE has no square root: no exponent)."""
    X = positive(N, F)
    ae, batch = make(X, model="autoencoder", solver="mu", loss=loss)
    convex, _ = make(X, model="convex_nmf", convex_axis="features", square_root=False, loss=loss)
    E, D = random(F, K), random(K, F, seed=1)
    at(ae, E=E, H=D)
    at(convex, G=E, H=D)
    close(advance(ae, batch, 50), advance(convex, batch, 50), rtol=1e-10, atol=0)
    close(values(ae)["E"], values(convex)["G"], rtol=1e-8, atol=1e-12)


# ------------------------------------------------------- T3: inclusion
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("axis", ["samples", "features"])
def test_t3_every_convex_solution_is_an_nmf_solution(axis, loss):
    """So the best NMF is no worse; here NMF started from convex NMF's answer."""
    X = positive(N, F)
    convex, batch = make(X, model="convex_nmf", convex_axis=axis, loss=loss)
    reached = advance(convex, batch, 2000)
    nmf, _ = make(X, loss=loss)
    with torch.no_grad():
        at(nmf, W=convex.encode(batch), H=convex.components())
        close(total(nmf.objective(batch)), reached, rtol=1e-12, atol=0)
    assert float(advance(nmf, batch, 500)) < float(reached)


def test_t3_equal_when_the_components_are_samples():
    """Separable data: the components lie in the cone of the samples, and both losses are 0."""
    rng = np.random.default_rng(0)
    H = rng.random((K, F))
    W = np.vstack([np.eye(K), rng.random((N - K, K))])
    model, batch = make(W @ H, model="convex_nmf", convex_axis="samples")
    A = torch.zeros(1, K, N, dtype=torch.float64)
    A[0, :, :K] = torch.eye(K)
    at(model, A=A, W=torch.from_numpy(W))
    with torch.no_grad():
        assert float(total(model.objective(batch))) < 1e-25


# ------------------------------------------------------- T4: the updates of the sources
def test_t4_rules_of_ding_li_and_jordan():
    """With X >= 0: W *= sqrt(XXᵀAᵀ / W A XXᵀ Aᵀ), then the same for A."""
    X = positive(N, F)
    model, batch = make(X, model="convex_nmf", **{"solver.extrapolation": False})
    A, W = random(K, N), random(N, K, seed=1)
    at(model, A=A, W=W)
    advance(model, batch, 1)
    B = batch.x @ batch.x.mT
    A = A * ((W.mT @ B) / (W.mT @ W @ A @ B)).sqrt()
    W = W * ((B @ A.mT) / (W @ A @ B @ A.mT)).sqrt()
    close(values(model)["A"], A, rtol=1e-12, atol=0)
    close(values(model)["W"], W, rtol=1e-12, atol=0)


def test_t4_em_rule_of_kl_convex_nmf():
    X = positive(N, F)
    model, batch = make(X, model="convex_nmf", loss="kl", **{"solver.extrapolation": False})
    A, W = random(K, N), random(N, K, seed=1)
    at(model, A=A, W=W)
    advance(model, batch, 1)
    ratio = batch.x / (W @ A @ batch.x)
    A = A * (W.mT @ ratio @ batch.x.mT) / (W.sum(-2).unsqueeze(-1) * batch.x.sum(-1))
    ratio = batch.x / (W @ A @ batch.x)
    H = A @ batch.x
    W = W * (ratio @ H.mT) / H.sum(-1).unsqueeze(-2)
    close(values(model)["A"], A, rtol=1e-12, atol=0)
    close(values(model)["W"], W, rtol=1e-12, atol=0)
    close(reconstruct(model, batch)[0].sum(-1), batch.x.sum(-1))  # row sums are exact


# ------------------------------------------------------- T6: gauge
@pytest.mark.parametrize("loss", LOSSES)
def test_t6_scale_of_a_component_may_move_between_the_factors(loss):
    X = positive(N, F)
    for settings, left, right in (
        ({"model": "nmf"}, "W", "H"),
        ({"model": "convex_nmf", "convex_axis": "features"}, "G", "H"),
        ({"model": "autoencoder"}, "E", "H"),
    ):
        model, batch = make(X, **settings, **LOSSES[loss])
        with torch.no_grad():
            before = total(model.objective(batch))
            scale = torch.tensor([0.1, 3.0, 7.0], dtype=torch.float64)
            found = values(model)
            at(model, **{left: found[left] * scale, right: found[right] / scale[:, None]})
            close(total(model.objective(batch)), before, rtol=1e-12, atol=0)


# ------------------------------------------------------- T7: MU is a scaled gradient step
def test_t7_multiplicative_update_is_a_gradient_step():
    """theta - eta * gradient with eta = theta / pos, for every beta at exponent 1."""
    x = torch.from_numpy(positive(N, F))
    W, H = random(N, K)[0], random(K, F, seed=1)[0]
    for beta in (2.0, 1.0, 1.5):
        neg, pos = nmf_sums_W(x, W, H, beta)
        stepped = W - W / pos * (pos - neg)
        close(apply_update_(W.clone(), neg.clone(), pos, 1.0), stepped, rtol=1e-12, atol=0)


# ------------------------------------------------------- T8: identities of stationary points
def test_t8_inner_product_with_the_data_is_the_square_of_the_fit():
    X, _, _ = planted(20, 8, 2)
    model, batch = make(X + 0.1, n_components=2)
    advance(model, batch, 3000)
    R = reconstruct(model, batch)[0]
    assert float((batch.x * R).sum()) == pytest.approx(float((R * R).sum()), rel=1e-9)


def test_t8_kl_keeps_column_sums_after_h_and_row_sums_at_the_end():
    X, _, _ = planted(20, 8, 2)
    model, batch = make(X + 0.1, n_components=2, loss="kl", **{"solver.extrapolation": False})
    advance(model, batch, 1)
    close(reconstruct(model, batch)[0].sum(0), batch.x.sum(0), rtol=1e-12, atol=0)
    advance(model, batch, 3000)
    close(reconstruct(model, batch)[0].sum(1), batch.x.sum(1), rtol=1e-7, atol=0)


# ------------------------------------------------------- T9: what is no longer the linear model
@pytest.mark.parametrize("hidden", [[], [4]])
def test_t9_relu_between_non_negative_layers_is_the_identity(hidden):
    X = positive(N, F)
    relu, batch = make(X, model="autoencoder", hidden=hidden)
    plain, _ = make(
        X, model="autoencoder", hidden=hidden, activation="identity", code_activation="identity"
    )
    assert torch.equal(reconstruct(relu, batch), reconstruct(plain, batch))


def test_t9_two_linear_layers_are_one_whose_weights_factorise():
    X = positive(N, F)
    deep, batch = make(X, model="autoencoder", hidden=[4])
    shallow, _ = make(X, model="autoencoder")
    found = values(deep)
    at(shallow, E=found["E1"] @ found["E2"], H=found["H"])
    close(reconstruct(deep, batch), reconstruct(shallow, batch), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "change",
    [{"code_activation": "softplus"}, {"bias": True}, {"hidden": [4], "activation": "tanh"}],
)
def test_t9_curved_or_biased_networks_are_other_models(change):
    X = positive(N, F)
    plain, _ = make(X, model="autoencoder")
    other, _ = make(X, model="autoencoder", **change)
    assert plain.multilinear
    assert not other.multilinear


# ------------------------------------------------------- T10: orientation
def test_t10_orientation_matters():
    """The best losses of the two orientations differ: each restricts another factor."""
    X, _, _ = planted(20, 9, 3, seed=2)
    found = {}
    for axis in ("samples", "features"):
        model, batch = make(X, model="convex_nmf", convex_axis=axis, n_restarts=5)
        found[axis] = float(advance(model, batch, 3000).min())
    assert max(found.values()) > 1.05 * min(found.values())


def test_t10_encoder_of_features_orientation_is_inductive():
    X = positive(N, F)
    model, batch = make(X, model="convex_nmf", convex_axis="features")
    assert model.inductive
    G = values(model)["G"]
    with torch.no_grad():
        close(model.infer(batch), batch.x @ G)
        one = batch._replace(x=batch.x[3:4], index=batch.index[3:4])
        close(model.infer(one)[0, 0], (batch.x @ G)[0, 3])


# ------------------------------------------------------- T11: tied = projective
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("loss", LOSSES)
def test_t11_tied_autoencoder_is_projective_is_tied_convex(loss, masked):
    X = positive(N, F)
    mask = some_mask(N, F) if masked else None
    H = random(K, F)
    found = []
    for settings, own in (
        ({"model": "projective_nmf"}, {"H": H}),
        (MULTILINEAR["ae-tied"], {"E": H.mT}),
        ({"model": "convex_nmf", "convex_axis": "features", "tied": True}, {"G": H.mT}),
    ):
        model, batch = make(X, mask=mask, **settings, **LOSSES[loss])
        value, slopes = loss_and_gradients(at(model, **own), batch)
        (slope,) = slopes.values()
        found.append((value, slope if "H" in own else slope.mT))
    for value, slope in found[1:]:
        close(value, found[0][0], rtol=1e-12, atol=0)
        close(slope, found[0][1], rtol=1e-11, atol=1e-12)


def test_t11_tied_by_samples_is_projective_nmf_of_the_transpose():
    X = positive(N, F)
    A = random(K, N)
    tied, batch = make(X, model="convex_nmf", convex_axis="samples", tied=True)
    projective, other = make(X.T, model="projective_nmf")
    with torch.no_grad():
        one = total(at(tied, A=A).objective(batch))
        two = total(at(projective, H=A).objective(other))
    close(one, two, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_t11_tied_is_a_subset_of_untied(loss):
    """Convex NMF started from projective NMF's answer has its loss, and improves on it."""
    X = positive(N, F)
    projective, batch = make(X, model="projective_nmf", loss=loss)
    reached = advance(projective, batch, 1000)
    H = values(projective)["H"]
    untied, _ = make(X, model="convex_nmf", convex_axis="features", loss=loss)
    with torch.no_grad():
        close(total(at(untied, G=H.mT, H=H).objective(batch)), reached, rtol=1e-12, atol=0)
    assert float(advance(untied, batch, 500)) < float(reached)


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_t11_a_split_component_is_a_stationary_copy_of_a_lower_rank(loss):
    """Two copies of a component that share its weight: same loss, and no first-order way out."""
    X, _, _ = planted(20, 8, 2)
    X += 0.1
    small, batch = make(X, n_components=2, loss=loss)
    reached = advance(small, batch, 3000)
    W, H = (values(small)[name] for name in "WH")
    W = torch.cat([W, W[..., :1] * 0.3], -1)
    W[..., 0] *= 0.7
    large, _ = make(X, n_components=3, loss=loss)
    at(large, W=W, H=torch.cat([H, H[:, :1]], -2))
    with torch.no_grad():
        close(total(large.objective(batch)), reached, rtol=1e-12, atol=0)
        assert float(kkt(large, batch)) < 1e-6


# ------------------------------------------------------- KL-NMF = pLSI, AE = PCA
def test_kl_nmf_is_plsi():
    """One EM step of pLSI on P(d) P(w|z) P(z|d) is one multiplicative step of KL-NMF.

    Source: Gaussier & Goutte 2005; Ding, Li & Peng 2008.
    """
    x = torch.from_numpy(np.random.default_rng(0).poisson(3.0, (N, F)).astype(float) + 1)
    words = random(K, F)[0]
    words /= words.sum(-1, keepdim=True)  # P(w | z)
    mix = random(N, K, seed=1)[0]
    mix /= mix.sum(-1, keepdim=True)  # P(z | d)
    responsibility = mix[:, :, None] * words  # (d, z, w), then P(z | d, w)
    responsibility = responsibility / responsibility.sum(1, keepdim=True)
    counts = x[:, None, :] * responsibility
    em_mix = counts.sum(2) / x.sum(1, keepdim=True)
    em_words = counts.sum(0) / counts.sum((0, 2))[:, None]

    W, H = mix * x.sum(1, keepdim=True), words  # joint counts: W carries P(d)
    new_W = apply_update_(W.clone(), *nmf_sums_W(x, W, H, 1.0), 1.0)
    new_H = apply_update_(H.clone(), *nmf_sums_H(x, W, H, 1.0), 1.0)
    close(new_W / new_W.sum(-1, keepdim=True), em_mix, rtol=1e-12, atol=0)
    close(new_H / new_H.sum(-1, keepdim=True), em_words, rtol=1e-12, atol=0)


def test_kl_is_the_likelihood_of_plsi_up_to_a_constant():
    x = torch.from_numpy(np.random.default_rng(0).poisson(3.0, (N, F)).astype(float) + 1)
    gaps = []
    for seed in range(3):
        words, mix = random(K, F, seed=seed)[0], random(N, K, seed=seed + 9)[0]
        words, mix = words / words.sum(-1, keepdim=True), mix / mix.sum(-1, keepdim=True)
        P = mix @ words
        likelihood = (x * P.log()).sum()
        kl = beta_divergence(x, x.sum(1, keepdim=True) * P, 1.0).sum()
        gaps.append(float(kl + likelihood))
    assert np.ptp(gaps) < 1e-9 * abs(gaps[0])


def test_unconstrained_linear_autoencoder_is_pca():
    """It reaches the floor of the singular values, which no model of its rank goes below."""
    X = positive(30, 8)
    model, batch = make(
        X,
        model="autoencoder",
        constraint="free",
        code_activation="identity",
        solver="adam",
        **{"solver.lr": 0.1},
    )
    for _ in range(25):
        advance(model, batch, 100)
    model.solver.finish(model, batch)
    error = float((batch.x - reconstruct(model, batch)[0]).norm() / batch.x.norm())
    floor = svd_floor(X, 3)
    assert error >= floor * (1 - 1e-12)
    assert error == pytest.approx(floor, rel=1e-4)


@pytest.mark.parametrize("variant", MULTILINEAR)
def test_no_model_goes_below_the_svd_floor(variant):
    X, _, _ = planted(20, 9, 4)
    model, batch = make(X + 0.05, **MULTILINEAR[variant])
    advance(model, batch, 300)
    error = float((batch.x - reconstruct(model, batch)[0]).norm() / batch.x.norm())
    assert error >= svd_floor(X + 0.05, 3) * (1 - 1e-12)
