"""Sound as a spectrogram (``data=audio``), and convolutive NMF on it."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from kinds import assert_restarts_are_runs, assert_resumes, relative, started
from scipy.io import wavfile
from scipy.optimize import linear_sum_assignment
from shell import refusal, train

import nmfnet
from nmfnet.core.objective import misfit
from nmfnet.data import Audio, InMemory, NoSplit
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.registry import source as data_set
from nmfnet.metrics import note_name, pitch, separation
from nmfnet.plots.sound import spectrogram
from nmfnet.run.evaluate import factors_of
from nmfnet.run.sound import parts_of, write_parts

RATE = 8000

fit = functools.partial(nmfnet.fit, model="nmfd", figures=False, threads=1)


def tones(seconds: float = 1.0) -> np.ndarray:
    """500 Hz in the first half, 1000 Hz in the second."""
    t = np.arange(round(seconds * RATE)) / RATE
    return 0.5 * np.sin(2 * np.pi * np.where(t < seconds / 2, 500, 1000) * t)


@pytest.fixture
def wave(tmp_path: Path) -> Path:
    wavfile.write(tmp_path / "tones.wav", RATE, (tones() * 32767).astype(np.int16))
    return tmp_path / "tones.wav"


def planted(n: int = 120, k: int = 3, taps: int = 6, f: int = 20):
    """Templates of several rows that start now and then."""
    rng = np.random.default_rng(0)
    W = rng.uniform(0.5, 1, (n, k)) * (rng.random((n, k)) < 0.06)
    T = rng.exponential(size=(k, taps, f)) * (rng.random((k, taps, f)) < 0.4)
    return convolved(W, T), W, T


def convolved(W: np.ndarray, T: np.ndarray) -> np.ndarray:
    n = len(W)
    return sum(np.pad(W, ((t, 0), (0, 0)))[:n] @ T[:, t] for t in range(T.shape[1]))


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two templates (taps, f), the best over shifts in time."""
    taps = len(a)
    wide = np.pad(b, ((taps, taps), (0, 0)))
    dots = [float((a * wide[s : s + taps]).sum()) for s in range(2 * taps + 1)]
    return max(dots) / float(np.linalg.norm(a) * np.linalg.norm(b))


# ---------------------------------------------------------------------- reading
def test_rows_are_frames_and_columns_are_frequencies(wave):
    matrix = Audio(path=str(wave), n_fft=256, hop=64).read()
    matrix.check()
    assert matrix.shape[1] == 129
    hertz = np.array([float(name.removesuffix(" Hz")) for name in matrix.feature_names])
    assert hertz[1] == pytest.approx(RATE / 256, abs=0.01)
    times = np.array([float(name.removesuffix(" s")) for name in matrix.sample_names])
    loudest = hertz[matrix.values.argmax(1)]
    assert set(loudest[(times > 0.1) & (times < 0.4)]) == {500.0}
    assert set(loudest[(times > 0.6) & (times < 0.9)]) == {1000.0}


def test_phase_and_power_give_the_sound_again(wave):
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    transform = ShortTimeFFT(hann(256, sym=False), 64, fs=RATE)
    for power in (1.0, 2.0):
        matrix = Audio(path=str(wave), n_fft=256, hop=64, power=power, floor=0.0).read()
        spectrum = matrix.values ** (1 / power) * np.exp(1j * matrix.extra["phase"])
        again = transform.istft(spectrum.T, k1=RATE)
        np.testing.assert_allclose(again, tones(), atol=1e-4)  # 16 bits


def test_a_part_channels_and_the_floor(wave, tmp_path):
    part = Audio(path=str(wave), n_fft=256, hop=64, start=0.5, seconds=0.25).read()
    whole = Audio(path=str(wave), n_fft=256, hop=64).read()
    assert part.shape[0] < whole.shape[0] / 2
    assert float(part.sample_names[10].removesuffix(" s")) > 0.5
    assert whole.values.min() >= 1e-10 * whole.values.max() > 0
    both = np.stack([tones(), 0 * tones()], 1)
    wavfile.write(tmp_path / "stereo.wav", RATE, both.astype(np.float32))
    stereo = Audio(path=str(tmp_path / "stereo.wav"), n_fft=256, hop=64).read()
    assert "The 2 channels of stereo.wav were averaged." in stereo.notes()
    np.testing.assert_allclose(stereo.values, whole.values / 2, atol=1e-2)
    eight = np.round(128 + 127 * tones()).astype(np.uint8)
    wavfile.write(tmp_path / "eight.wav", RATE, eight)
    coarse = Audio(path=str(tmp_path / "eight.wav"), n_fft=256, hop=64).read()
    assert relative(whole.values, coarse.values) < 0.02


