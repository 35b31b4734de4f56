"""Mutation spectra in the layout of the field: channel orders, colours, headers, rows of bars.

Source: Alexandrov et al. 2020 (channel definitions of SBS96, DBS78 and ID83); colours and order are
those in which COSMIC shows its signatures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nmfnet.errors import UserError
from nmfnet.plots import style


class Group(NamedTuple):
    """Neighbouring channels under one header: their number, its text, colour and text colour."""

    channels: int
    text: str
    colour: str
    ink: str = "black"


class Layout(NamedTuple):
    """How one channel system is drawn: kind, keys in drawing order, tick texts, headers.

    ``above`` holds (number of channels, text) of a second line of headers, where there is one.
    """

    kind: str
    keys: tuple[str, ...]
    ticks: tuple[str, ...]
    groups: tuple[Group, ...]
    above: tuple[tuple[int, str], ...] = ()

    @property
    def colours(self) -> list[str]:
        """Colour of every channel."""
        return [group.colour for group in self.groups for _ in range(group.channels)]


def _sbs96() -> Layout:
    colours = {
        "C>A": ("#03BDEF", "black"),
        "C>G": ("#010101", "white"),
        "C>T": ("#E42926", "white"),
        "T>A": ("#CBCACB", "black"),
        "T>C": ("#A2CF63", "black"),
        "T>G": ("#ECC7C5", "black"),
    }
    contexts = [(left, right) for left in "ACGT" for right in "ACGT"]
    keys = tuple(f"{left}[{change}]{right}" for change in colours for left, right in contexts)
    ticks = tuple(f"{key[0]}{key[2]}{key[-1]}" for key in keys)
    groups = tuple(Group(16, change, *paint) for change, paint in colours.items())
    return Layout("sbs96", keys, ticks, groups)


def _dbs78() -> Layout:
    variants = {
        "AC": ("CA CG CT GA GG GT TA TG TT", "#03BDEF", "black"),
        "AT": ("CA CC CG GA GC TA", "#0366CC", "white"),
        "CC": ("AA AG AT GA GG GT TA TG TT", "#A2CF63", "black"),
        "CG": ("AT GC GT TA TC TT", "#016601", "white"),
        "CT": ("AA AC AG GA GC GG TA TC TG", "#FF9999", "black"),
        "GC": ("AA AG AT CA CG TA", "#E42926", "white"),
        "TA": ("AT CG CT GC GG GT", "#FFB266", "black"),
        "TC": ("AA AG AT CA CG CT GA GG GT", "#FF8001", "black"),
        "TG": ("AA AC AT CA CC CT GA GC GT", "#CC99FF", "black"),
        "TT": ("AA AC AG CA CC CG GA GC GG", "#4C0199", "white"),
    }
    keys = tuple(f"{ref}>{var}" for ref, (text, *_) in variants.items() for var in text.split())
    groups = tuple(
        Group(len(text.split()), f"{ref}>NN", colour, ink)
        for ref, (text, colour, ink) in variants.items()
    )
    return Layout("dbs78", keys, tuple(key[3:] for key in keys), groups)


def _id83() -> Layout:
    single = {"Del": ("#FDBE6F", "#FF8002"), "Ins": ("#B0DD8B", "#36A12E")}
    repeat = {
        "Del": ("#FDCAB5", "#FC8A6A", "#F14432", "#BC191A"),
        "Ins": ("#D0E1F2", "#94C4DF", "#4A98C9", "#1764AB"),
    }
    overlap = ("#E2E2EF", "#B6B6D8", "#8683BD", "#62409B")
    sizes = ("2", "3", "4", "5+")
    blocks = [  # (key before the count, counts, first tick, header, colour)
        (f"1:{change}:{base}", range(6), int(change == "Del"), base, colour)
        for change, shades in single.items()
        for base, colour in zip("CT", shades, strict=True)
    ]
    blocks += [
        (f"{size[0]}:{change}:R", range(6), int(change == "Del"), size, colour)
        for change, shades in repeat.items()
        for size, colour in zip(sizes, shades, strict=True)
    ]
    blocks += [
        (f"{size[0]}:Del:M", range(1, 6 if size == "5+" else int(size)), 0, size, colour)
        for size, colour in zip(sizes, overlap, strict=True)
    ]
    keys, ticks, groups = [], [], []
    for head, counts, shift, text, colour in blocks:
        keys += [f"{head}:{count}" for count in counts]
        ticks += [f"{count + shift}{'+' if count == 5 else ''}" for count in counts]
        dark = sum(int(colour[at : at + 2], 16) for at in (1, 3, 5)) < 380
        groups.append(Group(len(counts), text, colour, "white" if dark else "black"))
    above = (
        (12, "1 bp deletion"),
        (12, "1 bp insertion"),
        (24, "deletion of repeat units (length in bp)"),
        (24, "insertion of repeat units (length in bp)"),
        (11, "microhomology"),
    )
    return Layout("id83", tuple(keys), tuple(ticks), tuple(groups), above)


LAYOUTS = {layout.kind: layout for layout in (_sbs96(), _dbs78(), _id83())}

_TRIPLET = re.compile(r"([CT])>([ACGT])[\W_]*([ACGT])\1([ACGT])")
_DOUBLET = re.compile(r"([ACGT]{2})[\W_]+([ACGT]{2})")
_INDEL = re.compile(
    r"(DEL|INS)[\W_]*(C|T|REPEATS|MH)[\W_]*([1-5])\+?[\W_]*([0-5])\+?", re.IGNORECASE
)


def channel_key(name: str) -> str:
    """Return a channel's canonical label, however spelled (``C>A ACA``, ``DEL_C_1_5+``, ...)."""
    text = name.strip()
    triplet, doublet = _TRIPLET.fullmatch(text), _DOUBLET.fullmatch(text)
    if triplet:
        return f"{triplet[3]}[{triplet[1]}>{triplet[2]}]{triplet[4]}"
    if doublet:
        return f"{doublet[1]}>{doublet[2]}"
    indel = _INDEL.fullmatch(text)
    if indel:
        base = {"REPEATS": "R", "MH": "M"}.get(indel[2].upper(), indel[2].upper())
        return f"{indel[3]}:{indel[1].capitalize()}:{base}:{indel[4]}"
    return text


