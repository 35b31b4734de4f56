"""The one exception that means "the user can mend this"."""

from __future__ import annotations


class UserError(ValueError):
    """Bad configuration or bad input: shown as one message, without a traceback, exit code 2.

    The message says what was given, what is allowed and what to do about it. It is a ValueError, as
    users of scikit-learn expect.
    """