def test_bad_sound_is_refused_in_a_sentence(wave, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    wavfile.write(tmp_path / "silent.wav", RATE, np.zeros(RATE, dtype=np.int16))
    wavfile.write(tmp_path / "nan.wav", RATE, np.full(RATE, np.nan, dtype=np.float32))
    for options, message in (
        ({"path": str(tmp_path / "none.wav")}, "none.wav"),
        ({"path": str(tmp_path / "text.wav")}, r"cannot be read as a wav file: .*[^.]\. Convert"),
        ({"path": str(tmp_path / "silent.wav")}, "is silent"),
        ({"path": str(tmp_path / "nan.wav")}, "NaN or infinite"),
        ({"hop": 2000}, "the hop lies between 1 and the window"),
        ({"power": 0.0}, r"data\.power=0\.0: needed are power > 0"),
        ({"floor": -1.0}, r"data\.floor=-1\.0"),
        ({"start": 0.95}, "fewer than a window"),
        ({"seconds": 0.0}, r"data\.seconds=0\.0"),
    ):
        with pytest.raises(nmfnet.UserError, match=message):
            Audio(**{"path": str(wave), "n_fft": 1024, **options}).read()


# ---------------------------------------------------------------------- the model
@pytest.mark.slow
def test_one_tap_is_nmf():
    """The same start and solver: the same objective."""
    from kinds import QUIET

    from nmfnet.api import configuration
    from nmfnet.run.train import train as run

    X = planted()[0] + 0.1
    rng = np.random.default_rng(0)
    W, H = rng.uniform(size=(len(X), 3)), rng.uniform(size=(3, X.shape[1]))
    for loss in ("kl", "frobenius"):
        own = {"n_components": 3, "solver": "mu", "init": "given", "loss": loss, "max_iter": 100}
        found = []
        for model, given in (("nmfd", {"W": W, "T": H}), ("nmf", {"W": W, "H": H})):
            one = {"taps": 1} if model == "nmfd" else {}
            cfg = configuration({"model": model, "dtype": "float64", **own, **one, **QUIET})
            found.append(run(cfg, InMemory(X=X), write=False, given=given).metrics["objective"])
        assert found[0] == pytest.approx(found[1], rel=1e-9)


@pytest.mark.quick("frobenius")
@pytest.mark.parametrize("loss", ["kl", "frobenius"])
def test_planted_templates_are_found(loss):
    X, _, T = planted()
    fitted = fit(X, n_components=3, taps=6, loss=loss, n_restarts=5, max_iter=600)
    assert fitted.metrics["solver"] == "mu"
    found = fitted.factors["T"]()[int(fitted.best)].detach().numpy().reshape(T.shape)
    cosines = np.array([[likeness(a, b) for b in T] for a in found])
    assert cosines[linear_sum_assignment(-cosines)].mean() >= 0.9
    np.testing.assert_allclose(fitted.components_, found.sum(1), rtol=1e-5)


def test_x_hat_is_the_sum_of_shifted_templates():
    X = planted()[0]
    fitted = fit(X, n_components=3, taps=6, max_iter=20, dtype="float64")
    W = fitted.factors["W"]()[0].detach().numpy()
    T = fitted.factors["T"]()[0].detach().numpy().reshape(3, 6, 20)
    np.testing.assert_allclose(fitted.inverse_transform(W), convolved(W, T), atol=1e-12)
    assert fitted.metrics["train/relative_error"] == pytest.approx(
        relative(X, convolved(W, T)), rel=1e-9
    )


@pytest.mark.quick("frobenius")
@pytest.mark.parametrize("loss", ["kl", "frobenius", "itakura_saito"])
def test_a_clip_is_coded_as_a_whole(loss):
    """As well as in training, whether that had ended or not."""
    X = planted()[0][:60] + 0.05
    settings = {"n_components": 3, "taps": 6, "loss": loss, "dtype": "float64", "n_restarts": 2}
    _, batch = started(InMemory(X=X), model="nmfd", n_components=3, taps=6)
    for max_iter in (50, 500):
        fitted = fit(X, max_iter=max_iter, **settings)
        with torch.no_grad(), fitted.restarts(int(fitted.best)):
            trained = float(misfit(fitted, batch, fitted.encode(batch)))
            again = float(misfit(fitted, batch, fitted.infer(batch)))
        assert again <= 1.0001 * trained
        assert trained == pytest.approx(fitted.metrics["train/loss"], rel=1e-9)
    with torch.no_grad():
        both = fitted.infer(batch)
    np.testing.assert_array_equal(both[int(fitted.best)].numpy(), fitted.transform(X))
    shorter = fitted.transform(X[10:40])
    assert shorter.shape == (30, 3)
    assert shorter.min() >= 0


def test_large_clips_are_not_cut_into_blocks(monkeypatch):
    """Rows next to a border would lose their neighbours."""
    from nmfnet.kernels import rows

    X = planted()[0] + 0.05
    settings = {"n_components": 3, "taps": 6, "max_iter": 30, "dtype": "float64"}
    whole = fit(X, **settings)
    objective = whole.metrics["objective"]  # X is looked at in blocks to see whether it changed
    monkeypatch.setattr(rows, "BLOCK_ENTRIES", 100)
    blocked = fit(X, **settings)
    assert blocked.metrics["objective"] == objective
    assert np.array_equal(blocked.transform(X), whole.transform(X))


def test_single_rows_are_refused():
    X = planted()[0]
    for settings, message in (
        ({"batch_size": 10, "solver": "adam"}, "set batch_size=null"),
        ({"split": "rows"}, "rows cannot be held out"),
        ({"taps": 0}, "taps=0"),
        ({"taps": 500}, "at most the 120 rows"),
    ):
        with pytest.raises(nmfnet.UserError, match=message):
            fit(X, **settings)
    held = fit(X, split="entries", taps=6, n_components=3, max_iter=50)
    assert held.metrics["test/relative_error"] < 1.5


def test_restarts_are_runs():
    own = {"model": "nmfd", "n_components": 2, "taps": 4, "loss": "kl"}
    assert_restarts_are_runs(InMemory(X=planted()[0] + 0.1), **own)


@pytest.mark.slow
def test_an_interrupted_run_continues(tmp_path):
    own = {"model": "nmfd", "n_components": 2, "taps": 4}
    assert_resumes(InMemory(X=planted()[0] + 0.1), tmp_path, **own)


def test_saved_and_loaded_is_the_same(tmp_path):
    X = planted()[0]
    own = {"n_components": 2, "taps": 4, "loss": "kl", "n_restarts": 2, "max_iter": 30}
    fitted = fit(X, **own, run_dir=tmp_path / "run")
    loaded = nmfnet.load(tmp_path / "run")
    assert np.array_equal(fitted.transform(X[:50]), loaded.transform(X[:50]))
    assert np.array_equal(fitted.reconstruct(X), loaded.reconstruct(X))
    with np.load(tmp_path / "run" / "factors.npz") as held:
        assert held["T"].shape == (8, 20)
        assert held["H"].shape == (2, 20)
        assert json.loads(str(held["axes"]))["T"] == ["template row", "feature"]


# ---------------------------------------------------------------------- the command
def test_the_command(wave, tmp_path):
    words = ["data=audio", f"data.path={wave}", "data.n_fft=256", "data.hop=64", "loss=kl"]
    done = train(
        *words, "model=nmfd", "model.n_components=2", "model.taps=4", "max_iter=20",
        "run_dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["solver"] == "mu"
    assert (tmp_path / "run" / "figures" / "reconstruction.png").is_file()
    again = train(*words, "loss=itakura_saito", "max_iter=5", "figures=false", cwd=tmp_path)
    assert again.code == 0, again.err
    said = refusal("data=audio", f"data.path={tmp_path}/none.wav", "model=nmfd", cwd=tmp_path,
                   leaving=("metrics.json", "png"))  # fmt: skip
    assert "none.wav" in said


@pytest.mark.catalogue
def test_the_piano_is_read():
    matrix = data_set("piano-fevotte").read()
    matrix.check()
    assert matrix.shape == (1353, 513)
    assert matrix.extra["phase"].shape == matrix.shape
    hertz = np.array([float(name.removesuffix(" Hz")) for name in matrix.feature_names])
    peaks = hertz[matrix.values.sum(0).argsort()[-20:]]
    for note in (277.2, 349.2, 415.3, 523.3):  # Db4, F4, Ab4, C5
        assert np.abs(peaks - note).min() < 22


# ---------------------------------------------------------------------- parts
def mixed(folder: Path) -> dict[str, Path]:
    """A tone, clicks, and both."""
    rng = np.random.default_rng(0)
    t = np.arange(2 * RATE) / RATE
    tone = 0.3 * sum(np.sin(2 * np.pi * 440 * h * t) / h for h in range(1, 6)) * (t % 1 < 0.7)
    clicks = 0.5 * rng.normal(size=len(t)) * np.exp(-40 * ((t + 0.1) % 0.4))
    waves = {"tone": tone, "clicks": clicks, "both": tone + clicks}
    for name, wave in waves.items():
        wavfile.write(folder / f"{name}.wav", RATE, wave.astype(np.float32))
    return {name: folder / f"{name}.wav" for name in waves}


def at_the_start(clip: Audio, **settings):
    """A model, its data and its factors: masks sum to 1 wherever training is."""
    data = MatrixDataModule(
        clip, NoSplit(), dtype=torch.float64, seed=0, device=torch.device("cpu")
    )
    data.setup()
    model, _ = started(clip, **settings)
    return model, data, factors_of(model, data)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("model", ["nmf", "nmfd"])
def test_parts_sum_to_the_mixture(model, power, tmp_path):
    clip = Audio(path=str(mixed(tmp_path)["both"]), n_fft=256, hop=64, power=power)
    fitted, data, factors = at_the_start(clip, model=model, n_components=3)
    parts = parts_of(fitted, data, factors)
    assert list(parts) == ["C1", "C2", "C3"]
    np.testing.assert_allclose(sum(parts.values()), clip.read().sound.wave, atol=1e-10)
    assert min(np.abs(part).max() for part in parts.values()) > 1e-3
    factors.names[:] = ["voice 1", "voice 2", "noise"]
    joined = parts_of(fitted, data, factors)
    np.testing.assert_allclose(joined["voice"], parts["C1"] + parts["C2"], atol=1e-10)
    np.testing.assert_allclose(joined["noise"], parts["C3"], atol=1e-10)


def test_a_model_whose_components_do_not_add_up_has_no_parts(tmp_path):
    clip = Audio(path=str(mixed(tmp_path)["both"]), n_fft=256, hop=64)
    fitted, data, factors = at_the_start(clip, model="prodlda", n_components=2)
    assert parts_of(fitted, data, factors) == {}
    write_parts(tmp_path, fitted, data, factors)
    assert "do not sum to X_hat" in data.notes[-1]
    assert not (tmp_path / "parts").exists()


def test_how_well_sounds_were_separated():
    """By hand: an estimate of a stem, a third of the other, and something in neither."""
    n = 3000
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(n, 3)))[0].T
    a, b, else_ = basis
    got = separation({"a": 5 * (a + b / 3 + 0.1 * else_), "b": b}, {"a": 2 * a, "b": b}, a + b)
    assert got["a/si_sdr"] == pytest.approx(-10 * np.log10(1 / 9 + 0.01), abs=1e-9)
    assert got["a/si_sir"] == pytest.approx(10 * np.log10(9), abs=1e-9)
    assert got["a/si_sar"] == pytest.approx(20, abs=1e-9)
    assert got["a/gain"] == pytest.approx(got["a/si_sdr"], abs=1e-9)  # the mixture is at 0 dB
    assert got["b/si_sdr"] > 200
    assert got["si_sdr"] == pytest.approx((got["a/si_sdr"] + got["b/si_sdr"]) / 2)
    assert "b/si_sdr" not in separation({"a": a}, {"a": a, "b": b}, a + b)


