"""The suggested rank: one rule, and the reason in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nmfnet.selection.options import Selection

__all__ = ["Suggestion", "suggest"]


class Suggestion(NamedTuple):
    """The suggested rank, the rule that gave it, the reason, and the ranks that were stable."""

    n_components: int
    rule: str
    reason: str
    stable: list[int]


def suggest(rows: Sequence[Mapping[str, float]], options: Selection, unit: str) -> Suggestion:
    """The stable rank that predicts best what was held out, or the smallest that is as good.

    Parameters
    ----------
    rows : sequence of mappings
        ``n_components``, ``silhouette_mean``, ``silhouette_min``; ``worse`` and ``worse_se`` where
        something was held out (see ``measures.table``).
    options : Selection
        Thresholds.
    unit : str
        What the held-out loss is, in words.

    Returns
    -------
    Suggestion
        Without a stable rank the one with the largest mean silhouette; without held-out data the
        largest stable one.
    """
    stable = [row for row in rows if is_stable(row, options)]
    names = [int(row["n_components"]) for row in stable]
    needs = (
        f"stable means mean silhouette >= {options.min_silhouette_mean:g} and smallest >= "
        f"{options.min_silhouette_min:g}"
    )
    if not stable:
        best = max(rows, key=lambda row: (row["silhouette_mean"], row["silhouette_min"]))
        rule = f"no rank is stable ({needs}): the largest mean silhouette"
        return Suggestion(int(best["n_components"]), rule, _none_stable(best), [])
    if "worse" not in rows[0]:
        rule = f"the largest stable rank ({needs})"
        text = f"rank {names[-1]} is the largest of the stable ranks ({_list(names)})"
        text += _at_an_end(names[-1], rows)
        return Suggestion(names[-1], rule, text, names)
    rule = (
        f"of the stable ranks ({needs}), the smallest whose {unit} is within one standard error "
        "(paired over samples) of the best stable one"
    )
    best = min(stable, key=lambda row: row["worse"])
    chosen = next(row for row in stable if within(row, best))
    return Suggestion(
        int(chosen["n_components"]), rule, _reason(rows, names, chosen, best, unit), names
    )


def is_stable(row: Mapping[str, float], options: Selection) -> bool:
    """Whether the clusters of replicates hold together."""
    mean, least = row["silhouette_mean"], row["silhouette_min"]
    return mean >= options.min_silhouette_mean and least >= options.min_silhouette_min


def within(row: Mapping[str, float], best: Mapping[str, float]) -> bool:
    """Whether a rank predicts as well as the best one, up to one standard error."""
    return row is best or row["worse"] <= row["worse_se"]


def _none_stable(best: Mapping[str, float]) -> str:
    return (
        f"rank {best['n_components']:.0f} is the least unstable (mean silhouette "
        f"{best['silhouette_mean']:.2f}, smallest {best['silhouette_min']:.2f}); treat its "
        "components with caution, and look at the curves before using any rank"
    )


def _reason(
    rows: Sequence[Mapping[str, float]],
    stable: list[int],
    chosen: Mapping[str, float],
    best: Mapping[str, float],
    unit: str,
) -> str:
    k = int(chosen["n_components"])
    text = f"stable: {_list(stable)}; "
    if chosen is best:
        text += f"of these rank {k} has the lowest {unit}"
    else:
        text += (
            f"rank {best['n_components']:.0f} has the lowest {unit} of these, and rank {k} is "
            f"within one standard error of it (worse by {chosen['worse']:.4g}, standard error "
            f"{chosen['worse_se']:.4g})"
        )
    smaller = [row for row in rows if row["n_components"] < k]
    if smaller:
        row = smaller[-1]
        text += (
            f"; rank {row['n_components']:.0f} is worse by {row['worse'] - chosen['worse']:.4g} "
            f"(standard error {row['worse_se']:.4g})"
        )
    larger = [r for r in rows if r["n_components"] > k and int(r["n_components"]) not in stable]
    if larger:
        row = min(larger, key=lambda r: r["n_components"])
        text += (
            f"; rank {row['n_components']:.0f} is not stable (mean silhouette "
            f"{row['silhouette_mean']:.2f}, smallest {row['silhouette_min']:.2f})"
        )
    return text + _at_an_end(k, rows)


def _at_an_end(k: int, rows: Sequence[Mapping[str, float]]) -> str:
    ends = (rows[0]["n_components"], rows[-1]["n_components"])
    if len(rows) < 2 or k not in ends or k == 1:  # below 1 there is none
        return ""
    return "; it is at the end of the range that was tried: widen ranks to be sure"


def _list(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))
