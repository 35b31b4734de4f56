"""CPU time of an epoch against the released code (``pip install NeuralNMF``), same start and steps.

python experiments/neural_nmf/reference_speed.py [EPOCHS of newsgroups]
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nmfnet.core.starting import initialise
from nmfnet.data import LabelSplit
from nmfnet.data.sources.registry import source
from nmfnet.kernels.arrays import as_tensor
from nmfnet.models._labels import labels_of
from nmfnet.run.checkpoint import assemble
from nmfnet.settings.words import configuration
from nmfnet.types import Batch, Sizes

Row = dict[str, Any]

CLASSES = {1: "nine", 2: "four", 3: "two"}
"""Classes of the blocks that go with the last rank: the package needs as many components."""

LABEL_WEIGHT, LABEL_RATES, READOUT_STEPS = 0.1, (1.0, 0.01), 30
"""Of the supervised runs: weight of the classes, rates of A and of B, steps of B in an epoch."""


def released(
    X: np.ndarray,
    start: list[np.ndarray],
    objective: str,
    lr: float,
    epochs: int,
    labels: np.ndarray | None,
) -> tuple[list[np.ndarray], float]:
    """A_0, ... (and B) after some epochs of the package, and its CPU seconds per epoch."""
    from NeuralNMF import (  # type: ignore[import-not-found]
        Energy_Loss_Func,
        Neural_NMF,
        Recon_Loss_Func,
        train,
        train_supervised,
    )

    x = torch.from_numpy(np.ascontiguousarray(X.T))
    of = {"reconstruction": Recon_Loss_Func, "energy": Energy_Loss_Func}[objective]
    options = {"epoch": epochs, "verbose": False}
    ranks = [len(A) for A in start]
    if labels is None:
        net = Neural_NMF([x.shape[0], *ranks])
    else:
        net = Neural_NMF([x.shape[0], *ranks], int(labels.max()) + 1)
        net.linear.weight.data = torch.from_numpy(readout(start, labels).T.copy())
    for layer, A in zip(net.lsqnonneglst, start, strict=True):
        layer.A.data = torch.from_numpy(A.T.copy())
    began = time.process_time()
    if labels is None:
        train(net, x, loss_func=of(), lr=lr, **options)
    else:
        given = torch.from_numpy(np.broadcast_to(labels >= 0, (net.c, len(labels))).copy())
        classes = torch.from_numpy(labels.clip(0))
        train_supervised(
            net, x, classes, given, of(LABEL_WEIGHT, "CrossEntropy"), lr=LABEL_RATES, **options
        )
    seconds = (time.process_time() - began) / epochs
    found = [layer.A.detach().numpy().T for layer in net.lsqnonneglst]
    return found + ([] if labels is None else [net.linear.weight.detach().numpy().T]), seconds


def readout(start: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The first B of both programs."""
    shape = (len(start[-1]), int(labels.max()) + 1)
    return np.random.default_rng(1).uniform(-0.5, 0.5, shape)


def ours(
    values: Any,
    start: list[np.ndarray],
    objective: str,
    lr: float,
    epochs: int,
    labels: np.ndarray | None,
) -> tuple[list[np.ndarray], float]:
    """The same gradient descent with ``as_released``."""
    settings: Row = {"as_released": True, "objective": objective, "layers": [len(A) for A in start]}
    extra, n_classes, first = {}, 0, start
    if labels is not None:
        settings |= {"supervision": "cross_entropy", "label_weight": LABEL_WEIGHT}
        extra, n_classes = {"labels": torch.from_numpy(labels)}, int(labels.max()) + 1
        first = [*start, readout(start, labels)]
    cfg = configuration({"model": "neural_nmf", "dtype": "float64", **settings})
    x = as_tensor(values, torch.float64, torch.device("cpu"))
    model = assemble(cfg, Sizes(*x.shape), n_classes=n_classes)
    batch = Batch(x, torch.arange(x.shape[0]), None, extra)
    initialise(model, batch)
    one = epoch if labels is None else supervised_epoch
    one(model, batch, 0)  # compiles
    for factor, A in zip(model.factors.values(), first, strict=True):
        factor.assign_(torch.from_numpy(A))
    began = time.process_time()
    for _ in range(epochs):
        one(model, batch, lr)
    seconds = (time.process_time() - began) / epochs
    return [factor()[0].detach().numpy() for factor in model.factors.values()], seconds


def epoch(model: Any, batch: Batch, lr: float) -> None:
    """One step of gradient descent."""
    model.zero_grad()
    torch.stack([term.sum() for term in model.objective(batch).values()]).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(lr * parameter.grad)


def supervised_epoch(model: Any, batch: Batch, lr: float) -> None:
    """One projected step of A, then the steps of B; S, which B does not change, is solved once."""
    lr_A, lr_B = LABEL_RATES if lr else (0, 0)
    model.zero_grad()
    torch.stack([term.sum() for term in model.objective(batch).values()]).sum().backward()
    with torch.no_grad():
        for A in model.A:
            A.raw.sub_(lr_A * A.raw.grad)
            A.project_()
        W = model.encode(batch)
    labels = labels_of(batch, model.classes, model.precision)
    for _ in range(READOUT_STEPS):
        term = model.label_weight * model.label_term(batch, labels, W).sum()
        (gradient,) = torch.autograd.grad(term, [model.B.raw])
        with torch.no_grad():
            model.B.raw.sub_(lr_B * gradient)


def compare(
    data: str, ranks: list[int], objective: str, lr: float, epochs: int, labels: str = "none"
) -> Row:
    """Times and the largest difference of the components after the last epoch."""
    matrix = source(data, **({"labels": CLASSES[len(ranks)]} if labels != "none" else {})).read()
    values, classes = matrix.values, None
    if labels != "none":
        assert matrix.labels is not None
        classes = matrix.labels.copy()
        if labels != "all":
            classes[LabelSplit(hidden=0.6)(matrix, 0).hidden_labels] = -1
    dense = values if isinstance(values, np.ndarray) else values.toarray()
    rng = np.random.default_rng(0)
    start = [rng.random((k, f)) for f, k in zip([dense.shape[1], *ranks], ranks, strict=False)]
    theirs, slow = released(dense, start, objective, lr, epochs, classes)
    mine, _ = ours(values, start, objective, lr, epochs, classes)
    fast = min(ours(values, start, objective, lr, epochs, classes)[1] for _ in range(3))
    gaps = [np.abs(a - b).max() / np.abs(a).max() for a, b in zip(theirs, mine, strict=True)]
    return {
        "data": data,
        "ranks": ranks,
        "objective": objective,
        "labels": labels,
        "epochs": epochs,
        "released_ms": round(1000 * slow, 3),
        "nmfnet_ms": round(1000 * fast, 3),
        "speed_up": round(slow / fast, 1),
        "largest_relative_difference": float(f"{max(gaps):.2g}"),
    }


def main() -> None:
    """Compare on the blocks and on 200 newsgroup posts."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    long = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows = [
        compare("hierarchical_blocks", ranks, objective, 1.0, 60)
        for ranks in ([9], [9, 4], [9, 4, 2])
        for objective in ("reconstruction", "energy")
    ]
    rows += [
        compare("hierarchical_blocks", ranks, "energy", 1.0, 20, labels)
        for ranks in ([9], [9, 4], [9, 4, 2])
        for labels in ("40 %", "all")
    ]
    rows.append(compare("20news-neuralnmf", [10, 6], "energy", 1e10, long))
    path = Path(__file__).with_name("reference_speed.json")
    path.write_text(json.dumps(rows, indent=2) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