def test_silence_is_no_separation_and_equal_stems_span_one_direction():
    a, b = np.linalg.qr(np.random.default_rng(0).normal(size=(3000, 2)))[0].T
    silent = separation({"a": 0 * a, "b": b}, {"a": a, "b": b}, a + b)
    assert np.isnan([silent["a/si_sdr"], silent["a/gain"], silent["si_sdr"]]).all()
    twice = separation({"a": a + b}, {"a": a, "same": 2 * a}, a + b)
    assert twice["a/si_sar"] == pytest.approx(0, abs=1e-9)
    assert twice["a/si_sir"] > 200


def test_energies_have_the_decibels_of_their_amplitudes():
    X = np.random.default_rng(0).uniform(0.01, 1, (6, 5))
    drawn = []
    for power in (1.0, 2.0):
        axes, *_ = spectrogram(X**power, X**power, power=power).axes
        drawn.append(axes.images[0].get_array())
    np.testing.assert_allclose(drawn[0], drawn[1], atol=1e-9)
    np.testing.assert_allclose(drawn[0].T, 20 * np.log10(X / X.max()), atol=1e-9)


def test_notes_are_told_from_noise():
    hertz = np.linspace(0, 8000, 1025)
    for number in range(52, 85):
        f0 = 440 * 2 ** ((number - 69) / 12)
        peaks = sum(np.exp(-(((hertz - h * f0) / 8) ** 2)) / h for h in range(1, 9))
        assert pitch(peaks, hertz) == pytest.approx(f0)
    assert note_name(440.0) == "A4"
    assert note_name(277.2) == "Db4"
    noise = np.random.default_rng(0).exponential(size=1025)
    assert np.isnan(pitch(noise, hertz))
    assert np.isnan(pitch(np.zeros(1025), hertz))
    assert note_name(float("nan")) == ""