def find_layout(feature_names: Sequence[str] | None) -> Layout | None:
    """Return the channel system to which all names belong (channels may be missing), or None."""
    if feature_names is None or not 1 < len(feature_names) <= 96:
        return None
    keys = {channel_key(str(name)) for name in feature_names}
    if len(keys) < len(feature_names):
        return None
    return next((layout for layout in LAYOUTS.values() if keys <= set(layout.keys)), None)


def to_layout(
    values: np.ndarray, feature_names: Sequence[str] | None, layout: Layout
) -> np.ndarray:
    """Put columns into drawing order by label; absent channels are zero.

    Raises
    ------
    UserError
        If there are no names, a name is no channel of this system, or one occurs twice.
    """
    if feature_names is None or len(feature_names) != values.shape[1]:
        given = 0 if feature_names is None else len(feature_names)
        raise UserError(
            f"{given} channel names were given for {values.shape[1]} features; "
            f"{layout.kind} pictures need one label for each."
        )
    place = {key: column for column, key in enumerate(layout.keys)}
    columns = []
    for name in feature_names:
        column = place.get(channel_key(str(name)))
        if column is None or column in columns:
            problem = "is not a channel" if column is None else "occurs twice among the channels"
            raise UserError(
                f"'{name}' {problem} of {layout.kind} (labels look like '{layout.keys[0]}'). "
                "Correct the label or draw with kind='generic'."
            )
        columns.append(column)
    ordered = np.zeros((values.shape[0], len(layout.keys)))
    ordered[:, columns] = values
    return ordered


def header(
    figure: Figure, layout: Layout, *, left: float, top: float, width: float, height: float = 0.17
) -> Axes:
    """Draw the coloured strip with the groups' names over the channels."""
    axes = style.panel(figure, left, top, width, height, label="header")
    style.bare(axes)
    ends = np.cumsum([0] + [group.channels for group in layout.groups])
    middle = (ends[:-1] + ends[1:]) / 2 - 0.5
    for start, end, group in zip(ends[:-1], ends[1:], layout.groups, strict=True):
        span, shades = np.array([float(end - start) - 0.3]), [group.colour]
        style.bars(
            axes, span, shades, base=float(start) - 0.35, at=np.array([0.5]), horizontal=True
        )
    room = width / len(layout.keys) / (style.SMALL * 0.0088)  # characters in one channel's width
    for centre, group in zip(middle, layout.groups, strict=True):
        large = group.channels * room > len(group.text) * 1.25
        look: dict[str, Any] = {"colour": group.ink, "ha": "center", "va": "center"}
        size = style.TEXT if large else style.SMALL
        style.write(axes, float(centre), 0.48, group.text, size=size, bold=large, **look)
    axes.set(xlim=(-0.7, len(layout.keys) - 0.3), ylim=(0.1, 0.9))
    start = 0
    for channels, text in layout.above:
        place = (start + channels / 2 - 0.5, 0.95)
        style.write(axes, *place, text, size=style.SMALL, ha="center", va="bottom")
        start += channels
    return axes


def spectrum(axes: Axes, values: np.ndarray, layout: Layout, *, down: bool = False) -> None:
    """Draw one spectrum (already in drawing order) as coloured bars, upwards or downwards."""
    style.bars(axes, -values if down else values, layout.colours, thickness=0.7)
    axes.set_xlim(-0.7, len(layout.keys) - 0.3)
    axes.set_xticks([])


def channel_ticks(axes: Axes, layout: Layout) -> None:
    """Write the channels' labels below a row of bars."""
    axes.set_xticks(range(len(layout.keys)), layout.ticks)
    axes.tick_params(axis="x", labelsize=style.SMALL, labelrotation=90, length=0, pad=3)
    for text in axes.get_xticklabels():
        text.set_fontfamily("monospace")
