"""What models of a graph share."""

from __future__ import annotations

from nmfnet.kernels.graph import at_pairs
from nmfnet.metrics.links import link_metrics
from nmfnet.types import Batch, Float, Tensor


def link_scores(code: Float[Tensor, "n k"], batch: Batch) -> dict[str, float]:
    """AUC and average precision of held-out links by ``code_i · code_j``; nothing without any.

    ``link/auc`` and ``link/ap`` are of the test part, ``link/val_auc`` and ``link/val_ap`` of the other.
    """
    found: dict[str, float] = {}
    for part, before in (("val", "val_"), ("test", "")):
        if f"{part} links" in batch.context:
            linked, others = (
                at_pairs(code, batch.context[f"{part} {word}"]).cpu().numpy()
                for word in ("links", "others")
            )
            scores = link_metrics(linked, others)
            found |= {f"link/{before}{name}": value for name, value in scores.items()}
    return found
