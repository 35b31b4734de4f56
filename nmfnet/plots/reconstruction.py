"""Pictures of X beside its reconstruction, for samples from the best to the worst fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.errors import UserError
from nmfnet.plots import mosaic, spectra, style
from nmfnet.plots.arrays import matrix, names_for, spread_rows

__all__ = ["choose_rows", "dense_rows", "reconstruction_examples", "row_errors"]

_ENTRIES = 2_000_000
"""Most entries of X that are looked at to find the best and the worst samples."""


def dense_rows(X: Any, rows: np.ndarray) -> np.ndarray:
    """Return the chosen rows of a dense or sparse matrix as dense float64."""
    if hasattr(X, "toarray"):
        table = X.tocsr() if hasattr(X, "tocsr") else X
        return np.asarray(table[rows].toarray(), dtype=float)
    return np.asarray(np.asarray(X)[rows], dtype=float)


def choose_rows(shape: tuple[int, int]) -> np.ndarray:
    """Return evenly spaced rows, few enough that they may be densified."""
    return spread_rows(shape[0], max(1, min(2000, _ENTRIES // max(1, shape[1]))))


def row_errors(x: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
    """Return ||x - x_hat|| / ||x|| of each row over its observed entries; NaN for rows of zeros."""
    seen = np.isfinite(x)
    squares = np.where(seen, np.square(x), 0.0).sum(axis=1)
    misses = np.where(seen, np.square(x - x_hat), 0.0).sum(axis=1)
    share = np.divide(misses, squares, out=np.full(len(x), np.nan), where=squares > 0)
    return np.asarray(np.sqrt(share))


class _Examples(NamedTuple):
    """Samples that were looked at: observed and reconstructed rows, errors, names."""

    x: np.ndarray
    x_hat: np.ndarray
    errors: np.ndarray
    names: list[str]
    note: str

    def title(self, what: str) -> str:
        """Return the figure's title with the median error of the samples that are not all zero."""
        finite = self.errors[np.isfinite(self.errors)]
        error = f": median relative error {np.median(finite):.3g}" if finite.size else ""
        return f"Reconstructed {what}{error}"

    def quantiles(self, count: int) -> np.ndarray:
        """Return row numbers from the best to the worst fitted sample."""
        usable = np.flatnonzero(np.isfinite(self.errors))
        if not usable.size:
            return np.arange(min(count, len(self.errors)))
        order = usable[np.argsort(self.errors[usable], kind="stable")]
        return np.asarray(order[spread_rows(len(order), count)])


def reconstruction_examples(
    X: Any,
    X_hat: ArrayLike | Callable[[np.ndarray], ArrayLike],
    kind: str = "generic",
    *,
    mask: Any = None,
    image_shape: tuple[int, int] | None = None,
    sample_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    cmap: str | None = None,
) -> Figure:
    """Draw samples and their reconstructions, from the best to the worst fitted one.

    Images: rows of originals, reconstructions and residuals. Mutation spectra: observed upwards,
    reconstructed downwards, with their cosine. Otherwise: density of observed against reconstructed
    entries, and the profiles of the best, the median and the worst sample.

    Parameters
    ----------
    X : array or scipy sparse matrix, shape (n, f)
        Data; NaN = not observed. Only the rows that are looked at are densified: at most 2,000,
        evenly spaced.
    X_hat : array, shape (n, f), or function
        Reconstruction of all rows, or a function from row numbers to their reconstruction.
    kind, image_shape, feature_names, cmap
        As in `nmfnet.plots.components.components`.
    sample_names : sequence of str, length n, optional
        Names of the samples.
    mask : array or scipy sparse matrix of bool, shape (n, f), optional
        True = observed; other entries are left out.

    Raises
    ------
    UserError
        If the shapes differ or the reconstruction holds NaN.
    """
    shape = tuple(int(side) for side in (X.shape if hasattr(X, "shape") else np.shape(X)))
    given = shape if callable(X_hat) else np.shape(X_hat)
    if len(shape) != 2 or shape != given or 0 in shape:
        raise UserError(
            f"X has shape {shape} and X_hat {given}; both must be matrices of the same shape."
        )
    field = style.words(kind)
    names = names_for(sample_names, shape[0], f"{field.sample} ", f"{field.sample}s")
    rows = choose_rows((shape[0], shape[1]))
    x = dense_rows(X, rows)
    if mask is not None:
        x = np.where(dense_rows(mask, rows) > 0, x, np.nan)
    x_hat = matrix(X_hat(rows) if callable(X_hat) else dense_rows(X_hat, rows), "X_hat")
    note = ""
    if len(rows) < shape[0]:
        note = f"{len(rows):,} of {shape[0]:,} {field.sample}s, evenly spaced."
    examples = _Examples(x, x_hat, row_errors(x, x_hat), [names[row] for row in rows], note)
    if kind == "image":
        return _images(examples, image_shape, cmap)
    layout = spectra.LAYOUTS.get(kind)
    if layout is None and kind != "text":
        layout = spectra.find_layout(feature_names)
    if layout is not None:
        return _spectra(examples, layout, feature_names)
    features = names_for(feature_names, shape[1], f"{field.feature} ", "features")
    return _profiles(examples, features, field)


