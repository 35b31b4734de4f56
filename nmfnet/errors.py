"""The one exception that means "the user can mend this", and how a command ends with it."""

from __future__ import annotations

import sys
from typing import NoReturn


class UserError(ValueError):
    """Bad configuration or bad input: shown as one message, without a traceback, exit code 2.

    The message says what was given, what is allowed and what to do about it. It is a ValueError, as
    users of scikit-learn expect.
    """


def reason(error: Exception) -> str:
    """What an exception of another library says, on one line and without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def stop(message: str, code: int = 2) -> NoReturn:
    """One message on standard error, then the exit code."""
    print(f"nmfnet: {message}", file=sys.stderr)
    sys.exit(code)


def stop_unusable(error: OSError) -> NoReturn:
    """Stop for a file that cannot be read or written."""
    if error.strerror is None:
        raise error
    stop(f"cannot use {error.filename or 'the output'}: {error.strerror}")
