"""The set of figures of a run: which, how large, and that nothing global is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from nmfnet.errors import UserError
from nmfnet.plots import FIGURES, Run, run_figures, save, save_all
from nmfnet.plots.spectra import LAYOUTS
from nmfnet.plots.style import new_figure, readable, shorten

HISTORY = {"iteration": [0, 1, 2], "seconds": [0.0, 0.1, 0.2], "objective": [3.0, 2.0, 1.0]}


def case(kind: str, **changed: Any) -> Run:
    """A small run of each kind of data."""
    rng = np.random.default_rng(0)
    W, H = rng.random((12, 3)), rng.random((3, 96))
    names = LAYOUTS["sbs96"].keys if kind == "sbs96" else [f"word{i}" for i in range(96)]
    given = {
        "W": W,
        "H": H,
        "x": rng.poisson(W @ H * 3),
        "x_hat": W @ H * 3,
        "history": HISTORY,
        "kind": kind,
        "image_shape": (8, 12) if kind == "image" else None,
        "sample_names": [f"sample {i}" for i in range(12)],
        "feature_names": names,
        "labels": np.arange(12) % 3,
        "label_names": ["a", "b", "c"],
        "reference": rng.random((5, 96)),
        "restarts_objective": [1.0, 1.5],
    }
    return Run(**given | changed)


@pytest.mark.parametrize("kind", ["image", "text", "sbs96", "generic"])
def test_a_run_draws_every_figure(kind: str, tmp_path: Path) -> None:
    drawn = dict(run_figures(case(kind)))
    assert list(drawn) == [
        *("components", "reconstruction", "weights_by_class", "weights", "reference"),
        *(["topic_map"] if kind == "text" else []),
        *("convergence", "restarts"),
    ]
    for name, figure in drawn.items():
        path = save(figure, tmp_path / "figures" / f"{name}.png")
        assert 2_000 < path.stat().st_size < 300_000
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
        assert min(sizes) >= 7


def test_only_what_is_known_is_drawn() -> None:
    given = case("generic")
    drawn = dict(run_figures(Run(W=given.W, H=given.H, restarts_objective=[1.0])))
    assert list(drawn) == ["components", "weights"]


def test_one_bad_figure_does_not_spoil_the_others() -> None:
    run = case("image", image_shape=(5, 5), labels=[0])
    with pytest.raises(UserError, match="image_shape"):
        FIGURES["components"].draw(run)
    with pytest.raises(UserError, match="labels"):
        FIGURES["weights_by_class"].draw(run)
    FIGURES["weights"].draw(run).canvas.draw()


def test_the_decoder_is_asked_for_the_rows_that_are_drawn() -> None:
    given = case("generic")
    plain = FIGURES["reconstruction"].draw(case("generic", x_hat=None))
    decoder = case("generic", x_hat=lambda W: W @ given.H)
    called = FIGURES["reconstruction"].draw(decoder)
    for left, right in zip(plain.axes, called.axes, strict=True):
        assert left.get_title(loc="left") == right.get_title(loc="left")


def test_weights_are_drawn_in_units_of_the_data() -> None:
    given = case("sbs96")
    figure = FIGURES["weights"].draw(given)
    axes = next(axes for axes in figure.axes if axes.get_label() == "amount")
    tops = [max(p.vertices[:, 1].max() for p in c.get_paths()) for c in axes.collections]
    assert max(tops) == pytest.approx((given.W @ given.H).sum(axis=1).max())


def test_same_figure_same_bytes_and_size_in_pixels(tmp_path: Path) -> None:
    from PIL import Image

    run = case("image")
    for name in ("convergence", "components", "weights"):
        first, second = (
            save(FIGURES[name].draw(run), tmp_path / f"{name}{i}.png") for i in range(2)
        )
        assert first.read_bytes() == second.read_bytes()
    figure = new_figure(8.3, 5.36)  # 8.3 * 150 is no whole number in floating point
    with Image.open(save(figure, tmp_path / "size.png")) as image:
        assert abs(image.width - 1245) <= 1
        assert abs(image.height - 804) <= 1
    assert figure.dpi == 100
    assert save(figure, tmp_path / "size.pdf").read_bytes()[:4] == b"%PDF"
    first, second = (save(figure, tmp_path / f"{i}.svg").read_bytes() for i in range(2))
    assert first == second
    assert b"</svg>" in first
    with pytest.raises(UserError, match=r"no \.png, \.pdf, \.svg file"):
        save(figure, tmp_path / "size.gif")


def test_no_figures_leave_no_folder(tmp_path: Path) -> None:
    save_all({}, tmp_path / "figures", True)
    assert not (tmp_path / "figures").exists()


def test_saved_pixels_are_those_that_were_drawn(tmp_path: Path) -> None:
    from PIL import Image

    figure = new_figure(2.0, 1.0)
    figure.patch.set_facecolor("#336699")
    with Image.open(save(figure, tmp_path / "blue.png")) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels == [0x33, 0x66, 0x99]).all()


def test_the_palette_keeps_every_shade(tmp_path: Path) -> None:
    from PIL import Image

    figure = FIGURES["weights_by_class"].draw(case("generic"))
    figure.set_dpi(150)
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)  # type: ignore[attr-defined]
    with Image.open(save(figure, tmp_path / "shades.png")) as image:
        assert image.mode == "P"
        error = np.abs(np.asarray(image.convert("RGB")).astype(int) - drawn)
    assert error.max() <= 8
    assert (error > 2).mean() < 1e-3


def run_python(code: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = run_python(
        "import sys, json, nmfnet, nmfnet.plots\n"
        "print(json.dumps({m: m in sys.modules for m in "
        "('matplotlib', 'numpy', 'pandas', 'scipy', 'torch')}))"
    )
    assert not any(loaded.values()), loaded


def test_figures_of_digits_leave_pyplot_alone(tmp_path: Path) -> None:
    code = f"""