def _images(examples: _Examples, image_shape: tuple[int, int] | None, cmap: str | None) -> Figure:
    rows = examples.quantiles(9)
    seen, fitted = examples.x[rows], examples.x_hat[rows]
    originals, copies = mosaic.pictures(seen, image_shape), mosaic.pictures(fitted, image_shape)
    residuals = originals - copies
    grid = mosaic.Grid.of(2 * len(rows), originals.shape[1:], columns=len(rows), caption=0.06)
    lower = mosaic.Grid.of(len(rows), originals.shape[1:], columns=len(rows), caption=0.06)
    left, top = 1.05, style.HEAD + 0.34
    height, width = (side * grid.scale for side in grid.shape)
    low_height = lower.shape[0] * lower.scale
    figure = style.new_figure(max(5.6, left + width + 0.15), top + height + low_height + 0.5)
    style.heading(
        figure, examples.title("images"), f"From the best (left) to the worst. {examples.note}"
    )
    finite = np.concatenate([seen[np.isfinite(seen)], fitted.ravel()])
    low, high = float(min(0.0, finite.min())), float(finite.max())
    limits = (low, high if high > low else low + 1.0)
    both = np.concatenate([originals, copies])
    axes = grid.draw(figure, both, top, cmap or style.GREYS, limits, label="images", left=left)
    seen_residuals = np.abs(residuals[np.isfinite(residuals)])
    most = float(seen_residuals.max()) if seen_residuals.size else 0.0
    spread = (-(most or 1.0), most or 1.0)
    below = lower.draw(
        *(figure, residuals, top + height, style.DIVERGING, spread),
        label="residuals",
        left=left,
    )
    for column, row in enumerate(rows):
        name = style.shorten(examples.names[row].removeprefix("image "), grid.letters)
        _, x = grid.corner(column)
        error = examples.errors[row]
        text = f"{name}\n{error:.2f}" if np.isfinite(error) else f"{name}\n–"
        place = (x + grid.tile_width / 2 - 0.5, -0.5)
        style.write(axes, *place, text, size=style.SMALL, ha="center", va="bottom")
    for drawn, texts in ((axes, ("original", "reconstruction")), (below, ("residual",))):
        for number, text in enumerate(texts):
            y, _ = grid.corner(number * len(rows))
            place = (-0.08 / grid.scale - 0.5, y + grid.tile_height / 2 - 0.5)
            style.write(drawn, *place, text, ha="right", va="center")
    corner: dict[str, Any] = {"size": style.SMALL, "colour": style.GREY, "ha": "right"}
    style.write(axes, -0.08 / grid.scale - 0.5, -0.5, "image\nerror", va="bottom", **corner)
    bottom = style.size(figure)[1] - 0.34
    style.colour_scale(
        *(figure, left, bottom), cmap=cmap or style.GREYS, limits=limits, label="pixel", width=0.8
    )
    style.colour_scale(
        *(figure, left + 1.75, bottom),
        cmap=style.DIVERGING,
        limits=spread,
        label="original − reconstruction",
        width=0.8,
    )
    return figure


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm > 0 else 0.0


