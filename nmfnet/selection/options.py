"""What a rank selection does: its options, and the ranks in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nmfnet.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from nmfnet.data.matrix import Matrix
    from nmfnet.metrics import DenseClusters, RestartClusters
    from nmfnet.selection.outcome import Selected
    from nmfnet.selection.programs import Programs

__all__ = ["Selection", "parse_ranks"]

Resample = Literal["auto", "poisson", "multinomial", "uniform", "none"]
HeldOut = Literal["auto", "thinning", "entries", "both", "none"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Options of ``ranks=...``: how often every rank is fitted, to what, and what makes it good.

    Parameters
    ----------
    replicates : int, >= 2
        Fits of every rank to resampled data; their components are clustered.
    resample : {"auto", "poisson", "multinomial", "uniform", "none"}
        How a replicate differs from the data. ``poisson``: counts drawn with the data as means;
        ``multinomial``: the same, with every sample's total kept; ``uniform``: entries times
        U(1 - noise, 1 + noise); ``none``: another random start only. ``auto``: poisson for counts
        (whole numbers under loss=kl or poisson), else uniform.
    noise : float in (0, 1)
        Of ``uniform``.
    restarts : int, >= 1
        Random starts of every rank on the data as they are: consensus of the samples' clusters.
    held_out : {"auto", "thinning", "entries", "both", "none"}
        What is predicted. ``thinning``: a share of the counts, drawn by a binomial; ``entries``: a
        share of the entries (speckled mask), each no further out than what is known of its feature.
        ``auto``: thinning for counts, else entries.
    folds : int, >= 1
        Draws of the held-out part.
    held_share : float in (0, 1)
        Share of the counts, or of the entries, that is held out.
    min_silhouette_mean, min_silhouette_min : float
        A rank is stable when the mean, and the smallest, silhouette of its clusters are at least
        this.
    ard : int, >= 0
        Starts of automatic relevance determination from the largest rank (of NMF under a beta
        divergence): how many components does each keep? It is reported, and the rule does not use
        it. 0 = not done.
    hypermutators : {"keep", "cap"}
        ``cap``: samples with an outlying total (see ``resampling.cutoff``) enter the fits with their
        counts thinned to the cutoff; their weights are those of all their counts.
    refine : bool
        At the suggested rank, start one more fit to the data from the consensus, and report its
        components (for model=nmf): the mean of fits to noisier replicates is biased.
    channels : bool
        Refuse data whose features are not mutation channels, or whose values are not counts.
    intervals : bool
        Bootstrap intervals of the weights at the suggested rank.
    n_jobs : int, >= 1
        Processes that share the fits.
    """

    replicates: int = 100
    resample: Resample = "auto"
    noise: float = 0.03
    restarts: int = 10
    held_out: HeldOut = "auto"
    folds: int = 5
    held_share: float = 0.2
    min_silhouette_mean: float = 0.8
    min_silhouette_min: float = 0.2
    ard: int = 5
    hypermutators: Literal["keep", "cap"] = "keep"
    refine: bool = True
    channels: bool = False
    intervals: bool = True
    n_jobs: int = 1

    of_no_fit: ClassVar[tuple[str, ...]] = (
        *("replicates", "folds", "n_jobs", "min_silhouette_mean", "min_silhouette_min"),
        *("intervals", "refine", "channels", "held_out", "ard"),
    )
    """Options that change no fit, only how many there are and what is made of them."""

    def __post_init__(self) -> None:
        least = {"replicates": 2, "restarts": 1, "folds": 1, "ard": 0, "n_jobs": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UserError(f"selection.{name}={getattr(self, name)}: it must be >= {low}")
        for name in ("noise", "held_share"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(
                    f"selection.{name}={getattr(self, name)}: it must lie between 0 and 1, both "
                    "excluded"
                )

    def chosen(self, matrix: Matrix) -> tuple[Matrix, list[str]]:
        """What of the data is fitted, and what there is to say of it; by default all, as it is."""
        return matrix, []

    def consensus(
        self, H: np.ndarray, clusters: RestartClusters
    ) -> tuple[RestartClusters | DenseClusters, dict[str, float]]:
        """What replicates agree on, and numbers of it for the table.

        Parameters
        ----------
        H : array, shape (replicates, k, f)
        clusters : RestartClusters
            Of these; the default consensus.
        """
        return clusters, {}

    def extend(self, result: Selected, matrix: Matrix) -> Programs | None:
        """More that is made of the suggested rank and all of the data; by default nothing."""
        return None


def parse_ranks(ranks: int | str | Sequence[Any]) -> list[int]:
    """Ranks as ascending numbers.

    Parameters
    ----------
    ranks : int, str or sequence
        ``4``; ``"2:8"`` (both ends belong to it), ``"2:20:2"`` (every other); ``[2, 3, 5]``; or
        words of these, with commas between them.

    Raises
    ------
    UserError
        For anything else, and for ranks below 1.

    Examples
    --------
    >>> parse_ranks("2:5"), parse_ranks([3, "6:10:2"])
    ([2, 3, 4, 5], [3, 6, 8, 10])
    """
    words = ranks if isinstance(ranks, list | tuple) and ranks else str(ranks).split(",")
    found: set[int] = set()
    for word in words:
        text = str(word).strip()
        match = re.fullmatch(r"(\d{1,6})(?::(\d{1,6})(?::0*([1-9]\d*))?)?", text)
        first, last, step = (int(part) if part else None for part in match.groups()) if match else (
            (None,) * 3
        )  # fmt: skip
        some = range(first, (first if last is None else last) + 1, step or 1) if first else ()
        if not some:
            raise UserError(
                f"ranks={ranks}: {text!r} names no rank: write ranks=2:8 (2 to 8), ranks=2:20:2 "
                "(every other one) or ranks=[2,3,5]"
            )
        found |= set(some)
    return sorted(found)
