"""Libraries that say less than they would."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["quiet"]


@contextmanager
def quiet(loggers: Sequence[str], *, module: str, messages: Sequence[str] = ()) -> Iterator[None]:
    """Errors only from some loggers, and no warnings of a package; as before at the end.

    Parameters
    ----------
    loggers : sequence of str
        Names, as of ``logging.getLogger``; those that set a level of their own.
    module : str
        Package whose warnings are left out.
    messages : sequence of str
        Patterns of warnings that are left out wherever they come from.
    """
    noisy = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=module)
        for message in messages:
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            for logger, level in zip(noisy, levels, strict=True):
                logger.setLevel(level)
