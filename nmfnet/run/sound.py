"""What the components of a spectrogram sound like: waves, their numbers, and a table of notes."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nmfnet import metrics
from nmfnet.core.model import Factorization
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sound import Sound

if TYPE_CHECKING:
    from nmfnet.run.evaluate import Factors

__all__ = ["parts_of", "sound_scores", "write_parts"]

FOLDER, TABLE = "parts", "notes.csv"
HEAD = ("component", "part", "pitch_hz", "note", "share")

CLOSE = 1e-3
"""Relative difference up to which parts are said to sum to X_hat."""

UNSOUND = re.compile(r"[^\w.-]+")
"""Characters that no file name has."""

NUMBERED = re.compile(r"(.*\S) \d+")
"""Names such as ``voice 3``: one of several components of a sound."""


def sound_of(model: Factorization, datamodule: MatrixDataModule) -> Sound | None:
    """The wave behind all rows, for a model with components; None without."""
    if datamodule.streamed or not model.has_components or not model.estimates_x:
        return None
    whole = len(datamodule.train_rows) == datamodule.matrix.shape[0]
    return datamodule.matrix.sound if whole else None


def parts_of(
    model: Factorization, datamodule: MatrixDataModule, factors: Factors
) -> dict[str, np.ndarray]:
    """The wave of every component, and of components that are numbered (``voice 1``, ...) together.

    Each takes the share of the mixture's transform that it has of X_hat (a Wiener filter, where X is
    ``|STFT|²``), so that the waves sum to the mixture. Where X_hat is 0 all have the same share.

    Source: Févotte, Bertin & Durrieu 2009, section 2.2.
    """
    sound = sound_of(model, datamodule)
    if sound is None:
        return {}
    layers = _layers(model, factors)
    total = sum(layers.values(), np.zeros(datamodule.matrix.shape))
    if not _additive(model, factors, total):
        return {}
    equal = np.full_like(total, 1 / len(layers))
    return {
        name: sound.masked(np.divide(layer, total, out=equal.copy(), where=total > 0))
        for name, layer in layers.items()
    }


def _layers(model: Factorization, factors: Factors) -> dict[str, np.ndarray]:
    """X_hat of every part alone, shape (n_frames, n_bins)."""
    layers: dict[str, np.ndarray] = {}
    for j, name in enumerate(factors.names):
        alone = np.zeros_like(factors.W)
        alone[:, j] = factors.W[:, j]
        layer = np.asarray(model.inverse_transform(alone), np.float64)
        part = part_name(name)
        layers[part] = layers[part] + layer if part in layers else layer
    return layers


def _additive(model: Factorization, factors: Factors, total: np.ndarray) -> bool:
    whole = np.asarray(model.inverse_transform(factors.W), np.float64)
    off = np.linalg.norm(whole - total)
    return bool(total.min() >= 0 and off <= CLOSE * np.linalg.norm(whole))


def part_name(component: str) -> str:
    """``voice`` of ``voice 3``; other names as they are."""
    found = NUMBERED.fullmatch(component)
    return found[1] if found else component


def sound_scores(
    model: Factorization, datamodule: MatrixDataModule, factors: Factors
) -> dict[str, float]:
    """``sound/...``: the parts against the stems that were mixed, where these are known."""
    sound = sound_of(model, datamodule)
    if sound is None or not sound.stems:
        return {}
    parts = parts_of(model, datamodule, factors)
    if parts and not set(sound.stems) <= set(parts):
        parts = _joined(parts, sound.stems)
        _note(
            datamodule,
            "The parts have other names than the stems: each was added to the stem that it is most like, "
            "which only somebody who has the stems can do.",
        )
    scores = metrics.separation(parts, sound.stems, sound.wave)
    return {f"sound/{key}": value for key, value in scores.items()}


def _joined(parts: dict[str, np.ndarray], stems: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sums of the parts that are most like each stem."""
    found: dict[str, np.ndarray] = {}
    for wave in parts.values():
        like = {name: abs(wave @ stem) / np.linalg.norm(stem) for name, stem in stems.items()}
        nearest = max(like, key=like.__getitem__)
        found[nearest] = found[nearest] + wave if nearest in found else wave
    return found


def _note(datamodule: MatrixDataModule, said: str) -> None:
    if said not in datamodule.notes:
        datamodule.notes.append(said)


def write_parts(
    folder: Path, model: Factorization, datamodule: MatrixDataModule, factors: Factors
) -> None:
    """Write ``parts/NAME.wav``, and ``notes.csv``: a line for each component.

    Columns: component; part, the wave it is in; pitch_hz and note, of its spectrum; share, of the sum of
    X_hat.
    """
    sound = sound_of(model, datamodule)
    if sound is None:
        return
    amounts = (factors.W * factors.H.sum(1)).sum(0)
    shares = amounts / amounts.sum() if amounts.sum() > 0 else amounts
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEAD)
        for name, spectrum, share in zip(factors.names, factors.H, shares, strict=True):
            hertz = metrics.pitch(spectrum, sound.frequencies)
            note = metrics.note_name(hertz)
            said = f"{hertz:.1f}" if note else ""
            writer.writerow([name, part_name(name), said, note, f"{share:.4f}"])
    if not sound.parts:
        return
    parts = parts_of(model, datamodule, factors)
    if not parts:
        said = "The components do not sum to X_hat in this model, so no sound was separated."
        _note(datamodule, said)
        return
    (folder / FOLDER).mkdir(exist_ok=True)
    for name, wave in parts.items():
        sound.write(folder / FOLDER / f"{UNSOUND.sub('_', name)}.wav", wave)
