"""Genes of single cells: which of them vary, and how programmes use all of them."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError

__all__ = ["GENE_RULES", "GeneRule", "gene_scores", "gene_variability", "moments", "per_cell"]

FloatArray = npt.NDArray[np.float64]
GeneRule = Literal["fano", "seurat"]
GENE_RULES: tuple[str, ...] = get_args(GeneRule)

LARGEST, QUANTILES, BINS = 20, (0.1, 0.9), 20


def per_cell(counts: Any, total: float = 1e6) -> Any:
    """Counts of every cell as if it had ``total`` in all: ``total X[n, f] / sum_f X[n, f]``.

    Parameters
    ----------
    counts : ndarray or csr_matrix, shape (n, f)
        >= 0.
    total : float, > 0
        1e6 = transcripts per million (TPM).

    Returns
    -------
    ndarray or csr_matrix, shape (n, f)
        A cell without counts stays one of zeros.
    """
    sums = np.asarray(counts.sum(axis=1), np.float64).reshape(-1, 1)
    factor = np.divide(total, sums, out=np.zeros_like(sums), where=sums > 0)
    return counts.multiply(factor).tocsr() if hasattr(counts, "tocsr") else counts * factor


def moments(x: Any) -> tuple[FloatArray, FloatArray]:
    """Mean and variance (divisor n) of every column of an array or csr_matrix, each shape (f,)."""
    if not hasattr(x, "tocsr"):
        return np.asarray(x.mean(0), np.float64), np.asarray(x.var(0), np.float64)
    mean = np.asarray(x.mean(axis=0), np.float64).ravel()
    off = x.tocoo()
    stored = np.bincount(off.col, (off.data - mean[off.col]) ** 2, x.shape[1])
    zeros = x.shape[0] - np.bincount(off.col, minlength=x.shape[1])
    return mean, (stored + zeros * mean**2) / x.shape[0]


def gene_variability(counts: Any, rule: GeneRule = "fano") -> FloatArray:
    """How much more every gene varies over the cells than genes of its mean do.

    Parameters
    ----------
    counts : ndarray or csr_matrix, shape (n, f)
        >= 0.
    rule : {"fano", "seurat"}
        ``fano``: of transcripts per million, ``(v / m) / (A² m + B²)`` with mean m and variance v; A is
        the smallest ``sqrt(v) / m`` of the 20 genes of largest mean, B² the median of ``v / m`` of the
        genes whose m and v / m both lie within the middle 80 % of those of all genes. ``seurat``: of
        counts per 10,000, ``log(v / m)`` less its mean over the genes of similar ``log(1 + m)`` (20
        bins of equal width) and divided by its standard deviation there.

    Returns
    -------
    ndarray, shape (f,)
        No unit, larger = more variable; -inf for genes without counts, or of one value.

    Notes
    -----
    Source: Kotliar et al. 2019, after Klein et al. 2015 (``fano``); Satija et al. 2015 (``seurat``, the
    default of ``scanpy.pp.highly_variable_genes`` on log counts).
    """
    if rule not in GENE_RULES:
        raise UserError(
            f"the rule of variable genes is {rule!r}; there are {', '.join(GENE_RULES)}."
        )
    found = np.full(counts.shape[1], -np.inf)
    if rule == "fano":
        mean, variance = moments(per_cell(counts))
        some = mean > 0
        found[some] = _fano(mean[some], variance[some])
    else:
        mean, variance = moments(per_cell(counts, 1e4))
        variance = variance * counts.shape[0] / max(1, counts.shape[0] - 1)
        some = (mean > 0) & (variance > 0)
        found[some] = _in_bins(np.log1p(mean), np.log(variance[some] / mean[some]), some)
    return found


def _fano(mean: FloatArray, variance: FloatArray) -> FloatArray:
    if not mean.size:
        return mean
    fano = variance / mean
    largest = np.argsort(-mean, kind="stable")[:LARGEST]
    least = float((np.sqrt(variance) / mean)[largest].min())
    middle = np.ones(len(mean), bool)
    for value in (mean, fano):
        low, high = np.quantile(value, QUANTILES)
        middle &= (value > low) & (value < high)
    usual = float(np.median(fano[middle] if middle.any() else fano))
    expected = least**2 * mean + usual
    return np.divide(fano, expected, out=np.zeros_like(fano), where=expected > 0)


def _in_bins(size: FloatArray, spread: FloatArray, some: npt.NDArray[np.bool_]) -> FloatArray:
    """``spread`` of some genes in standard deviations of its bin; alone in a bin: 1."""
    edges = np.linspace(size.min(), size.max(), BINS + 1)
    bins = np.clip(np.searchsorted(edges, size[some], side="left") - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    centre = np.bincount(bins, spread, BINS) / np.maximum(count, 1)
    square = np.bincount(bins, (spread - centre[bins]) ** 2, BINS) / np.maximum(count - 1, 1)
    width, alone = np.sqrt(square)[bins], count[bins] == 1
    made = np.divide(spread - centre[bins], width, out=np.zeros_like(spread), where=width > 0)
    return np.where(alone, 1.0, made)


def gene_scores(expression: Any, shares: Any) -> FloatArray:
    """Standardised expression of every gene in a cell that is all of one programme.

    Least squares: ``argmin_S || Z - U S ||²`` with U the shares and Z the expression of every gene,
    less its mean and divided by its standard deviation (divisor n).

    Parameters
    ----------
    expression : ndarray or csr_matrix, shape (n, f)
    shares : array, shape (n, k)
        Rows sum to 1.

    Returns
    -------
    ndarray, shape (k, f)
        In standard deviations of the gene; 0 for genes of one value. A gene with a large score in one
        programme alone is a marker of it.

    Notes
    -----
    Source: Kotliar et al. 2019 (gene expression programmes in units of z-scores). Differs from the
    source: the shares of a cell, not usages that grow with its counts.
    """
    mean, variance = moments(expression)
    inverse = np.linalg.pinv(np.asarray(shares, np.float64))
    spread = np.sqrt(variance)
    product = (expression.T @ inverse.T).T - inverse.sum(axis=1)[:, None] * mean
    flat = spread <= 1e-12 * np.maximum(mean, 1)
    return np.asarray(np.where(flat, 0.0, product / np.where(flat, 1.0, spread)), np.float64)
