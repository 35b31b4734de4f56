"""What a run uses of the machine: its device and its threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nmfnet.core.model import Factorization
from nmfnet.data.module import MatrixDataModule
from nmfnet.errors import UserError
from nmfnet.run.cores import most_threads

__all__ = ["device_of", "on_threads", "threads"]

SMALL_WORK = 20_000_000
"""Multiplications of an iteration below which one thread is faster than several."""


def device_of(asked: str) -> torch.device:
    """The device that ``device=auto|cpu|cuda`` means here.

    Raises
    ------
    UserError
        If it is cuda and there is none.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch finds no usable GPU: use device=auto or device=cpu")
    gpu = asked != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


@contextmanager
def threads(asked: int | str, datamodule: MatrixDataModule, model: Factorization) -> Iterator[None]:
    """Threads of torch during a run; matrices that fit the cache run faster on one."""
    if asked == "auto":
        asked = 1 if _work(model, datamodule) < SMALL_WORK else most_threads()
    with on_threads(int(asked)):
        yield


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """So many threads of torch for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _work(model: Factorization, datamodule: MatrixDataModule) -> int:
    """Multiplications of one iteration of one restart, up to a small factor."""
    n, f = datamodule.sizes
    shapes = [parameter.shape[1:] for parameter in model.parameters()]
    return sum(shape.numel() * (f if n in shape else n) for shape in shapes)