import json, sys
import numpy as np
rng = np.random.default_rng(0)
W, H = rng.gamma(0.5, 1, (1797, 16)), rng.gamma(0.5, 1, (16, 64))
from nmfnet.plots import Run, run_figures, save
seconds = np.arange(50.0)
history = dict(iteration=seconds, seconds=seconds, objective=1 / (1 + seconds))
figures = run_figures(Run(W=W, H=H, x=W @ H, history=history, kind="image", image_shape=(8, 8),
    labels=rng.integers(0, 10, 1797), restarts_objective=[1.0, 2.0]))
for name, figure in figures:
    save(figure, f"{tmp_path}/{{name}}.png")
import matplotlib
print(json.dumps(dict(pyplot="matplotlib.pyplot" in sys.modules,
    pandas="pandas" in sys.modules, changed=dict(matplotlib.rcParams) !=
    dict(matplotlib.rcParamsDefault) and matplotlib.rcParams["font.size"] != 10)))
"""
    result = run_python(code)
    assert not result["pyplot"]
    assert not result["pandas"]
    assert not result["changed"]
    assert len(list(tmp_path.glob("*.png"))) == 6


def test_small_words() -> None:
    assert [readable(v) for v in (0, 12345.6, 0.012345, 1.5, 2e9, -3)] == [
        *("0", "12,346", "0.01235", "1.5", "2e+09", "-3"),
    ]
    assert shorten("a name that ends in 17", 12) == "a name…n 17"
    assert shorten("two\nlines", 20) == "two lines"
    assert shorten("US$ and $", 20) == r"US\$ and \$"
    assert shorten(shorten("$x$", 9), 9) == r"\$x\$"


@pytest.mark.slow
@pytest.mark.catalogue
def test_real_signatures_find_their_reference(tmp_path: Path) -> None:
    import os

    import pandas as pd

    folder = Path(os.environ["NMFNET_DATA"])
    data = pd.read_csv(folder / "sbs21-breast/Samples_SBS.txt", sep="\t", index_col=0)
    file = folder / "sbs-reference-2020/sigProfiler_SBS_signatures_2019_05_22.csv"
    table = pd.read_csv(file)
    table.index = table.iloc[:, 0] + " " + table.iloc[:, 1]
    reference = table.iloc[:, 2:].T
    H = np.stack([reference.loc[name] for name in ("SBS13", "SBS1")])
    keys = [f"{n[-3]}[{n[:3]}]{n[-1]}" for n in table.index]
    H = pd.DataFrame(H, columns=keys)[list(data.index)].to_numpy()
    W = np.linalg.lstsq(H.T, data.to_numpy(), rcond=None)[0].T.clip(0)
    drawn = dict(
        run_figures(
            Run(
                W=W,
                H=H,
                x=data.T.to_numpy(),
                kind="sbs96",
                feature_names=list(data.index),
                sample_names=list(data.columns),
                reference=reference,
            )
        )
    )
    axes = next(axes for axes in drawn["reference"].axes if axes.get_label() == "cosine")
    assert [t.get_text() for t in axes.get_xticklabels()][:2] == ["SBS13", "SBS1"]
    for name, figure in drawn.items():
        save(figure, tmp_path / f"{name}.png")
