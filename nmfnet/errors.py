"""The one exception that means "the user can mend this"."""

from __future__ import annotations


class UserError(Exception):
    """Bad configuration or bad input: shown as one message, without a traceback, exit code 2.

    The message says what was given, what is allowed and what to do about it.
    """