def test_stems_are_as_long_as_the_mixture(wave, tmp_path):
    wavfile.write(tmp_path / "short.wav", RATE, tones(0.5).astype(np.float32))
    wavfile.write(tmp_path / "slow.wav", RATE // 2, tones().astype(np.float32))
    wavfile.write(tmp_path / "silent.wav", RATE, np.zeros(RATE, dtype=np.float32))
    for name, message in (
        ("short", "is as long as what it is a part of"),
        ("slow", "at 4000 Hz"),
        ("silent", "is silent"),
        ("none", "none.wav"),
    ):
        with pytest.raises(nmfnet.UserError, match=message):
            Audio(path=str(wave), n_fft=256, hop=64, stems={"x": f"{tmp_path}/{name}.wav"}).read()


def test_bases_of_clips_separate_their_mixture(tmp_path):
    """Through the command: two clips are learned, and their bases held in a third."""
    files = mixed(tmp_path)
    sound = ["data=audio", "data.n_fft=256", "data.hop=64", "figures=false", "loss=kl"]
    for name in ("tone", "clicks"):
        done = train(*sound, f"data.path={files[name]}", "model=plca", "model.n_components=3",
                     "max_iter=50", "data.parts=false", f"run_dir=runs/{name}", cwd=tmp_path)  # fmt: skip
        assert done.code == 0, done.err
        assert not (tmp_path / "runs" / name / "parts").exists()
    stems = "{" + ", ".join(f"{name}: {files[name]}" for name in ("tone", "clicks")) + "}"
    bases = "{tone: runs/tone, clicks: runs/clicks}"
    done = train(*sound, f"data.path={files['both']}", "model=reference_nmf", "run_dir=out",
                 f"model.reference={bases}", f"data.stems={stems}", cwd=tmp_path)  # fmt: skip
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert numbers["sound/gain"] > 8
    assert numbers["sound/tone/si_sdr"] > 8
    assert "SDR" in done.out
    _, tone = wavfile.read(tmp_path / "out" / "parts" / "tone.wav")
    _, clicks = wavfile.read(tmp_path / "out" / "parts" / "clicks.wav")
    _, both = wavfile.read(files["both"])
    np.testing.assert_allclose(tone + clicks, both, atol=1e-6)
    notes = (tmp_path / "out" / "notes.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in notes[1:]] == [
        f"{name} {i}" for name in ("tone", "clicks") for i in (1, 2, 3)
    ]
    told = [*sound, f"data.path={files['both']}", "model=reference_nmf", "run_dir=out",
            f"model.reference={bases}", f"data.stems={stems}"]  # fmt: skip
    assert "finished before" in train(*told, cwd=tmp_path).out
    train(*sound, f"data.path={files['tone']}", "model=plca", "model.n_components=3", "max_iter=2",
          "data.parts=false", "run_dir=runs/tone", "force=true", cwd=tmp_path)  # fmt: skip
    assert "finished before" not in train(*told, cwd=tmp_path).out
    said = refusal(*sound, f"data.path={files['both']}", "model=reference_nmf",
                   "model.reference={tone: runs/tone, clicks: runs}", cwd=tmp_path)  # fmt: skip
    assert "runs" in said


@pytest.mark.slow
@pytest.mark.catalogue
def test_the_notes_of_a_piano_are_found():
    matrix = data_set("piano-fevotte").read()
    hertz = [float(name.split()[0]) for name in matrix.feature_names]
    fitted = nmfnet.fit(matrix.values, n_components=6, loss="kl", n_restarts=3, max_iter=300)
    found = {note_name(pitch(row, hertz)) for row in fitted.components_}
    assert {"Db4", "F4", "Ab4", "C5"} <= found
