"""Separated sounds against the true ones, and what note a spectrum is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["note_name", "pitch", "separation"]

NOTES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")

LOWEST, HIGHEST = 21, 108
"""The notes of a piano, as MIDI numbers (A0 and C8)."""

HARMONICS = 8

LOBE = 2
"""Bins to either side of a frequency over which a Hann window spreads it."""


def separation(
    estimates: Mapping[str, ArrayLike], stems: Mapping[str, ArrayLike], mixture: ArrayLike
) -> dict[str, float]:
    r"""How well sounds were separated, in dB; larger is better. Scales do not matter.

    With P_s the projection of an estimate on its stem s and P on all stems, ``si_sdr`` is
    ``|P_s|² / |estimate - P_s|²``, ``si_sir`` is ``|P_s|² / |P - P_s|²`` (what is left of the other
    stems) and ``si_sar`` is ``|P_s|² / |estimate - P|²`` (what is in no stem). ``gain`` is what the
    si_sdr is above that of the mixture itself.

    Parameters
    ----------
    estimates : mapping of str to array, shape (n,)
    stems : mapping of str to array, shape (n,)
        The true sounds, not silent; estimates of other names are left out.
    mixture : array, shape (n,)

    Returns
    -------
    dict
        ``STEM/si_sdr``, ``STEM/si_sir``, ``STEM/si_sar``, ``STEM/gain``, and ``si_sdr`` and ``gain``,
        their means. Stems without an estimate are left out; of a silent estimate all are NaN.

    Source: Le Roux, Wisdom, Erdogan & Hershey 2019, "SDR - half-baked or well done?", eqs. (3) to (6).
    """
    whole = np.asarray(mixture, np.float64)
    true = {name: np.asarray(stem, np.float64) for name, stem in stems.items()}
    table = np.column_stack(list(true.values()))
    found: dict[str, float] = {}
    for name, stem in true.items():
        if name not in estimates:
            continue
        given = np.asarray(estimates[name], np.float64)
        target, spanned = _on(given, stem), table @ np.linalg.lstsq(table, given)[0]
        before = _on(whole, stem)
        found[f"{name}/si_sdr"] = _decibel(target, given - target)
        found[f"{name}/si_sir"] = _decibel(target, spanned - target)
        found[f"{name}/si_sar"] = _decibel(target, given - spanned)
        found[f"{name}/gain"] = found[f"{name}/si_sdr"] - _decibel(before, whole - before)
    means = {
        key: float(np.mean([value for name, value in found.items() if name.endswith(f"/{key}")]))
        for key in (("si_sdr", "gain") if found else ())
    }
    return means | found


def _on(estimate: np.ndarray, stem: np.ndarray) -> np.ndarray:
    return (estimate @ stem) / (stem @ stem) * stem


def _decibel(kept: np.ndarray, lost: np.ndarray) -> float:
    """10 log10 of a ratio of energies, of which neither is below the rounding of both; NaN of silence."""
    good, bad = float(kept @ kept), float(lost @ lost)
    least = np.finfo(np.float64).eps ** 2 * (good + bad)
    return float(10 * np.log10(max(good, least) / max(bad, least))) if least > 0 else float("nan")


def pitch(spectrum: ArrayLike, frequencies: ArrayLike) -> float:
    """The note of a spectrum, in Hz: that whose harmonics stand out most from what is between them.

    Parameters
    ----------
    spectrum : array, shape (n_bins,), >= 0
    frequencies : array, shape (n_bins,)
        In Hz, rising.

    Returns
    -------
    float
        One of the 88 notes of a piano in equal temperament at 440 Hz; NaN if the spectrum lies less than
        halfway between noise and harmonics alone. Notes that are less than a bin apart are not told from
        each other.
    """
    values, hertz = np.asarray(spectrum, np.float64), np.asarray(frequencies, np.float64)
    notes = 440 * 2 ** ((np.arange(LOWEST, HIGHEST + 1) - 69) / 12)
    notes = notes[notes < hertz[-1]]
    order = np.arange(1, HARMONICS + 1)
    at = np.interp(np.outer(notes, order), hertz, values, right=0.0)
    between = np.interp(np.outer(notes, order - 0.5), hertz, values, right=0.0)
    salience = (at - between) @ (1 / order)
    if not len(notes) or not salience.max() > 0:
        return float("nan")
    note = float(notes[salience.argmax()])
    off = np.abs(hertz - note * np.maximum(1, np.round(hertz / note)))
    tonal = off <= LOBE * (hertz[1] - hertz[0])  # all of harmonics, and tonal.mean() of noise
    enough = (1 + tonal.mean()) / 2
    return note if values[tonal].sum() >= enough * values.sum() else float("nan")


def note_name(hertz: float) -> str:
    """``440.0`` as ``A4``; empty of NaN."""
    if not np.isfinite(hertz):
        return ""
    number = round(69 + 12 * np.log2(hertz / 440))
    return f"{NOTES[number % 12]}{number // 12 - 1}"
