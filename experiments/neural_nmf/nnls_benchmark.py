"""Time of a differentiable non-negative least squares layer against a loop over SciPy's ``nnls``.

``S = argmin_{S >= 0} ||X - S A||`` for every row of X, and the gradient of a linear functional of S
by A, as one epoch of training needs it. The loop solves one row at a time and takes the gradient with
the pseudo-inverse of each row's support, as the released Neural NMF code does.

    python experiments/neural_nmf/nnls_benchmark.py [OUTPUT.json]
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
import torch
from scipy.optimize import nnls as scipy_nnls

from nmfnet.kernels.nnls import nnls, nnls_rows

N_FEATURES, N_ROWS = 3762, 90
"""Words and documents of the published bag-of-words example."""


def problem(k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (90, 3762), A (k, 3762) and a gradient of S (90, k); about half of S is 0."""
    rng = np.random.default_rng(seed)
    A = rng.random((k, N_FEATURES)) * (rng.random((k, N_FEATURES)) < 0.7)
    S = rng.random((N_ROWS, k)) * (rng.random((N_ROWS, k)) < 0.5)
    X = S @ A + 0.3 * rng.standard_normal((N_ROWS, N_FEATURES))
    return X, A, rng.standard_normal((N_ROWS, k))


def scipy_loop(X: np.ndarray, A: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S and the gradient by A, one row of X after the other."""
    S, grad = np.zeros_like(g), np.zeros_like(A)
    for i, x in enumerate(X):
        S[i] = scipy_nnls(A.T, x)[0]
        on = S[i] > 0
        inverse = np.linalg.pinv(A[on].T)  # (support, features)
        back = inverse.T @ g[i, on]
        grad[on] -= np.outer(S[i, on], back)
        grad[on] += np.outer(inverse @ back, x - S[i, on] @ A[on])
    return S, grad


def layer(
    X: torch.Tensor, A: torch.Tensor, g: torch.Tensor, support: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, all rows at once in Gram space."""
    a = A.requires_grad_()
    S = nnls_rows(X, a) if support is None else nnls(a @ a.mT, X @ a.mT, support)
    (grad,) = torch.autograd.grad(S, a, g)
    return S.detach(), grad


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Smallest CPU time of a call: other programs on the machine cannot lower it."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def measure(k: int) -> dict[str, float]:
    """Times, largest differences and the optimality of both, for one k."""
    X, A, g = problem(k)
    x, a, grad = (torch.from_numpy(array) for array in (X, A, g))
    slow_S, slow_grad = scipy_loop(X, A, g)
    S, fast_grad = layer(x, a, grad, None)
    on, C = S > 0, X @ A.T
    slope = S.numpy() @ (A @ A.T) - C
    kkt = np.abs(np.minimum(S.numpy() * np.diag(A @ A.T), slope)).max() / np.abs(C).max()
    loop = milliseconds(lambda: scipy_loop(X, A, g), 3)
    cold = milliseconds(lambda: layer(x, a, grad, None), 20)
    warm = milliseconds(lambda: layer(x, a, grad, on), 20)
    return {
        "n_components": k,
        "scipy_loop_ms": loop,
        "nmfnet_ms": cold,
        "nmfnet_warm_ms": warm,
        "speed_up": loop / cold,
        "speed_up_warm": loop / warm,
        "kkt_residual": float(kkt),
        "difference_S": float(np.abs(S.numpy() - slow_S).max() / slow_S.max()),
        "difference_gradient": float(
            np.abs(fast_grad.numpy() - slow_grad).max() / np.abs(slow_grad).max()
        ),
    }


def main(output: Path) -> None:
    """Measure k = 9, 20, 50 on one thread; print and save."""
    torch.set_num_threads(1)
    rows = [measure(k) for k in (9, 20, 50)]
    versions = {"torch": torch.__version__, "scipy": scipy.__version__, "numpy": np.__version__}
    report = {
        "shape": [N_ROWS, N_FEATURES],
        "what": "forward + gradient by A, CPU milliseconds, one thread, smallest of the repeats",
        "machine": platform.machine(),
        "versions": versions,
        "results": [{key: float(f"{v:.4g}") for key, v in row.items()} for row in rows],
    }
    output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report["results"], indent=2))


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("nnls_benchmark.json")
    )
