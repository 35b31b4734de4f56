"""What a library says is left out while a run needs it, and no longer."""

from __future__ import annotations

import logging
import warnings

import pytest

from nmfnet.run.quiet import quiet


def test_loggers_and_warnings_are_as_before_at_the_end():
    logger = logging.getLogger("some.library")
    logger.setLevel(logging.INFO)
    with quiet(["some.library"], module="some", messages=["beta"]):
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
        warnings.warn("beta: may change", stacklevel=1)  # an error, were it not left out
    assert logger.level == logging.INFO
    with pytest.raises(ZeroDivisionError), quiet(["some.library"], module="some"):
        _ = 1 / 0
    assert logger.level == logging.INFO
    with pytest.warns(UserWarning, match="beta"):
        warnings.warn("beta: may change", stacklevel=1)
    with (
        quiet([], module="another", messages=["beta"]),
        pytest.raises(UserWarning, match="of use"),
    ):
        warnings.warn("of use", stacklevel=1)
