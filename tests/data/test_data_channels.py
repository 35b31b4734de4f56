"""Channel labels: order, notations, recognition."""

from __future__ import annotations

import numpy as np
import pytest

from nmfnet.data.sources.channels import (
    SBS96,
    parse_channel,
    recognise_channels,
    recognise_sbs96,
)


def test_canonical_order_is_substitution_major() -> None:
    assert len(set(SBS96)) == 96
    assert SBS96[:5] == ("A[C>A]A", "A[C>A]C", "A[C>A]G", "A[C>A]T", "C[C>A]A")
    assert SBS96[16] == "A[C>G]A"
    assert SBS96[-1] == "T[T>G]T"


NOTATIONS = {
    "A[C>A]A": "{l}[{f}>{t}]{r}",
    "C>A:ACA": "{f}>{t}:{l}{f}{r}",
    "C>A,ACA": "{f}>{t},{l}{f}{r}",
    "C>A ACA": "{f}>{t} {l}{f}{r}",
    "C>A@A_A": "{f}>{t}@{l}_{r}",
    "ACA_C>A": "{l}{f}{r}_{f}>{t}",
    "ACA>A": "{l}{f}{r}>{t}",
    "ACA>AAA": "{l}{f}{r}>{l}{t}{r}",
    "ACAA": "{l}{f}{r}{t}",
    "C>A A.A": "{f}>{t} {l}.{r}",
    "CA_A.A": "{f}{t}_{l}.{r}",
}


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=NOTATIONS)
def test_every_notation_reads_all_channels(notation: str) -> None:
    labels = [notation.format(l=c[0], f=c[2], t=c[4], r=c[6]) for c in SBS96]
    assert [parse_channel(label) for label in labels] == list(SBS96)
    order = np.random.default_rng(0).permutation(96)
    shuffled = [labels[i].lower() for i in order]
    assert recognise_sbs96(shuffled) == [SBS96[i] for i in order]


@pytest.mark.parametrize(
    "label", ["", "TP53", "A[A>C]A", "A[C>C]A", "C>A:AGA", "N[C>A]A", "ACA>CC"]
)
def test_other_text_is_no_channel(label: str) -> None:
    assert parse_channel(label) is None


def test_incomplete_or_repeated_channels_are_not_recognised() -> None:
    assert recognise_sbs96(SBS96[:95]) is None
    assert recognise_sbs96([*SBS96[:95], SBS96[0]]) is None
    assert recognise_sbs96([*SBS96[:95], "other"]) is None


@pytest.mark.parametrize(("system", "strands"), [("192", "UT"), ("288", "NTU"), ("384", "BUNT")])
def test_channels_by_strand(system: str, strands: str) -> None:
    labels = [f"{strand}:{channel}" for strand in strands for channel in SBS96]
    assert recognise_channels(labels) == (f"SBS{system}", labels)
    assert recognise_channels(labels[:-1]) is None
