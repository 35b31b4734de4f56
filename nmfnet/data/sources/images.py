"""Images: a folder of pictures of one size, and the figures of a swimmer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import final

import numpy as np

from nmfnet.data.formats.raw import file_sha256, numbered
from nmfnet.data.matrix import Matrix, Truth
from nmfnet.data.sources.source import Source, encode_labels, image_size
from nmfnet.errors import UserError

__all__ = ["Images", "Swimmer"]

KINDS = (".png", ".jpg", ".jpeg", ".pgm", ".ppm", ".bmp", ".tif", ".tiff", ".gif")
"""Endings of files that are taken for pictures."""


@final
@dataclass(frozen=True, kw_only=True)
class Images(Source):
    """The pictures of a folder and of its subfolders: a row for each, grey from 0 (black) to 1 (white).

    Pictures in subfolders have the name of their folder as label. Colour becomes its luminance.

    Parameters
    ----------
    path : str
        The folder.
    size : [height, width], optional
        Bring all pictures to this size; None = they must be of one size.
    """

    path: str
    size: Sequence[int] | None = None

    def check(self) -> None:
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise UserError(f"data.path={self.path} {what}: give a folder of pictures.")

    def read(self) -> Matrix:
        """Every picture, in the order of their names."""
        self.check()
        folder = Path(self.path).expanduser()
        files = sorted(
            file for file in folder.rglob("*") if file.suffix.lower() in KINDS and file.is_file()
        )
        if not files:
            raise UserError(f"data.path={self.path} holds no picture ({', '.join(KINDS)}).")
        wanted = image_size(self.size)
        read = [_grey(file, wanted) for file in files]
        names = [file.relative_to(folder).as_posix() for file in files]
        shape = read[0][0].shape
        for name, (pixels, _) in zip(names, read, strict=True):
            if pixels.shape != shape:
                sizes = [f"{h} x {w}" for h, w in (shape, pixels.shape)]
                raise UserError(
                    f"{names[0]!r} has {sizes[0]} pixels and {name!r} {sizes[1]}: images must be of one "
                    f"size; data.size=[{shape[0]},{shape[1]}] brings all to that of the first."
                )
        coloured = sum(colour for _, colour in read)
        classes = [file.parent.relative_to(folder).as_posix() for file in files]
        labels, label_names = encode_labels(classes) if set(classes) != {"."} else (None, None)
        return Matrix(
            np.stack([pixels.ravel() for pixels, _ in read]),
            names,
            _pixels(shape),
            kind="image",
            image_shape=shape,
            labels=labels,
            label_names=label_names,
            sources={name: file_sha256(file) for name, file in zip(names, files, strict=True)},
            remarks=(
                f"{coloured} of {len(files)} pictures are in colour: their luminance is used.",
            )
            if coloured
            else (),
        )


def _grey(file: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, bool]:
    """Pixels in [0, 1], and whether the picture has colours."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            deep = opened.mode.startswith(("I", "F"))  # more than 8 bits a pixel
            colour = not deep and opened.mode not in ("1", "L", "LA")
            picture = opened.convert("F" if deep else "L")
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as a picture: {error}") from error
    if size is not None:
        picture = picture.convert("F").resize((size[1], size[0]), Image.Resampling.BOX)
    pixels = np.asarray(picture, np.float64) / (65535 if deep else 255)
    return pixels, colour


def _pixels(shape: tuple[int, ...]) -> list[str]:
    return [f"pixel_{row}_{column}" for row in range(shape[0]) for column in range(shape[1])]


WAYS = ((-1, 1), (0, 1), (1, 1), (2, 1))
LIMBS = {
    "left arm": (9, 13, -1),
    "right arm": (9, 18, 1),
    "left leg": (22, 13, -1),
    "right leg": (22, 18, 1),
}
"""Where a limb is joined (row, column), and its side; it points in one of the ways (down, outward)."""


@final
@dataclass(frozen=True, kw_only=True)
class Swimmer(Source):
    """256 images, 32 x 32, of a swimmer: a torso and four limbs, each in one of four positions.

    X = W H exactly, with 17 parts: the torso, which is in every image, and the positions of the limbs.
    Since the torso is always there, shares of it can lie in other parts, so H is not unique. And a limb
    that moves is four parts: no linear model knows that they are one limb.

    Source: Donoho & Stodden 2004, "When does non-negative matrix factorization give a correct
    decomposition into parts?", section 5 (the design; the drawing is our own).
    """

    def read(self) -> Matrix:
        """All 4⁴ combinations of positions, and the true parts."""
        torso = np.zeros((32, 32))
        torso[9:23, 14:18] = 1
        names, parts = ["torso"], [torso]
        for limb, (row, column, side) in LIMBS.items():
            for number, (down, out) in enumerate(WAYS, start=1):
                drawn = np.zeros((32, 32))
                reach = np.arange(1, 8, 0.25) / np.hypot(down, out)
                at = np.round([row + reach * down, column + side * reach * out]).astype(int)
                drawn[at[0], at[1]] = 1
                names.append(f"{limb} {number}")
                parts.append(drawn)
        H = np.stack([part.ravel() for part in parts])
        poses = np.array(list(product(range(4), repeat=4)))
        W = np.zeros((len(poses), 17))
        W[:, 0] = 1
        for column, way in enumerate(poses.T):
            W[np.arange(len(poses)), 1 + 4 * column + way] = 1
        return Matrix(
            W @ H,
            numbered("pose", len(poses)),
            _pixels((32, 32)),
            kind="image",
            image_shape=(32, 32),
            truth=Truth(W, H, names),
        )
