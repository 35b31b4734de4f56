"""Pictures of a factorised spectrogram: over frequency, over time, and both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.metrics.sound import note_name, pitch
from nmfnet.plots import style
from nmfnet.plots.arrays import Chosen, choose_components, matrix, spread_rows

__all__ = ["activations", "spectra_of", "spectrogram"]

RANGE = 60.0
"""Decibels below the largest entry that a spectrogram shows."""

FRAMES = 2000
"""Most frames that are drawn."""

LOUD = 0.99
"""Share of the sum of the components below the highest frequency that is drawn."""

_LEFT, _WIDTH, _ROW, _GAP = 0.75, 6.2, 0.5, 0.24


def numbers(names: Sequence[str] | None, count: int) -> np.ndarray:
    """``["0.5 s", "1.0 s"]`` as numbers; 0, 1, ... of other names."""
    try:
        return np.array([float(str(name).split()[0]) for name in names or ()]).reshape(count)
    except (ValueError, IndexError):
        return np.arange(count, dtype=float)


def spectra_of(
    values: np.ndarray, chosen: Chosen, captions: Sequence[str], feature_names: Sequence[str] | None
) -> Figure:
    """Draw the components of a spectrogram as lines over frequency, with their notes.

    Parameters
    ----------
    values : array, shape (k, f)
        The components that were chosen.
    chosen : Chosen
    captions : sequence of str, length k
    feature_names : sequence of str, length f, optional
        Such as ``"440.00 Hz"``.
    """
    hertz = numbers(feature_names, values.shape[1])
    cumulated = np.abs(values).sum(0).cumsum()
    last = int(np.searchsorted(cumulated, LOUD * cumulated[-1])) + 1
    figure, top = _rows(len(values), 0.42)
    title = f"Spectra of {style.plural('component', len(values))}"
    style.heading(figure, title, f"Each in units of its largest entry. {chosen.note}")
    for number, (caption, row) in enumerate(zip(captions, values, strict=True)):
        axes = style.panel(
            figure, _LEFT, top(number), _WIDTH, _ROW, label=chosen.names[number], grid="x"
        )
        most = np.abs(row).max() or 1.0
        axes.fill_between(hertz[:last], row[:last] / most, color=style.MAIN, linewidth=0)
        axes.set(xlim=(hertz[0], hertz[max(1, last - 1)]), ylim=(min(0.0, row.min() / most), 1.05))
        axes.set_yticks([])
        note = note_name(pitch(row, hertz)) if row.min() >= 0 else ""
        style.write(axes, 0.0, 1.06, f"{caption}  {note}".rstrip(), bold=True, relative=True)
        if number < len(values) - 1:
            axes.set_xticklabels([])
        else:
            style.label_axes(axes, x="frequency (Hz)")
    return figure


def activations(
    W: ArrayLike,
    sample_names: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    max_components: int = 36,
) -> Figure:
    """Draw how loud every component is over time.

    Parameters
    ----------
    W : array, shape (n, k)
        In units of the data.
    sample_names : sequence of str, length n, optional
        Such as ``"0.1161 s"``.
    names : sequence of str, length k, optional
    max_components : int
        Most components that are drawn: those with the largest sums.
    """
    values = matrix(W, "W")
    chosen = choose_components(np.eye(values.shape[1]), values, names, max_components)
    seconds = numbers(sample_names, len(values))
    most = float(np.abs(values[:, chosen.rows]).max()) or 1.0
    figure, top = _rows(len(chosen.rows), 0.42)
    title = f"Activations of {style.plural('component', len(chosen.rows))}"
    style.heading(figure, title, f"All in the same units. {chosen.note}")
    for number, row in enumerate(chosen.rows):
        axes = style.panel(
            figure, _LEFT, top(number), _WIDTH, _ROW, label=chosen.names[number], grid="x"
        )
        axes.fill_between(seconds, values[:, row] / most, color=style.MAIN, linewidth=0)
        axes.set_xlim(seconds[0], seconds[-1] if len(seconds) > 1 else seconds[0] + 1)
        axes.set_ylim(min(0.0, float(values.min()) / most), 1.0)
        axes.set_yticks([])
        style.write(
            axes, 0.0, 1.06, style.shorten(chosen.names[number], 40), bold=True, relative=True
        )
        if number < len(chosen.rows) - 1:
            axes.set_xticklabels([])
        else:
            style.label_axes(axes, x="time (s)")
    return figure


def spectrogram(
    X: Any,
    X_hat: ArrayLike | Callable[[np.ndarray], ArrayLike],
    sample_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    *,
    power: float = 1.0,
) -> Figure:
    """Draw a spectrogram above its reconstruction, in decibels below the largest entry.

    Parameters
    ----------
    X : array, shape (n, f)
        Frames in rows.
    X_hat : array, shape (n, f), or function
        The reconstruction, or a function from row numbers to rows of it.
    sample_names, feature_names : sequence of str, optional
        Such as ``"0.1161 s"`` and ``"440.00 Hz"``.
    power : float, > 0
        Of the magnitudes in X: 1 = amplitudes, 2 = energies.
    """
    data = matrix(X, "X")
    rows = spread_rows(len(data), FRAMES)
    seconds, hertz = numbers(sample_names, len(data)), numbers(feature_names, data.shape[1])
    found = np.asarray(X_hat(rows) if callable(X_hat) else np.asarray(X_hat)[rows], float)
    figure = style.new_figure(_LEFT + _WIDTH + 0.3, style.HEAD + 4.6)
    style.heading(figure, "Spectrogram and its reconstruction")
    largest = float(data.max()) or 1.0
    top = style.HEAD + 0.3
    for number, (title, part) in enumerate((("data", data[rows]), ("reconstruction", found))):
        axes = style.panel(figure, _LEFT, top + 2.05 * number, _WIDTH, 1.6, label=title)
        level = 20 / power * np.log10(np.clip(part / largest, 1e-300, None))
        axes.imshow(
            level.T,
            origin="lower",
            aspect="auto",
            cmap=style.colour_map(style.GREYS),
            vmin=-RANGE,
            vmax=0,
            extent=(seconds[0], seconds[-1], hertz[0], hertz[-1]),
            interpolation="nearest",
        )
        style.label_axes(axes, x="time (s)" if number else "", y="frequency (Hz)", title=title)
    style.colour_scale(
        figure,
        0.3,
        0.36,
        cmap=style.GREYS,
        limits=(-RANGE, 0.0),
        label="dB below the largest entry",
    )
    return figure


def _rows(count: int, below: float) -> tuple[Figure, Callable[[int], float]]:
    """A figure with a row for each component, and where each begins."""
    begin = style.HEAD + 0.1
    figure = style.new_figure(_LEFT + _WIDTH + 0.3, begin + count * (_ROW + _GAP) + below)
    return figure, lambda number: begin + number * (_ROW + _GAP) + _GAP
