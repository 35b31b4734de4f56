"""The arrays of a finished run, from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

from nmfnet.errors import UserError

__all__ = ["FACTORS", "read_factors"]

FACTORS = "factors.npz"
"""What a run folder holds its factors in."""


def read_factors(folder: Path) -> dict[str, Any]:
    """Everything in ``factors.npz`` of a run: ``W``, ``H`` and the names, by name.

    Raises
    ------
    UserError
        If it is not there, or not whole.
    """
    file = folder / FACTORS
    try:
        with file.open("rb") as stream:
            if stream.read(2) != b"PK":  # numpy would take it for a pickle, and advise to trust it
                raise BadZipFile
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as arrays:
                held = {name: arrays[name] for name in arrays.files}
    except (BadZipFile, ZlibError, ValueError, EOFError) as error:
        raise UserError(f"{file} is damaged: repeat the run with force=true") from error
    except OSError as error:
        why = error.strerror or "damaged"
        raise UserError(f"{file} cannot be read ({why}): repeat the run with force=true") from error
    if missing := [name for name in ("W", "H", "feature_names") if name not in held]:
        raise UserError(f"{file} holds no {missing[0]}: repeat the run with force=true")
    return held
