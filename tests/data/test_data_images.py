"""Folders of pictures (``data=images``), standardised images and the swimmer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import nmfnet as command
from shell import train

from nmfnet import UserError, metrics
from nmfnet.data import Images, Swimmer
from nmfnet.data.sources.catalogue import _standardised


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of grey pictures of 6 x 4 pixels."""
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(256, size=(6, 4)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{i}.png")
    return tmp_path / "pictures"


def test_pixels_labels_and_names_of_a_folder(folder):
    matrix = Images(path=str(folder)).read()
    matrix.check()
    assert matrix.shape == (6, 24)
    assert matrix.image_shape == (6, 4)
    assert matrix.sample_names[0] == "a/0.png"
    assert [matrix.label_names[i] for i in matrix.labels] == ["a"] * 3 + ["b"] * 3
    wanted = np.asarray(Image.open(folder / "a" / "0.png")).ravel() / 255
    np.testing.assert_allclose(matrix.values[0], wanted)


def test_depth_and_colour(tmp_path):
    deep = np.linspace(0, 65535, 12).reshape(3, 4).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(np.full((3, 4, 3), (255, 0, 0), np.uint8)).save(tmp_path / "red.png")
    matrix = Images(path=str(tmp_path)).read()
    np.testing.assert_allclose(matrix.values[0], deep.ravel() / 65535, atol=1e-6)
    np.testing.assert_allclose(matrix.values[1], 0.299, atol=0.003)
    assert "1 of 2 pictures are in colour" in matrix.notes()[0]
    assert matrix.labels is None


def test_pictures_of_different_sizes_are_refused_or_resized(folder):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "b" / "odd.png")
    with pytest.raises(UserError, match=r"'a/0.png' has 6 x 4 .*'b/odd.png' 5 x 5.*size=\[6,4\]"):
        Images(path=str(folder)).read()
    assert Images(path=str(folder), size=[3, 2]).read().shape == (7, 6)


def test_what_is_no_folder_of_pictures_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (folder / "a" / "broken.png").write_text("no picture")
    for path, words in (
        (tmp_path / "none", "does not exist"),
        (folder / "a" / "0.png", "is a file"),
        (tmp_path / "empty", "holds no picture"),
        (folder, "cannot be read as a picture"),
    ):
        with pytest.raises(UserError, match=words):
            Images(path=str(path)).read()


def test_a_folder_of_pictures_is_fitted_and_its_parts_are_drawn(folder, tmp_path):
    words = (f"data.path={folder}", "data=images", "model.n_components=2", "max_iter=20")
    done = train(*words, f"run_dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.code == 0
    assert (tmp_path / "run" / "figures" / "parts.png").is_file()
    assert "components/negative" in command("show", str(tmp_path / "run"), cwd=tmp_path).out


def test_standardised_images_have_the_mean_and_deviation():
    values = np.random.default_rng(0).normal(0.4, 0.05, (20, 300))
    values[3] = 0.7
    found = _standardised(values, [0.25, 0.05])
    np.testing.assert_allclose(found.mean(1), 0.25, atol=1e-3)
    np.testing.assert_allclose(np.delete(found, 3, 0).std(1), 0.05, atol=1e-3)
    np.testing.assert_allclose(found[3], 0.25)
    with pytest.raises(UserError, match=r"data\.standardise=\[0.25\]"):
        _standardised(values, [0.25])


def test_the_swimmer_is_the_product_of_its_parts():
    matrix = Swimmer().read()
    matrix.check()
    assert matrix.shape == (256, 1024)
    assert matrix.values.max() == 1
    np.testing.assert_array_equal(matrix.values, matrix.truth.W @ matrix.truth.H)
    assert len(np.unique(matrix.values, axis=0)) == 256
    assert metrics.svd_floor(matrix.values, 13) < 1e-9  # 17 parts, but each limb's four sum to one
