"""Channels of mutation catalogues: canonical labels and order, and reading of common notations.

Canonical label ``A[C>A]A``; canonical order is substitution-major: C>A, C>G, C>T, T>A, T>C, T>G,
and within each the 5' base, then the 3' base, both A, C, G, T.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

__all__ = [
    "CHANNELS",
    "DBS78",
    "ID83",
    "SBS96",
    "SBS192",
    "SBS288",
    "SBS384",
    "SBS1536",
    "SUBSTITUTIONS",
    "component_names",
    "parse_channel",
    "recognise_channels",
    "recognise_sbs96",
]

SUBSTITUTIONS: tuple[str, ...] = ("C>A", "C>G", "C>T", "T>A", "T>C", "T>G")

SBS96: tuple[str, ...] = tuple(
    f"{five}[{substitution}]{three}"
    for substitution in SUBSTITUTIONS
    for five in "ACGT"
    for three in "ACGT"
)
"""The 96 labels in canonical order."""

_KNOWN = frozenset(SBS96)
_BASE = "[ACGT]"
_SEP = r"[\s:;,._|/-]*"
_NOTATIONS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?P<l>{_BASE})\[(?P<f>[CT])>(?P<t>{_BASE})\](?P<r>{_BASE})",  # A[C>A]A
        rf"(?P<f>[CT])>(?P<t>{_BASE}){_SEP}(?P<l>{_BASE})(?P=f)(?P<r>{_BASE})",  # C>A:ACA
        rf"(?P<f>[CT])>(?P<t>{_BASE})@(?P<l>{_BASE})_(?P<r>{_BASE})",  # C>A@A_A
        rf"(?P<l>{_BASE})(?P<f>[CT])(?P<r>{_BASE}){_SEP}(?P=f)>(?P<t>{_BASE})",  # ACA:C>A
        rf"(?P<f>[CT])>?(?P<t>{_BASE})[\s:_.-](?P<l>{_BASE})\.(?P<r>{_BASE})",  # C>A A.A, CA_A.A
        rf"(?P<l>{_BASE})(?P<f>[CT])(?P<r>{_BASE})>(?P=l)?(?P<t>{_BASE})(?P=r)?",  # ACA>A, ACA>AAA
        rf"(?P<l>{_BASE})(?P<f>[CT])(?P<r>{_BASE})(?P<t>{_BASE})",  # ACAA
    )
)


@lru_cache(maxsize=4096)
def parse_channel(label: str) -> str | None:
    """Canonical label of one channel, or None when the text is not an SBS channel.

    Understands ``A[C>A]A``, ``C>A:ACA`` and ``ACA:C>A`` (any separator or none), ``C>A@A_A``,
    ``C>A A.A``, ``ACA>A``, ``ACA>AAA`` and ``ACAA``; case does not matter.
    """
    text = label.strip().strip("\"'").upper()
    for notation in _NOTATIONS:
        match = notation.fullmatch(text)
        if match:
            channel = "{l}[{f}>{t}]{r}".format(**match.groupdict())
            return channel if channel in _KNOWN else None
    return None


def recognise_sbs96(labels: Sequence[str]) -> list[str] | None:
    """Canonical labels, in the given order, of the 96 channels each once; None for all else."""
    if len(labels) != len(SBS96):
        return None
    channels = [parse_channel(label) for label in labels]
    found = [channel for channel in channels if channel is not None]
    return found if len(set(found)) == len(SBS96) else None


# ---------------------------------------------------------------------- other channel systems
_DOUBLETS = {
    "AC": "CA CG CT GA GG GT TA TG TT",
    "AT": "CA CC CG GA GC TA",
    "CC": "AA AG AT GA GG GT TA TG TT",
    "CG": "AT GC GT TA TC TT",
    "CT": "AA AC AG GA GC GG TA TC TG",
    "GC": "AA AG AT CA CG TA",
    "TA": "AT CG CT GC GG GT",
    "TC": "AA AG AT CA CG CT GA GG GT",
    "TG": "AA AC AT CA CC CT GA GC GT",
    "TT": "AA AC AG CA CC CG GA GC GG",
}

DBS78: tuple[str, ...] = tuple(
    f"{before}>{after}" for before, afters in _DOUBLETS.items() for after in afters.split()
)
"""Doublet substitutions, ``AC>CA``."""

ID83: tuple[str, ...] = (
    *(f"1:{kind}:{base}:{n}" for kind in ("Del", "Ins") for base in "CT" for n in range(6)),
    *(f"{size}:{kind}:R:{n}" for kind in ("Del", "Ins") for size in range(2, 6) for n in range(6)),
    *(f"{size}:Del:M:{n}" for size in range(2, 6) for n in range(1, size if size < 5 else 6)),
)
"""Small insertions and deletions, ``1:Del:C:0``: size, kind, what, repeats or overlap."""

SBS192, SBS288, SBS384 = (
    tuple(f"{strand}:{channel}" for strand in strands for channel in SBS96)
    for strands in ("TU", "TUN", "TUNB")
)
"""The 96 by strand, ``T:A[C>A]A``: transcribed, untranscribed, outside of genes, in genes of both."""

SBS1536: tuple[str, ...] = tuple(
    f"{far}{channel}{end}" for channel in SBS96 for far in "ACGT" for end in "ACGT"
)
"""The 96 with two bases on either side, ``AA[C>A]AA``."""

CHANNELS: dict[str, tuple[str, ...]] = {
    "SBS96": SBS96,
    "DBS78": DBS78,
    "ID83": ID83,
    "SBS192": SBS192,
    "SBS288": SBS288,
    "SBS384": SBS384,
    "SBS1536": SBS1536,
}
"""Channel systems by the name that the field gives them, each in canonical order."""

_DOUBLET = re.compile(r"([ACGT]{2})[\s:;,._|/>-]+([ACGT]{2})")
_INDEL = re.compile(
    r"(DEL|INS)[\W_]*(C|T|REPEATS|MH)[\W_]*([1-5])\+?[\W_]*([0-5])\+?"  # DEL_C_1_5+
    r"|([1-5])\+?:(DEL|INS):([CTRM]):([0-5])\+?"  # 1:Del:C:5
)


def recognise_channels(labels: Sequence[str]) -> tuple[str, list[str]] | None:
    """The channel system of a complete set of labels, and its canonical labels in the given order.

    Returns
    -------
    (name, labels) or None
        Name is a key of ``CHANNELS``; None unless every channel is there once and nothing else.
    """
    for name, known in CHANNELS.items():
        if len(labels) != len(known) or _canonical(name, labels[0]) not in known:
            continue
        found = [_canonical(name, label) for label in labels]
        if set(found) == set(known):
            return name, [label for label in found if label is not None]
    return None


def component_names(feature_names: Sequence[str], count: int) -> list[str]:
    """``SBS96A``, ``SBS96B``, ... for mutation channels, else ``C1``, ``C2``, ..."""
    known = recognise_channels(feature_names)
    if known is None:
        return [f"C{i + 1}" for i in range(count)]
    return [f"{known[0]}{_letters(i)}" for i in range(count)]


def _letters(i: int) -> str:
    """0, 1, ..., 25, 26 as A, B, ..., Z, AA."""
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("A") + i % 26)


def _canonical(system: str, label: str) -> str | None:
    text = label.strip().strip("\"'")
    if system == "SBS96":
        return parse_channel(text)
    if system in ("SBS192", "SBS288", "SBS384", "SBS1536"):
        return text.upper()
    if system == "DBS78":
        doublet = _DOUBLET.fullmatch(text.upper())
        return f"{doublet[1]}>{doublet[2]}" if doublet else None
    indel = _INDEL.fullmatch(text.upper())
    if indel is None:
        return None
    kind, what, size, count = indel.group(1, 2, 3, 4) if indel[1] else indel.group(6, 7, 5, 8)
    what = {"REPEATS": "R", "MH": "M"}.get(what, what)
    return f"{size}:{kind.capitalize()}:{what}:{count}"
