"""Numbers that are computed when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import torch

from nmfnet.run.machine import on_threads


@final
class Asked(Mapping[str, Any]):
    """A mapping that is filled group by group, in order, as far as is asked for.

    What is computed later has as many threads of torch as there were when the mapping was made: those
    of the run.

    Parameters
    ----------
    groups : function
        Each gives some entries. An entry that is a function itself is called when it is asked for.
    """

    def __init__(self, *groups: Callable[[], Mapping[str, Any]]) -> None:
        self._known: dict[str, Any] = {}
        self._groups = list(groups)
        self._threads = torch.get_num_threads()

    def _more(self) -> bool:
        """Whether there was another group; one that fails or is interrupted stays."""
        if not self._groups:
            return False
        with on_threads(self._threads):
            self._known |= self._groups[0]()
        del self._groups[0]
        return True

    def __getitem__(self, key: str) -> Any:
        while key not in self._known and self._more():
            pass
        if callable(value := self._known[key]):
            with on_threads(self._threads):
                self._known[key] = value = value()
        return value

    def __iter__(self) -> Iterator[str]:
        while self._more():
            pass
        return iter(self._known)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))
