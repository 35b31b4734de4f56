"""The Triton kernel gives the sums of the eager rules, and compiles; no GPU is needed for either.

Run as a script, this file is its own tests: Triton decides when it is imported whether it interprets,
so each kind of check has a process to itself.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5
BETAS = [
    (2.0, True),
    (1.0, False),
    (1.0, True),
    (0.0, False),
    (0.5, True),
    (3.0, False),
    (-1.0, True),
]
SHAPES = [((17, 33), 3, ()), ((33, 17), 20, (3,)), ((20, 52), 1, (2,))]

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed (it comes with torch for CUDA)"
)


def run_checks(kind: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "TRITON" not in name}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TRITON_CACHE_DIR": str(tmp_path),
        "TRITON_INTERPRET": "1" if kind == "interpreted" else "0",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, kind],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == "passed"


@needs_triton
@pytest.mark.slow
def test_kernel_is_the_eager_rule(tmp_path):
    run_checks("interpreted", tmp_path)


@needs_triton
@pytest.mark.slow
def test_kernel_compiles_for_tensor_cores(tmp_path):
    run_checks("compiled", tmp_path)


# ---------------------------------------------------------------------- in a process of its own
def problem(shape, k, lead, *, masked=False, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.rand(size, generator=generator) + 0.01

    (n, f), mask = shape, None
    x = draw(n, f)
    if masked:
        mask = (torch.rand((n, f), generator=generator) < 0.8).float() * draw(n, f)  # weights
        x = x * (mask > 0)
    return x, draw(*lead, n, k), draw(*lead, k, f), mask


def eager(name, x, W, H, beta, mask=None):
    """The oracle, in float64: never by the kernel."""
    from nmfnet.kernels.multiplicative import nmf_sums_H, nmf_sums_W

    given = [None if v is None else v.double() for v in (x, W, H, mask)]
    return {"W": nmf_sums_W, "H": nmf_sums_H}[name](*given[:3], beta, given[3])


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(
            one.double(), other.expand_as(one), rtol=TOLERANCE, atol=0, check_stride=False
        )


def check_sums():
    """Every divergence, with and without a mask, restarts, odd sizes, one tile or many."""
    from nmfnet.kernels.triton_kernels import Tiles, sums, usable

    many = Tiles(16, 16, 2, 4, 2, "tf32x3")
    cuts = zip(SHAPES, (None, many, None), strict=True)
    for (beta, masked), (size, cut) in itertools.product(BETAS, cuts):
        x, W, H, mask = problem(*size, masked=masked)
        assert usable(x, W, H, mask)
        for name in "WH":
            assert_same(sums(name, x, W, H, beta, mask, cut), eager(name, x, W, H, beta, mask))


def check_cuts():
    """However the work is cut: also where the last tile overlaps, and where a share is empty."""
    from nmfnet.kernels.triton_kernels import Tiles, sums

    x, W, H, _ = problem((49, 37), 5, ())
    sizes = [(32, 16, 1), (16, 32, 2), (16, 16, 5), (32, 32, 1), (32, 32, 1)]
    kinds = ["tf32x3", "tf32x3", "tf32x3", "tf32", "ieee"]  # one and the same in the interpreter
    for (rows, columns, splits), precision in zip(sizes, kinds, strict=True):
        cut = Tiles(rows, columns, splits, 4, 1, precision)
        for name in "WH":
            assert_same(sums(name, x, W, H, 1.0, None, cut), eager(name, x, W, H, 1.0))


def check_layouts():
    """Transposed X, transposed factors, rows of a larger X, one W for several H."""
    from nmfnet.kernels.triton_kernels import sums

    x, W, H, mask = problem((36, 24), 3, (2,), masked=True)
    cases = [
        (x.mT, H.mT, W.mT, mask.mT),
        (x[4:], W[:, 4:], H, mask[4:]),
        (x[:, :20], W, H[..., :20], mask[:, :20]),
        (x, W[0], H, mask),
        (x, W, H[1], mask),
    ]
    for x, W, H, mask in cases:
        for name in "WH":
            assert_same(sums(name, x, W, H, 1.0, mask), eager(name, x, W, H, 1.0, mask))


def check_zeros():
    """Rows and columns of zeros, and reconstructions of zero."""
    from nmfnet.kernels.triton_kernels import sums

    x, W, H, _ = problem((20, 18), 3, ())
    x[3], x[:, 5], W[7], H[:, 2] = 0, 0, 0, 0
    for name in "WH":
        assert_same(sums(name, x, W, H, 1.0), eager(name, x, W, H, 1.0))


def check_same_bits():
    """The same twice; and a restart among others is the restart alone."""
    from nmfnet.kernels.triton_kernels import Tiles, sums

    cut = Tiles(16, 16, 3, 4, 2, "tf32x3")
    x, W, H, mask = problem((36, 40), 4, (2,), masked=True)
    for name in "WH":
        first = sums(name, x, W, H, 1.0, mask, cut)
        for one, other in zip(first, sums(name, x, W, H, 1.0, mask, cut), strict=True):
            assert torch.equal(one, other)
        for i in range(2):
            for one, other in zip(first, sums(name, x, W[i], H[i], 1.0, mask, cut), strict=True):
                assert torch.equal(one[i], other)


def check_dispatch():
    """``nmf_sums_*`` use the kernel where it can be used, and only there."""
    from nmfnet.kernels import triton_kernels
    from nmfnet.kernels.multiplicative import kernels_for, nmf_sums_H, nmf_sums_W

    x, W, H, _ = problem((20, 18), 3, ())
    assert kernels_for(x) is triton_kernels
    for name, rule in (("W", nmf_sums_W), ("H", nmf_sums_H)):
        for one, other in zip(
            rule(x, W, H, 1.0), triton_kernels.sums(name, x, W, H, 1.0), strict=True
        ):
            assert torch.equal(one, other)
    assert not triton_kernels.usable(x.double(), W.double(), H.double(), None)
    assert not triton_kernels.usable(x[:, ::2], W, H[:, ::2], None)
    for shape, k in (((1, 1), 1), ((15, 40), 2), ((20, 18), 129)):
        x, W, H, _ = problem(shape, k, ())
        assert not triton_kernels.usable(x, W, H, None)
        for name, rule in (("W", nmf_sums_W), ("H", nmf_sums_H)):
            assert_same(rule(x, W, H, 1.0), eager(name, x, W, H, 1.0))
    x, W, H, _ = problem((20, 18), 3, ())
    neg, _ = nmf_sums_W(x, W, H.requires_grad_(), 1.5)  # in a network that needs its slope
    neg.sum().backward()
    assert H.grad is not None


def check_training():
    """Updates by the kernel lead where updates by the eager rules lead."""
    from nmfnet.kernels.multiplicative import apply_update_, nmf_sums_H, nmf_sums_W

    x, W, H, _ = problem((24, 18), 3, (2,))
    exact = [v.double() for v in (x, W, H)]
    for _ in range(4):
        apply_update_(W, *nmf_sums_W(x, W, H, 1.0), 1.0)
        apply_update_(H, *nmf_sums_H(x, W, H, 1.0), 1.0)
        apply_update_(exact[1], *nmf_sums_W(*exact, 1.0), 1.0)
        apply_update_(exact[2], *nmf_sums_H(*exact, 1.0), 1.0)
    assert_same((W, H), exact[1:])


def check_compiles(capability):
    """Through Triton's own launcher up to the point where it would load the program."""
    import triton
    from triton.backends.compiler import GPUTarget

    from nmfnet.kernels import triton_kernels
    from nmfnet.kernels.compiled.triton_sums import multiplicative_sums

    class Launch:
        """Stands for the kernel, and compiles instead of running."""

        def __getitem__(self, grid):
            return lambda *args, **options: made.append(
                multiplicative_sums.warmup(*args, grid=grid, **options)
            )

    made = []
    target = GPUTarget("cuda", capability, 32)
    triton.runtime.driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: target,
            get_current_device=lambda: capability,
            get_current_stream=lambda device: 0,
        )
    )
    triton_kernels.multiplicative_sums = Launch()
    cases = [((2000, 500), 32, (), 1.0, False), ((17, 33), 1, (), 1.0, False)]
    cases += [((501, 130), 33, (3,), 0.0, True), ((640, 128), 128, (), 1.5, True)]
    for shape, k, lead, beta, masked in cases:
        x, W, H, mask = problem(shape, k, lead, masked=masked)
        for name in "WH":
            triton_kernels.sums(name, x, W, H, beta, mask)
            assert "mma" in made[-1].asm["ptx"]  # tensor cores
            assert made[-1].metadata.shared <= 99 * 1024  # what any GPU with them has
    assert "cp.async.cg" in made[0].asm["ptx"]  # X comes in 16 bytes at a time


if __name__ == "__main__":
    if sys.argv[1] == "interpreted":
        for check in (
            *(check_sums, check_cuts, check_layouts, check_zeros, check_same_bits),
            *(check_dispatch, check_training),
        ):
            check()
    else:
        for capability in (80, 90):
            check_compiles(capability)
    print("passed")
