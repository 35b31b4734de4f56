"""The 96 channels of single-base substitutions: canonical order, and reading of common notations.

Canonical label ``A[C>A]A``; canonical order is substitution-major: C>A, C>G, C>T, T>A, T>C, T>G,
and within each the 5' base, then the 3' base, both A, C, G, T.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["SBS96", "SUBSTITUTIONS", "parse_channel", "recognise_sbs96"]

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
        rf"(?P<l>{_BASE})(?P<f>[CT])(?P<r>{_BASE}){_SEP}(?P=f)>(?P<t>{_BASE})",  # ACA:C>A
        rf"(?P<f>[CT])>?(?P<t>{_BASE})[\s:_.-](?P<l>{_BASE})\.(?P<r>{_BASE})",  # C>A A.A, CA_A.A
        rf"(?P<l>{_BASE})(?P<f>[CT])(?P<r>{_BASE})>(?P=l)?(?P<t>{_BASE})(?P=r)?",  # ACA>A, ACA>AAA
        rf"(?P<l>{_BASE})(?P<f>[CT])(?P<r>{_BASE})(?P<t>{_BASE})",  # ACAA
    )
)


def parse_channel(label: str) -> str | None:
    """Canonical label of one channel, or None when the text is not an SBS channel.

    Understands ``A[C>A]A``, ``C>A:ACA`` and ``ACA:C>A`` (any separator or none), ``C>A A.A``,
    ``ACA>A``, ``ACA>AAA`` and ``ACAA``; case does not matter.
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