def _spectra(
    examples: _Examples, layout: spectra.Layout, feature_names: Sequence[str] | None
) -> Figure:
    seen = np.isfinite(examples.x)
    x = spectra.to_layout(np.where(seen, examples.x, 0.0), feature_names, layout)
    x_hat = spectra.to_layout(np.where(seen, examples.x_hat, 0.0), feature_names, layout)
    cosine = np.array([_cosine(a, b) for a, b in zip(x, x_hat, strict=True)])
    order = np.argsort(-cosine, kind="stable")
    rows = order[spread_rows(len(order), 4)]
    row, gap, left, width = 1.25, 0.26, 0.75, 9.6
    top = style.HEAD + (0.16 if layout.above else 0.04)
    figure = style.new_figure(left + width + 0.12, top + 0.2 + len(rows) * (row + gap) + 0.42)
    title = f"Reconstructed {layout.kind.upper()} spectra: median cosine {np.median(cosine):.3f}"
    how = "Observed upwards, reconstructed downwards; from the best to the worst cosine. "
    style.heading(figure, title, how + examples.note)
    spectra.header(figure, layout, left=left, top=top, width=width)
    for number, sample in enumerate(rows):
        place = top + 0.2 + number * (row + gap) + gap
        axes = style.panel(figure, left, place, width, row, label=examples.names[sample], grid="y")
        spectra.spectrum(axes, x[sample], layout)
        spectra.spectrum(axes, x_hat[sample], layout, down=True)
        most = 1.08 * float(max(np.abs(x[sample]).max(), np.abs(x_hat[sample]).max())) or 1.0
        axes.axhline(0, color=style.GREY, linewidth=0.6)
        axes.set_ylim(-most, most)
        style.readable_axis(axes.yaxis, 1.0, "")
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.6g}")
        axes.spines["bottom"].set_visible(False)
        name = style.shorten(examples.names[sample], 60)
        total = style.readable(round(float(x[sample].sum()), 2))
        text = f"{name}  cosine {cosine[sample]:.3f}, {total} mutations"
        style.write(axes, 0.0, 1.03, text, bold=True, relative=True)
        if number == len(rows) - 1:
            spectra.channel_ticks(axes, layout)
    middle = 1 - (top + 0.2 + len(rows) * (row + gap) / 2) / style.size(figure)[1]
    style.write(figure, 0.012, middle, "mutations", turn=90, va="center")
    return figure


def _profiles(examples: _Examples, features: list[str], field: style.Words) -> Figure:
    figure = style.new_figure(7.4, style.HEAD + 5.35)
    style.heading(figure, examples.title(f"{field.sample}s"), examples.note)
    axes = style.panel(figure, 0.7, style.HEAD + 0.15, 2.75, 2.75, label="density")
    _density(axes, examples)
    right = style.panel(figure, 4.35, style.HEAD + 0.15, 2.85, 2.75, label="errors", grid="both")
    _errors(right, examples, field.sample)
    rows = examples.quantiles(3)
    words = {3: ("best", "median", "worst"), 2: ("best", "worst"), 1: ("only",)}[len(rows)]
    for number, (row, word) in enumerate(zip(rows, words, strict=True)):
        place = (0.7 + 2.33 * number, style.HEAD + 3.65, 1.8, 0.75)
        panel = style.panel(figure, *place, label=f"{word} {field.sample}", grid="y")
        _profile(panel, examples.x[row], examples.x_hat[row], features)
        name = style.shorten(examples.names[row], 22)
        style.label_axes(panel, title=f"{word}: {name}", y=field.amount if not number else "")
    width, height = style.size(figure)
    text = f"Largest {field.feature}s of single {field.sample}s: "
    text += "observed (bars), reconstructed (dots)"
    style.write(figure, 0.7 / width, 1 - (style.HEAD + 3.38) / height, text, va="center")
    return figure


