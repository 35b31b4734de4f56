"""Rows of X and W spread over processes; only sums of the size of H travel.

Every process holds a block of rows and its own copy of the shared factors. The two sums of a
multiplicative update (and the gradient of a shared factor) add up over blocks, so summing them over
processes gives each the update that one process with all rows would make.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy

from nmfnet.errors import UserError
from nmfnet.types import Tensor


@final
class RowSharded(DDPStrategy):
    """Lightning's processes and process group without its module wrapper.

    The wrapper would insist on equal parameters everywhere, and per-sample factors are not.
    """

    def configure_ddp(self) -> None:
        """Leave the model as it is: it sums what must be summed by itself."""


@final
@dataclass(frozen=True)
class World:
    """The processes of a run: which one this is, and which rows are its own.

    Attributes
    ----------
    rank, size : int
    n_total : int
        Rows of all processes together.
    """

    rank: int = 0
    size: int = 1
    n_total: int = 0

    @classmethod
    def of(cls, trainer: Mapping[str, Any], n_total: int) -> World:
        """The world that the options of the trainer ask for (``trainer=ddp trainer.devices=2``)."""
        strategy = trainer.get("strategy")
        if not (isinstance(strategy, dict) and strategy["_target_"].endswith("RowSharded")):
            return cls()
        devices = trainer["devices"]
        if not isinstance(devices, int) or devices < 1:
            raise UserError(f"trainer.devices={devices}: give the number of processes")
        size = devices * trainer.get("num_nodes", 1)
        rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
        return cls(rank, size, n_total)

    def rows(self) -> slice:
        """This process's block: consecutive rows, sizes differing by at most one."""
        base, extra = divmod(self.n_total, self.size)
        start = self.rank * base + min(self.rank, extra)
        return slice(start, start + base + (self.rank < extra))

    def total(self, value: Tensor) -> Tensor:
        """Sum over processes (in a new tensor); the value itself in a world of one."""
        if self.size == 1:
            return value
        summed = value.detach().clone()
        dist.all_reduce(summed)
        return summed

    def joined(self, rows: Tensor) -> Tensor:
        """The blocks of all processes, (*r, n_total, k), on every process."""
        if self.size == 1:
            return rows
        blocks: list[Tensor] = [torch.empty(0)] * self.size
        dist.all_gather_object(blocks, rows.cpu())
        return torch.cat(blocks, -2).to(rows.device)
