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

from nmfnet.api import configuration
from nmfnet.arrays import as_tensor
from nmfnet.checkpoint import assemble
from nmfnet.data.registry import source
from nmfnet.types import Batch, Sizes

Row = dict[str, Any]


def released(
    X: np.ndarray, start: list[np.ndarray], objective: str, lr: float, epochs: int
) -> tuple[list[np.ndarray], float]:
    """A_0, ... after some epochs of the package, and its CPU seconds per epoch."""
    from NeuralNMF import Neural_NMF, train  # type: ignore[import-not-found]

    x = torch.from_numpy(np.ascontiguousarray(X.T))
    net = Neural_NMF([x.shape[0], *(len(A) for A in start)])
    for layer, A in zip(net.lsqnonneglst, start, strict=True):
        layer.A.data = torch.from_numpy(A.T.copy())
    name = {"reconstruction": "Recon Loss", "energy": "Energy Loss"}[objective]
    began = time.process_time()
    train(net, x, loss_func=name, epoch=epochs, lr=lr, verbose=False)
    seconds = (time.process_time() - began) / epochs
    return [layer.A.detach().numpy().T for layer in net.lsqnonneglst], seconds


def ours(
    values: Any, start: list[np.ndarray], objective: str, lr: float, epochs: int
) -> tuple[list[np.ndarray], float]:
    """The same gradient descent with ``as_released``."""
    settings = {"as_released": True, "objective": objective, "layers": [len(A) for A in start]}
    cfg = configuration({"model": "neural_nmf", "dtype": "float64", **settings})
    x = as_tensor(values, torch.float64, torch.device("cpu"))
    model = assemble(cfg, Sizes(*x.shape))
    batch = Batch(x, torch.arange(x.shape[0]))
    model.initialise(batch)
    for factor, A in zip(model.factors.values(), start, strict=True):
        factor.assign_(torch.from_numpy(A))
    epoch(model, batch, 0)  # compiles
    began = time.process_time()
    for _ in range(epochs):
        epoch(model, batch, lr)
    seconds = (time.process_time() - began) / epochs
    return [factor()[0].detach().numpy() for factor in model.factors.values()], seconds


def epoch(model: Any, batch: Batch, lr: float) -> None:
    """One step of gradient descent."""
    model.zero_grad()
    torch.stack([term.sum() for term in model.objective(batch).values()]).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(lr * parameter.grad)


def compare(data: str, ranks: list[int], objective: str, lr: float, epochs: int) -> Row:
    """Times and the largest difference of the components after the last epoch."""
    values = source(data).read().values
    dense = values if isinstance(values, np.ndarray) else values.toarray()
    rng = np.random.default_rng(0)
    start = [rng.random((k, f)) for f, k in zip([dense.shape[1], *ranks], ranks, strict=False)]
    theirs, slow = released(dense, start, objective, lr, epochs)
    mine, _ = ours(values, start, objective, lr, epochs)
    fast = min(ours(values, start, objective, lr, epochs)[1] for _ in range(3))
    gaps = [np.abs(a - b).max() / np.abs(a).max() for a, b in zip(theirs, mine, strict=True)]
    return {
        "data": data,
        "ranks": ranks,
        "objective": objective,
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
    rows.append(compare("20news-neuralnmf", [10, 6], "energy", 1e10, long))
    path = Path(__file__).with_name("reference_speed.json")
    path.write_text(json.dumps(rows, indent=2) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
