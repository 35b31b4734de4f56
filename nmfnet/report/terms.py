"""Who may be compared with whom.

Runs are on equal terms when data, split, loss, stopping rule, number of restarts and precision are
the same, and the model where its likelihood is its own. Where links or words of documents are held out,
the loss may differ: all are judged by these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

from nmfnet.core.budget import Budget
from nmfnet.report.collect import Run, settings, varied
from nmfnet.run.measures import ANY_LOSS, compared_as, main_measure

__all__ = [
    "Group",
    "differences",
    "groups_of",
    "in_words",
    "refusals",
    "size_of",
    "terms",
    "unequal",
]

RULE = ("n_restarts", "dtype", *(field.name for field in fields(Budget)))
"""Root keys that must agree: restarts, precision, the stopping rule."""

_HELD_OUT = {
    "none": "nothing held out",
    "rows": "rows held out",
    "completion": "documents completed",
    "entries": "entries held out",
    "links": "links held out",
    "predefined": "published test rows held out",
}


def terms(run: Run) -> dict[str, Any]:
    """Everything that must agree before two runs may be compared, flat."""
    flat = settings(run)
    same = {key: flat.get(key) for key in ("data", "loss", "split")}
    same |= {
        key: value for key, value in flat.items() if key.startswith(("data.", "loss.", "split."))
    }
    loss = compared_as(str(same["loss"]), run.choices.get("model", "?"), run.metrics)
    if loss == ANY_LOSS:
        same = {key: value for key, value in same.items() if not key.startswith("loss.")}
    same["loss"] = loss
    same["data_sha256"] = run.origin.get("data_sha256")
    return same | {key: run.config.get(key) for key in RULE}


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys with different values in two mappings, and the two values (None where absent)."""
    keys = [*a, *(key for key in b if key not in a)]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Terms that differ; options of a group (``split.test_fraction``) only beside equal choices."""
    gap = differences(a, b)
    return {k: v for k, v in gap.items() if k == k.split(".")[0] or k.split(".")[0] not in gap}


def in_words(gap: Mapping[str, tuple[Any, Any]]) -> str:
    """Differences as text: ``max_iter: 300 / 2000; loss: kl / frobenius``."""
    return "; ".join(f"{key}: {_shorter(x)} / {_shorter(y)}" for key, (x, y) in gap.items())


# ---------------------------------------------------------------------- groups on equal terms
@dataclass
class Group:
    """Finished runs on equal terms.

    Attributes
    ----------
    name : str
        Data, loss, split, and whatever else tells this group from the others.
    terms : dict
        See :func:`terms`.
    runs : list of Run
    methods : list of str, one for each run
        Model, with those settings that vary between runs of that model.
    """

    name: str
    terms: dict[str, Any]
    runs: list[Run]
    methods: list[str]

    @property
    def key(self) -> str:
        """Short name that depends on the terms only."""
        text = json.dumps(self.terms, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def main(self) -> str:
        """Key of the number by which the runs are ranked."""
        return main_measure(str(self.terms["loss"]), (run.metrics for run in self.runs))

    def by_method(self) -> dict[str, list[Run]]:
        """Runs of each method, methods by name (``nmf`` first)."""
        order = sorted(set(self.methods), key=lambda name: (name.split(" ")[0] != "nmf", name))
        return {
            name: [run for run, own in zip(self.runs, self.methods, strict=True) if own == name]
            for name in order
        }


def groups_of(every: Iterable[Run]) -> list[Group]:
    """Finished runs in groups on equal terms, the largest group first."""
    together: dict[str, list[Run]] = {}
    for run in every:
        if run.status == "done":
            together.setdefault(json.dumps(terms(run), sort_keys=True, default=str), []).append(run)
    found = [
        Group("", terms(members[0]), members, _methods(members)) for members in together.values()
    ]
    found.sort(key=lambda group: -len(group.runs))
    telling = _telling(found)
    for group in found:
        group.name = _name(group, telling)
    return found


def _telling(groups: Sequence[Group]) -> list[str]:
    """Terms that tell apart groups on the same data; an option only beside the same choice."""
    keys: dict[str, None] = {}
    for a, b in combinations(groups, 2):
        if a.terms["data"] == b.terms["data"]:
            keys |= dict.fromkeys(unequal(a.terms, b.terms))
    return list(keys)


def _methods(members: list[Run]) -> list[str]:
    """Name of each run's method: its model, and what varies between the runs of that model."""
    flats = {id(run): settings(run) for run in members}
    models = dict.fromkeys(run.choices.get("model", "?") for run in members)
    own: dict[str, list[str]] = {}
    for model in models:
        keys = varied([run for run in members if run.choices.get("model", "?") == model])
        own[model] = [key for key in keys if key not in ("seed", "model.n_components")]
    names = []
    for run in members:
        model, flat = run.choices.get("model", "?"), flats[id(run)]
        names.append(" ".join([model, *(f"{key}={_shown(flat.get(key))}" for key in own[model])]))
    return names


def _name(group: Group, telling: Sequence[str]) -> str:
    known = group.terms
    split = str(known["split"])
    words = [str(known["data"]), str(known["loss"])]
    words.append(_HELD_OUT.get(split, f"split {split}"))
    for key in telling:
        if key in known and key not in ("data", "loss", "split", "data_sha256"):
            words.append(f"{key}={_shown(known[key])}")
    if "data_sha256" in telling and not any(key.startswith("data.") for key in telling):
        words.append(f"data {str(known['data_sha256'])[:8]}")
    return " · ".join(words)


def _shown(value: Any) -> str:
    from nmfnet.settings.hints import shown

    return shown(value)


def size_of(run: Run) -> int | None:
    """Number of components asked for."""
    size = (run.config.get("model") or {}).get("n_components")
    return size if isinstance(size, int) else None


# ---------------------------------------------------------------------- what is not compared
def refusals(groups: Sequence[Group], most: int = 20) -> list[str]:
    """Groups on the same data that may not be compared, and what differs between them."""
    found = []
    for a, b in combinations(groups, 2):
        if a.terms["data"] != b.terms["data"]:
            continue
        found.append(f"{a.name}  ≠  {b.name} — {in_words(unequal(a.terms, b.terms))}")
    rest = len(found) - most
    return found[:most] + ([f"and {rest} more"] if rest > 0 else [])


def _shorter(value: Any) -> str:
    text = _shown(value)
    return text if len(text) <= 24 else f"{text[:10]}…"
