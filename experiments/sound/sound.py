"""Notes of a piano, separation of a mixture, and convolutive NMF beside torchnmf.

python experiments/sound/sound.py OUT [--peers]     (OUT: folder for the tables)
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy.io import wavfile
from scipy.signal import resample_poly

import nmfnet
from nmfnet.data import Audio, InMemory
from nmfnet.data.sources.registry import source
from nmfnet.metrics import kl, note_name, pitch
from nmfnet.run.train import train
from nmfnet.settings.words import configuration

RATE = 22050
SCORE = ("C5", "Ab4", "F4", "Db4")  # of piano-fevotte, by the article that recorded it


def main() -> None:
    """All tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--peers", action="store_true", help="torchnmf, which must be installed")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    write(given.out / "notes.csv", notes())
    with TemporaryDirectory() as folder:
        write(given.out / "separation.csv", separation(Path(folder)))
    if given.peers:
        write(given.out / "nmfd.csv", beside_torchnmf())


def notes() -> list[dict[str, object]]:
    """Which notes the components are, of a piano of which the score is known."""
    rows = []
    for loss, power in (("kl", 1.0), ("itakura_saito", 2.0)):
        X = as_frame(source("piano-fevotte", power=power))
        hertz = [float(name.split()[0]) for name in X.columns]
        for k in (4, 6, 8):
            fitted = nmfnet.fit(X, n_components=k, loss=loss, n_restarts=10, threads=1)
            found = {note_name(pitch(row, hertz)) for row in fitted.components_} - {""}
            rows.append(
                {
                    "loss": loss,
                    "components": k,
                    "notes of the score": len(found & set(SCORE)),
                    "others": " ".join(sorted(found - set(SCORE))),
                    "status": fitted.metrics["status"],
                }
            )
    return rows


def separation(folder: Path) -> list[dict[str, object]]:
    """Bases of each sound from different clips, 12 components each, held in their mixture."""
    return [
        row
        for name, clips in (("piano and drums", piano_and_drums()), ("two pianos", two_pianos()))
        for row in separated(folder / name, name, clips)
    ]


Clips = dict[str, dict[str, np.ndarray]]


def piano_and_drums() -> Clips:
    """The second half of a piano's clip and drums of our own; then what else bases may come from."""
    piano, other = wave_of("piano-fevotte"), wave_of("piano-smstools")
    half = len(piano) // 2
    return {
        "the same clips": {"piano": piano[half:], "drums": drums(len(piano) - half, 0)},
        "other clips": {"piano": piano[:half], "drums": drums(half, 0, late=0.21)},
        "other instruments": {"piano": other, "drums": drums(len(other), 1)},
    }


def two_pianos() -> Clips:
    """The second half of a phrase, and as much of another piano, equally loud."""
    a, b = wave_of("piano-smstools"), wave_of("piano-fevotte")
    half, middle = len(a) // 2, len(b) // 2
    a, b = a / a.std(), b / b.std()
    return {
        "the same clips": {"one": a[half:], "other": b[middle : middle + len(a) - half]},
        "other clips": {"one": a[:half], "other": b[:middle]},
    }


def separated(folder: Path, name: str, clips: Clips) -> list[dict[str, object]]:
    """A row for every origin of the bases, and one without bases."""
    folder.mkdir()
    files = {
        clip: {sound: str(folder / f"{clip} {sound}.wav") for sound in waves}
        for clip, waves in clips.items()
    }
    for clip, waves in clips.items():
        for sound, wave in waves.items():
            wavfile.write(files[clip][sound], RATE, wave.astype(np.float32))
    mixture = str(folder / "mixture.wav")
    wavfile.write(mixture, RATE, sum(clips["the same clips"].values()).astype(np.float32))
    mixed = Audio(path=mixture, stems=files["the same clips"], parts=False)
    rows = []
    for clip in clips:
        bases = {sound: str(folder / f"run {clip} {sound}") for sound in clips[clip]}
        for sound, run_dir in bases.items():
            fit(Audio(path=files[clip][sound], parts=False), run_dir, model="plca")
        found = fit(mixed, None, model="reference_nmf", loss="kl", reference=bases)
        rows.append({"mixture": name, "bases from": clip} | scores(found))
    found = fit(mixed, None, model="plca", n_components=24)
    return [
        *rows,
        {"mixture": name, "bases from": "the mixture, joined by the stems"} | scores(found),
    ]


