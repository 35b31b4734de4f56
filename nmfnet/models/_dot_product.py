"""The dot product that stands beside a network in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from nmfnet.core.losses import Frobenius
from nmfnet.core.model import Factorization, Parts
from nmfnet.kernels.csr import entries_at
from nmfnet.kernels.rows import dense, row_blocks, take_rows
from nmfnet.kernels.sparse import transpose_of
from nmfnet.models.biased_mf import BiasedMF
from nmfnet.models.implicit_mf import ImplicitMF
from nmfnet.solvers.weighted_als import sweep
from nmfnet.types import Batch, Float, Tensor

SWEEPS = 15
"""Of alternating least squares, for every candidate."""

SHARE = 0.1
"""Of the listed entries, on which the options are chosen."""

PLACES = 10
"""First places of a row that the choice is made by, where X says what was chosen."""

RATINGS = tuple({"l2": l2} for l2 in (0.05, 0.1, 0.15, 0.2))
CHOICES = ({"l2": 1.0, "alpha": 1.0}, {"l2": 5.0, "alpha": 3.0}, {"l2": 10.0, "alpha": 10.0})
"""The candidates."""

Options = Mapping[str, Any]


def tuned_dot_product(
    parts: Parts, batch: Batch, n_components: int, choices: bool
) -> Factorization:
    """``biased_mf``, or of choices ``implicit_mf``, with options chosen on a tenth of the entries.

    The batch is sparse; of ratings with a mask. A function of these data alone, whatever the seed.

    Source: Rendle, Krichene, Zhang & Anderson 2020, "Neural collaborative filtering vs. matrix
    factorization revisited" (a network is to be compared with a dot product that was tuned as well).
    """
    drawn = torch.rand(batch.x.values().shape, generator=torch.Generator().manual_seed(0))
    out = (drawn < SHARE).to(batch.x.device)
    inner, wanted = (_entries(batch, kept) for kept in (~out, out))

    def made(options: Options, rows: Batch) -> Factorization:
        own = parts._replace(
            loss=Frobenius(), generators=(torch.Generator().manual_seed(0),), penalties=(),
            constraints={}, given={}, frozen=(),
        )  # fmt: skip
        build: Callable[..., Factorization] = ImplicitMF if choices else BiasedMF
        model = build(own, n_components=n_components, **options).to(rows.x.device, rows.x.dtype)
        model.transpose = transpose_of(rows.x)
        model.start({}, rows)
        with torch.no_grad(), model.restarts(0):
            for _ in range(SWEEPS):
                sweep(model, rows)
        return model

    candidates: Sequence[Options] = CHOICES if choices else RATINGS
    chosen = candidates[0]
    if out.any() and not out.all():
        missed = [_missed(made(one, inner), inner, wanted, choices) for one in candidates]
        chosen = candidates[missed.index(min(missed))]
    return made(chosen, batch)


def _entries(batch: Batch, kept: torch.Tensor) -> Batch:
    mask = None if batch.mask is None else entries_at(batch.mask, kept)
    return batch._replace(x=entries_at(batch.x, kept), mask=mask)


@torch.no_grad()
def _missed(model: Factorization, known: Batch, wanted: Batch, choices: bool) -> float:
    """Squared error at the wanted entries; of choices how much of the NDCG of ten is missing."""
    with model.restarts(0):
        code = model.encode(known)
        if choices:
            return 1 - _ndcg(model, code, known.x, wanted.x)
        assert wanted.mask is not None
        wrong = wanted.x.values() - model.decode_at(code, wanted)
        return float((wanted.mask.values() * wrong.square()).sum())


def _ndcg(
    model: Factorization, code: Tensor, known: Float[Tensor, "n f"], wanted: Float[Tensor, "n f"]
) -> float:
    """Mean NDCG of the first places, over the rows that want anything; known features are left out."""
    places = min(PLACES, wanted.shape[1])
    discount = 1 / torch.arange(2, places + 2, dtype=torch.float64, device=code.device).log2()
    found = []
    for rows in row_blocks(wanted):
        seen, hits = (dense(take_rows(x, rows)) > 0 for x in (known, wanted))
        first = model.decode(code[rows]).masked_fill(seen, -torch.inf).topk(places).indices
        gain = hits.gather(1, first).double() @ discount
        most = discount.cumsum(0)[hits.sum(1).clamp(1, places) - 1]
        found.append((gain / most)[hits.any(1)])
    return float(torch.cat(found).mean())