def _density(axes: Axes, examples: _Examples) -> None:
    """Draw the two-dimensional histogram of observed against reconstructed entries."""
    take = spread_rows(len(examples.x), max(1, 400_000 // examples.x.shape[1]))
    x, y = examples.x[take].ravel(), examples.x_hat[take].ravel()
    seen = np.isfinite(x)
    x, y = x[seen], y[seen]
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    typical = float(np.percentile(np.abs(x[x != 0]), 50)) if np.any(x != 0) else 1.0
    log = low >= 0 and high > 20 * typical
    if log:
        x, y = np.log10(1 + x / typical), np.log10(1 + y / typical)
    ends = (float(min(x.min(), y.min())), float(max(x.max(), y.max())))
    span = (ends[1] - ends[0]) or 1.0
    bins = 80
    cells = [np.clip(((v - ends[0]) / span * bins).astype(int), 0, bins - 1) for v in (x, y)]
    counts = np.bincount(cells[1] * bins + cells[0], minlength=bins * bins).reshape(bins, bins)
    shown = np.where(counts > 0, np.log10(np.maximum(counts, 1)), np.nan)
    extent = (ends[0], ends[0] + span, ends[0], ends[0] + span)
    axes.imshow(
        shown,
        origin="lower",
        extent=extent,
        cmap=style.colour_map(style.SEQUENTIAL),
        vmin=-0.4 * max(1.0, float(np.log10(counts.max()))),
        aspect="auto",
        interpolation="nearest",
    )
    axes.plot(extent[:2], extent[:2], color=style.SECOND, linewidth=0.9)
    if log:
        powers = 10.0 ** np.arange(np.ceil(np.log10(typical)), np.log10(high) + 1e-9)
        ticks = np.concatenate([[0.0], powers[:: max(1, len(powers) // 4)]])
        texts = [style.readable(tick) for tick in ticks]
        axes.set_xticks(np.log10(1 + ticks / typical), texts)
        axes.set_yticks(np.log10(1 + ticks / typical), texts)
    else:
        axes.locator_params(nbins=5)
    title = f"{style.plural('entry', x.size).replace('entrys', 'entries')}"
    title += f", darkest cell: {counts.max():,}"
    style.label_axes(axes, x="observed", y="reconstructed", title=title)


def _errors(axes: Axes, examples: _Examples, sample: str) -> None:
    """Draw the distribution of relative errors over samples."""
    errors = np.sort(examples.errors[np.isfinite(examples.errors)])
    share = 100 * (np.arange(len(errors)) + 1) / max(1, len(errors))
    axes.step(errors, share, where="post", color=style.MAIN, linewidth=1.4)
    axes.set_ylim(0, 101)
    axes.locator_params(axis="x", nbins=5)
    y = f"{sample}s at or below (%)"
    title = style.plural(sample, len(errors))
    style.label_axes(axes, x=f"relative error of one {sample}", y=y, title=title)


def _profile(axes: Axes, x: np.ndarray, x_hat: np.ndarray, features: list[str]) -> None:
    """Draw the largest entries of one sample as bars and their reconstruction as dots."""
    observed = np.where(np.isfinite(x), np.abs(x), -1.0)
    order = np.argsort(-observed, kind="stable")[:18]
    order = order[np.isfinite(x[order])]
    style.bars(axes, x[order], style.OTHER)
    axes.scatter(np.arange(len(order)), x_hat[order], s=9, color=style.MAIN, linewidths=0, zorder=3)
    shown = np.concatenate([x[order], x_hat[order], [0.0]])
    low, high = float(shown.min()), float(shown.max())
    margin = 0.08 * ((high - low) or 1.0)
    axes.set(
        xlim=(-0.7, max(len(order), 1) - 0.3),
        ylim=(low - (margin if low < 0 else 0), high + margin),
    )
    axes.set_xticks(range(len(order)), [style.shorten(features[i], 13) for i in order], rotation=90)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axes.locator_params(axis="y", nbins=3)
