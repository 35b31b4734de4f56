"""Signatures, activities and probabilities of mutations, in the layout that SigProfiler reads."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nmfnet.data.sources.channels import CHANNELS, recognise_channels

__all__ = ["whole_mutations", "write_activities", "write_probabilities", "write_signatures"]


def write_signatures(
    file: Path, H: np.ndarray, feature_names: Sequence[str], names: Sequence[str]
) -> None:
    """A row per mutation type, in SigProfiler's order, and a column per signature.

    Parameters
    ----------
    file : Path
    H : array, shape (n_components, n_features)
        Signatures; rows sum to 1.
    feature_names : sequence of str
        All channels of one system, in any order.
    names : sequence of str
        Of the signatures.
    """
    order, channels = _order(feature_names)
    rows = ([channel, *map(_digits, H[:, i])] for i, channel in zip(order, channels, strict=True))
    _write(file, ["MutationType", *names], rows)


def whole_mutations(W: np.ndarray) -> np.ndarray:
    """Activities as whole mutations, of which every sample keeps its number.

    All are rounded down, and what a row then lacks of its rounded sum goes to its largest remainders.

    Parameters
    ----------
    W : array, shape (n_samples, n_components), >= 0
    """
    W = np.asarray(W, np.float64)
    whole = np.floor(W)
    lacks = np.rint(W.sum(axis=1)) - whole.sum(axis=1)
    places = np.argsort(np.argsort(whole - W, axis=1, kind="stable"), axis=1)
    return whole + (places < lacks[:, None])


def write_activities(
    file: Path, W: np.ndarray, sample_names: Sequence[str], names: Sequence[str]
) -> None:
    """A row per sample and a column per signature, in mutations: shape (n_samples, n_components)."""
    rows = ([sample, *map(_digits, row)] for sample, row in zip(sample_names, W, strict=True))
    _write(file, ["Samples", *names], rows)


def write_probabilities(
    file: Path,
    W: np.ndarray,
    H: np.ndarray,
    sample_names: Sequence[str],
    feature_names: Sequence[str],
    names: Sequence[str],
) -> None:
    """How probable it is that a mutation of a type in a sample was made by each signature.

    ``W[s, k] H[k, c] / sum_j W[s, j] H[j, c]``: a row per sample and mutation type, of sum 1; 0
    where the signatures expect no such mutation in the sample.

    Parameters
    ----------
    W : array, shape (n_samples, n_components)
    H : array, shape (n_components, n_features)
        Both >= 0.
    """
    order, channels = _order(feature_names)
    H = np.asarray(H, np.float64)[:, order]

    def rows() -> Iterable[list[str]]:
        for sample, weights in zip(sample_names, np.asarray(W, np.float64), strict=True):
            parts = weights[:, None] * H
            total = parts.sum(axis=0)
            shares = np.divide(parts, total, out=np.zeros_like(parts), where=total > 0)
            for channel, row in zip(channels, shares.T.tolist(), strict=True):
                yield [sample, channel, *(f"{value:.4g}" for value in row)]

    _write(file, ["Sample Names", "MutationType", *names], rows())


def _order(feature_names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Where SigProfiler's channels are among these, and what it calls them."""
    known = recognise_channels(feature_names)
    assert known is not None, "these are no mutation channels"
    system, channels = known
    place = {channel: i for i, channel in enumerate(channels)}
    order = sorted(CHANNELS[system]) if system.startswith("SBS") else list(CHANNELS[system])
    return [place[channel] for channel in order], order


def _digits(value: Any) -> str:
    return f"{value:.9g}"


def _write(file: Path, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
