"""Sound: a wav file to the magnitudes of its short-time Fourier transform."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from nmfnet.data.formats.raw import check_file, file_sha256
from nmfnet.data.matrix import Matrix
from nmfnet.data.sound import Sound
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.source import Source
from nmfnet.errors import UserError, reason

__all__ = ["Audio"]


@final
@dataclass(frozen=True, kw_only=True)
class Audio(Source):
    """A wav file as a spectrogram: rows = frames in time, features = frequency bins in Hz.

    X is ``|STFT| ** power`` with a Hann window; channels are averaged, and whole numbers are divided by
    the largest that their type holds. The phase of every entry, in radians, is kept in
    ``extra["phase"]``: ``sqrt[power](X) exp(i phase)`` is the transform again. The wave itself is kept in
    ``sound``, so that a run can say what its components sound like.

    Parameters
    ----------
    path : str
        The file; inside the data set's folder when ``origin`` is given.
    n_fft : int, >= 2
        Samples of a window; there are ``n_fft // 2 + 1`` bins.
    hop : int, in 1 ... n_fft
        Samples from one frame to the next.
    power : float, > 0
        1 = magnitudes (for kl), 2 = energies (for itakura_saito).
    floor : float, >= 0
        Smallest value, relative to the largest, so that silence has no zeros.
    start : float, >= 0
        Where to begin, in seconds.
    seconds : float, > 0, optional
        How much to take; None = to the end.
    stems : mapping of str to str, optional
        Wav files of the sounds that were mixed, by name, of the same rate and length: what was separated
        is compared with them.
    parts : bool
        Write what every component sounds like into the run folder, ``parts/NAME.wav``.
    origin : Origin, optional
        Catalogue entry that the file belongs to.
    """

    path: str
    n_fft: int = 1024
    hop: int = 256
    power: float = 1.0
    floor: float = 1e-10
    start: float = 0.0
    seconds: float | None = None
    stems: Mapping[str, str] | None = None
    parts: bool = True
    origin: Origin | None = None

    def check(self) -> None:
        if self.origin is None:
            check_file(self.path)
        for file in (self.stems or {}).values():
            check_file(file)

    def read(self) -> Matrix:
        """Read the wave, cut it, transform it."""
        self._check()
        file = check_file(self.path) if self.origin is None else self.origin.path(self.path)
        rate, wave, remarks = _read_wave(file)
        wave = self._cut(wave, rate, file)
        stems = self._stems(wave, rate)
        framed = self.n_fft, self.hop, self.power, self.start
        sound = Sound(wave, rate, *framed, {n: stem for n, (stem, _) in stems.items()}, self.parts)
        spectrum = sound.spectrum()
        values = np.abs(spectrum) ** self.power
        if values.max() == 0:
            raise UserError(f"{file} is silent between data.start and its end: every sample is 0.")
        return Matrix(
            values.clip(self.floor * values.max()),
            [f"{time:.4f} s" for time in sound.times],
            [f"{frequency:.2f} Hz" for frequency in sound.frequencies],
            kind="sound",
            extra={"phase": np.angle(spectrum)},
            sound=sound,
            sources={
                sound.name: file_sha256(sound) for sound in (file, *(f for _, f in stems.values()))
            }
            if self.origin is None
            else self.origin.sources(self.path),
            citation="" if self.origin is None else self.origin.citation,
            remarks=remarks,
        )

    def _check(self) -> None:
        if self.n_fft < 2 or not 1 <= self.hop <= self.n_fft:
            raise UserError(
                f"data.n_fft={self.n_fft} data.hop={self.hop}: a window has at least 2 samples, and the "
                "hop lies between 1 and the window."
            )
        for name, value, sound in (
            ("power", self.power, self.power > 0),
            ("floor", self.floor, 0 <= self.floor < 1),
            ("start", self.start, self.start >= 0),
            ("seconds", self.seconds, self.seconds is None or self.seconds > 0),
        ):
            if not sound:
                raise UserError(
                    f"data.{name}={value}: needed are power > 0, 0 <= floor < 1, start >= 0, seconds > 0."
                )

    def _stems(self, wave: np.ndarray, rate: int) -> dict[str, tuple[np.ndarray, Path]]:
        """The waves that were mixed, and their files."""
        found = {}
        for name, path in (self.stems or {}).items():
            file = check_file(path)
            own, stem, _ = _read_wave(file)
            stem = self._cut(stem, own, Path(path)) if own == rate else stem
            if own != rate or len(stem) != len(wave):
                raise UserError(
                    f"data.stems.{name}={path} has {len(stem)} samples at {own} Hz and the mixture "
                    f"{len(wave)} at {rate} Hz: a stem is as long as what it is a part of."
                )
            if not stem.any():
                raise UserError(f"data.stems.{name}={path} is silent: leave it out.")
            found[name] = stem, file
        return found

    def _cut(self, wave: np.ndarray, rate: int, file: Path) -> np.ndarray:
        first = round(self.start * rate)
        last = len(wave) if self.seconds is None else first + round(self.seconds * rate)
        part = wave[first:last]
        if len(part) < self.n_fft:
            raise UserError(
                f"{file} has {len(part)} samples ({len(part) / rate:.3g} s at {rate} Hz) between "
                f"data.start and its end, fewer than a window of data.n_fft={self.n_fft}."
            )
        return part


def _read_wave(file: Path) -> tuple[int, np.ndarray, tuple[str, ...]]:
    """Samples a second, the wave in -1 ... 1 of one channel, and what was done to it."""
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks that hold no sound
            rate, wave = wavfile.read(file)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(
            f"{file} cannot be read as a wav file: {reason(error)}. Convert other formats to wav first."
        ) from error
    samples: Any = wave
    if samples.dtype.kind == "u":  # 8 bits: the middle is 128
        samples = (samples.astype(np.float64) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    samples = samples.astype(np.float64)
    if not np.isfinite(samples).all():
        raise UserError(f"{file} has samples that are NaN or infinite.")
    if samples.ndim == 1:
        return int(rate), samples, ()
    count = samples.shape[1]
    return int(rate), samples.mean(1), (f"The {count} channels of {file.name} were averaged.",)