def fit(clip: Audio, run_dir: str | None, **settings: object) -> dict[str, float]:
    """The numbers of one run; 12 components unless said otherwise."""
    if settings["model"] == "plca":
        settings = {"n_components": 12} | settings
    cfg = configuration({"progress": False, "figures": False, "threads": 1, **settings})
    result = train(cfg.but(run_dir=run_dir), clip, write=run_dir is not None)
    return dict(result.metrics)


def scores(metrics: dict[str, float]) -> dict[str, object]:
    """Means over the two sounds, in dB."""
    return {key: round(metrics[f"sound/{key}"], 1) for key in ("si_sdr", "gain")}


def drums(length: int, seed: int, late: float = 0.0) -> np.ndarray:
    """A kick every second and a burst of noise between: two drums that the seed tunes."""
    rng = np.random.default_rng(seed)
    t = np.arange(length) / RATE + late
    kick = np.sin(2 * np.pi * (60 + 15 * seed) * t) * np.exp(-9 * (t % 1))
    noise = rng.normal(size=length) * np.exp(-(25 + 10 * seed) * ((t + 0.5) % 1))
    return 0.25 * kick + 0.08 * noise


def wave_of(name: str) -> np.ndarray:
    """A clip of the catalogue at the common rate."""
    sound = source(name).read().sound
    return resample_poly(sound.wave, RATE, sound.rate)


def as_frame(clip: Audio) -> pd.DataFrame:
    """Its spectrogram."""
    matrix = clip.read()
    return pd.DataFrame(matrix.values, matrix.sample_names, matrix.feature_names)


def beside_torchnmf(taps: int = 8, k: int = 6) -> list[dict[str, object]]:
    """CPU seconds from one start to one KL, that of nmfnet after 100 iterations; medians of three."""
    import torch

    torch.set_num_threads(1)
    X = source("piano-fevotte").read().values.astype(np.float32)
    rng = np.random.default_rng(0)
    W, T = rng.uniform(size=(len(X), k)), rng.uniform(size=(k * taps, X.shape[1]))
    W[len(X) - taps + 1 :] = 0  # the peer's templates end inside the clip
    ours, theirs = [], []
    for _ in range(3):
        began = time.process_time()
        goal = convolutive(X, W, T, k, taps)
        ours.append({"CPU s": time.process_time() - began, "KL": goal, "iterations": 100})
        theirs.append(torchnmf_to(goal, X, W, T, k, taps))
    return [
        {"program": name} | {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
        for name, runs in (("nmfnet", ours), ("torchnmf", theirs))
    ]


def convolutive(X: np.ndarray, W: np.ndarray, T: np.ndarray, k: int, taps: int) -> float:
    """KL after 100 iterations of nmfnet."""
    settings = {"model": "nmfd", "loss": "kl", "solver": "mu", "init": "given", "taps": taps}
    settings |= {"n_components": k, "max_iter": 100, "tol": 0, "certificate_tol": None}
    cfg = configuration({**settings, "progress": False, "threads": 1})
    result = train(cfg, InMemory(X=X), write=False, given={"W": W, "T": T})
    return float(result.metrics["objective"])


def torchnmf_to(
    goal: float, X: np.ndarray, W: np.ndarray, T: np.ndarray, k: int, taps: int
) -> dict[str, float]:
    """Seconds and iterations of torchnmf until it is as low, or 2,000."""
    import torch
    from torchnmf.nmf import NMFD

    target = torch.from_numpy(X.T.copy())[None]
    templates = T.reshape(k, taps, -1).transpose(2, 0, 1).astype(np.float32)
    peer = NMFD(
        W=torch.from_numpy(templates.copy()),
        H=torch.from_numpy(W.T[None, :, : len(X) - taps + 1].astype(np.float32)),
    )
    spent, done, reached = 0.0, 0, np.inf
    while reached > goal and done < 2000:
        began = time.process_time()
        peer.fit(target, beta=1, tol=0, max_iter=50)
        spent, done = spent + time.process_time() - began, done + 50
        with torch.no_grad():
            reached = kl(X, peer().numpy()[0].T.astype(np.float64))
    return {"CPU s": spent, "KL": reached, "iterations": done}


def write(file: Path, rows: list[dict[str, object]]) -> None:
    """A table."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
