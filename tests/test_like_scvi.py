"""The loss terms of scvi-tools' VAE and LDVAE on one batch, from the same weights.

Skipped where scvi-tools is not installed: the closed forms of both are tested in test_vae.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import nmfnet
from nmfnet.types import Batch

N, F, K, WIDTH = 40, 25, 3, 16
HEADS = {"poisson": "poisson", "negative_binomial": "nb", "zinb": "zinb"}


def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    mean = 400 * rng.dirichlet(np.full(F, 0.7), size=3)[np.arange(N) % 3]
    return rng.negative_binomial(3, 3 / (3 + mean)).astype(float)


def theirs(linear: bool, likelihood: str) -> Any:
    """Their module in float64, with running means that are not 0."""
    scvi = pytest.importorskip("scvi", reason="scvi-tools is not installed")
    torch.manual_seed(0)
    sizes = {"n_input": F, "n_latent": K, "n_hidden": WIDTH, "n_batch": 1, "dropout_rate": 0.1}
    kind = scvi.module.LDVAE if linear else scvi.module.VAE
    more = {"use_observed_lib_size": True, "gene_likelihood": likelihood}
    more |= {"n_layers_encoder": 1} if linear else {"n_layers": 1}
    module = kind(**sizes, **more).double()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.uniform_(layer.bias, -0.3, 0.3)
    return module.eval()


def assign(model: Any, name: str, linear: Any) -> None:
    """Our layer from theirs; a bias that their norm takes out again we do not have."""
    for word, value in (("", linear.weight.T), ("_bias", linear.bias[None])):
        if name + word in model.factors:
            model.factors[name + word].assign_(value)


def assign_norm(ours: Any, norm: Any, linear: Any) -> None:
    """Theirs is behind a bias, which moves the mean that it takes out."""
    with torch.no_grad():
        pairs = {
            "mean": "running_mean",
            "variance": "running_var",
            "scale": "weight",
            "shift": "bias",
        }
        for own, word in pairs.items():
            getattr(ours, own).copy_(getattr(norm, word)[None, None])
        ours.mean -= linear.bias


def hidden(block: Any) -> tuple[Any, Any]:
    """Linear layer and norm of their one hidden layer."""
    layers = block.fc_layers[0]
    norm = next(layer for layer in layers if isinstance(layer, torch.nn.BatchNorm1d))
    return layers[0], norm


@pytest.mark.parametrize("loss", list(HEADS))
@pytest.mark.parametrize("linear", [False, True], ids=["VAE", "LDVAE"])
def test_terms_are_theirs(linear, loss):
    module, X = theirs(linear, HEADS[loss]), counts()
    ours = nmfnet.fit(
        X, "ldvae" if linear else "scvi", loss=loss, n_components=K, max_iter=1, dtype="float64",
        figures=False, solver="adam_network",
        **{"model.hidden": [WIDTH], **({} if linear else {"model.decoder": [WIDTH]})},
    )  # fmt: skip
    ours.eval()
    with torch.no_grad():
        linear_layer, norm = hidden(module.z_encoder.encoder)
        assign(ours, "E1", linear_layer)
        assign_norm(ours.E[0].norm, norm, linear_layer)
        assign(ours, "M", module.z_encoder.mean_encoder)
        assign(ours, "V", module.z_encoder.var_encoder)
        if loss != "poisson":
            ours.factors["dispersion"].assign_(module.px_r.exp()[None])
        if linear:
            assign_linear(ours, "H", module.decoder.factor_regressor)
            if loss == "zinb":
                assign_linear(ours, "P", module.decoder.px_dropout_decoder)
        else:
            linear_layer, norm = hidden(module.decoder.px_decoder)
            assign(ours, "D1", linear_layer)
            assign_norm(ours.D[0].norm, norm, linear_layer)
            assign(ours, "H", module.decoder.px_scale_decoder[0])
            if loss == "zinb":
                assign(ours, "P", module.decoder.px_dropout_decoder)
        batch = Batch(torch.from_numpy(X), torch.arange(N))
        with ours.restarts(0):
            law, noise = (
                ours.law(batch),
                torch.from_numpy(np.random.default_rng(1).normal(size=(N, K))),
            )
            z = law.sample(noise)
            output = ours.outputs(z, batch)["x"]
            data, kl = ours.loss(batch.x, output.mean, None, output.heads), law.kl()
        tensors = {"X": batch.x, "batch": torch.zeros(N, 1)}
        made = module.inference(batch.x, torch.zeros(N, 1))
        torch.testing.assert_close(made["qz"].loc, law.mean, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(made["qz"].scale ** 2 - module.z_encoder.var_eps, law.scale**2)
        generated = module.generative(z, made["library"], torch.zeros(N, 1))
        told = module.loss(tensors, made | {"z": z}, generated)
        (theirs_data,) = told.reconstruction_loss.values()
        theirs_kl = told.kl_local["kl_divergence_z"]
    torch.testing.assert_close(theirs_data, data, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(theirs_kl, kl, rtol=1e-3, atol=1e-3)  # they add 1e-4 to variances


def assign_linear(model: Any, name: str, block: Any) -> None:
    """Our last layer from their linear one with a norm behind it, as that is when it is judged."""
    layers = list(block.fc_layers[0])
    weight = layers[0].weight.T
    bias = torch.zeros(1, F).double() if layers[0].bias is None else layers[0].bias[None]
    for layer in layers:
        if isinstance(layer, torch.nn.BatchNorm1d):
            gain = layer.weight / (layer.running_var + layer.eps).sqrt()
            weight, bias = weight * gain, (bias - layer.running_mean) * gain + layer.bias
    model.factors[name].assign_(weight)
    model.factors[f"{name}_bias"].assign_(bias)
