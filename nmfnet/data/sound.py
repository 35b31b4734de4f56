"""A wave behind a spectrogram: from the one to the other and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

__all__ = ["Sound"]


@final
@dataclass(frozen=True)
class Sound:
    """What a spectrogram was made of.

    Attributes
    ----------
    wave : ndarray of float64, shape (n,)
        One channel, in -1 ... 1.
    rate : int
        Samples a second.
    n_fft, hop : int
        Samples of a (Hann) window, and from one frame to the next.
    power : float
        Of the magnitudes in X: 1 = amplitudes, 2 = energies.
    start : float
        Where the wave begins in its file, in seconds.
    stems : dict of str to ndarray, shape (n,)
        The waves that were mixed, where they are known.
    parts : bool
        Whether a run writes what its components sound like.
    """

    wave: np.ndarray
    rate: int
    n_fft: int
    hop: int
    power: float = 1.0
    start: float = 0.0
    stems: dict[str, np.ndarray] = field(default_factory=dict)
    parts: bool = True

    @cached_property
    def _transform(self) -> Any:
        from scipy.signal import ShortTimeFFT
        from scipy.signal.windows import hann

        return ShortTimeFFT(hann(self.n_fft, sym=False), self.hop, fs=self.rate)

    @property
    def times(self) -> np.ndarray:
        """Of the frames, in seconds: shape (n_frames,)."""
        return self.start + self._transform.t(len(self.wave))

    @property
    def frequencies(self) -> np.ndarray:
        """Of the bins, in Hz: shape (n_fft // 2 + 1,)."""
        return self._transform.f

    def spectrum(self) -> np.ndarray:
        """The complex short-time Fourier transform, shape (n_frames, n_bins)."""
        return self._transform.stft(self.wave).T

    def masked(self, mask: np.ndarray) -> np.ndarray:
        """The wave whose transform is ``mask`` (n_frames, n_bins) times that of this one.

        Waves of masks that sum to 1 sum to this wave, since the transform is linear.
        """
        return self._transform.istft((mask * self.spectrum()).T, k1=len(self.wave))

    def write(self, file: Path, wave: np.ndarray) -> None:
        """Write a wave of this rate as a wav file of 32-bit numbers."""
        from scipy.io import wavfile

        wavfile.write(file, self.rate, wave.astype(np.float32))
