"""Packages that lightning and scikit-learn import, and hardly a run uses: each waits for its first use.

``torch._dynamo``, the compiler, and ``torchmetrics``, with scipy.signal, take half of the time in which
lightning is imported. What lightning takes from them while it is imported is given without them; any
other use loads the package in full, in the same module object. scikit-learn imports ``pandas`` and
``scipy.stats`` for a few functions, and these look them up when they are called. ``experiments/startup``
has the times.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import version
from threading import RLock
from types import ModuleType
from typing import Any

Given = Mapping[str, "Callable[[Deferred], Any]"]
"""Names that a package has before it is loaded, and what makes them."""

LOCK = RLock()


class Deferred(ModuleType):
    """A package that is loaded when something of it is used that is not given."""

    def __getattr__(self, name: str) -> Any:
        with LOCK:
            if type(self) is Deferred:
                waiting = waiting_for(self)
                if name in waiting.given:
                    return waiting.given[name](self)
                if waiting.busy:
                    raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
                waiting.load(self)
        return getattr(self, name)


class Waiting(Loader):
    """Loads a package in two steps: an empty one at its import, the rest at its first use.

    Parameters
    ----------
    real : Loader
    given : mapping of str to callable
    """

    def __init__(self, real: Loader, given: Given) -> None:
        self.real, self.given = real, given
        self.busy = False  # parts may be imported now

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = Deferred

    def load(self, module: ModuleType) -> None:
        """The second step."""
        self.busy = True
        try:
            self.real.exec_module(module)
        finally:
            self.busy = False
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.real
        module.__class__ = ModuleType
        if module.__name__ == "torch._dynamo":
            while HELD:
                HELD.pop()(module)


class Present(Loader):
    """Gives a part of a package that was imported while the package was loaded."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class Proxy(ModuleType):
    """Stands for a package in a module that imports it; looks every name up in the package.

    Parameters
    ----------
    name : str
        The package.
    functions : sequence of str
        Those that are looked up when they are called, not yet when they are imported by name.
    """

    def __init__(self, name: str, functions: Sequence[str]) -> None:
        super().__init__(name)
        self.functions = functions

    def __getattr__(self, name: str) -> Any:
        if name in self.functions:
            return functools.partial(self._call, name)
        if sys.modules.get(self.__name__) is self:
            if name == "__path__":  # asked for whenever a name is imported from here
                raise AttributeError(name)
            del sys.modules[self.__name__]  # it is used while it is imported
        return getattr(importlib.import_module(self.__name__), name)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)


class Without(Loader):
    """Loads a module that imports packages for later; it gets a proxy of each.

    Parameters
    ----------
    real : Loader
    packages : mapping of str to sequence of str
        Functions of each that it takes by name.
    """

    def __init__(self, real: Loader, packages: Mapping[str, Sequence[str]]) -> None:
        self.real, self.packages = real, packages

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        proxies = {
            name: Proxy(name, functions)
            for name, functions in self.packages.items()
            if name not in sys.modules
        }
        sys.modules.update(proxies)
        try:
            self.real.exec_module(module)
        finally:
            for name, proxy in proxies.items():
                if sys.modules.get(name) is proxy:
                    del sys.modules[name]


class Finder(MetaPathFinder):
    """Finds the modules in ``DEFERRED`` and ``PROXIES`` where they are, and changes their loaders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in DEFERRED or fullname in PROXIES:
            spec = PathFinder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = (
                    Waiting(spec.loader, DEFERRED[fullname])
                    if fullname in DEFERRED
                    else Without(spec.loader, PROXIES[fullname])
                )
            return spec
        package = sys.modules.get(fullname.rpartition(".")[0])
        if isinstance(package, Deferred):
            with LOCK:
                if type(package) is Deferred and not (waiting := waiting_for(package)).busy:
                    waiting.load(package)
            if (present := sys.modules.pop(fullname, None)) is not None:  # else it is run again
                return ModuleSpec(fullname, Present(present))
        return None


def waiting_for(package: Deferred) -> Waiting:
    """The loader of a package that is not loaded yet."""
    assert package.__spec__ is not None
    assert isinstance(package.__spec__.loader, Waiting)
    return package.__spec__.loader


# ---------------------------------------------------------------------- torch._dynamo
HELD: list[Callable[[ModuleType], None]] = []
"""What to do with the functions of :func:`disable` when the compiler is there."""


class _OfTheCompiler(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        real = sys.modules.get("torch._dynamo.eval_frame")
        return real is not None and isinstance(instance, real.OptimizedModule)


class OptimizedModule(metaclass=_OfTheCompiler):
    """Has the instances of ``torch._dynamo.OptimizedModule``: none before that is loaded."""


def disable(fn: Any = None, recursive: bool = True, **options: Any) -> Any:
    """Hold a function back from the compiler as soon as there is one: ``torch._dynamo.disable``."""
    if fn is None:
        return functools.partial(disable, recursive=recursive, **options)
    if not inspect.isfunction(fn):
        dynamo = sys.modules["torch._dynamo"]
        dynamo.eval_frame  # noqa: B018  (loads it)
        return dynamo.disable(fn, recursive, **options)
    called = fn

    @functools.wraps(fn)
    def held(*args: Any, **kwargs: Any) -> Any:
        return called(*args, **kwargs)

    def hold(dynamo: ModuleType) -> None:
        nonlocal called
        called = dynamo.disable(fn, recursive, **options)

    HELD.append(hold)
    return held


def graph_break(*args: Any, **options: Any) -> None:
    """Nothing: there is no graph before the compiler is loaded."""


# ---------------------------------------------------------------------- torchmetrics
def _part(name: str, of: str) -> Callable[[Deferred], Any]:
    """A name out of a module of torchmetrics, imported without the rest."""

    def taken(package: Deferred) -> Any:
        waiting = waiting_for(package)
        before, waiting.busy = waiting.busy, True
        try:
            importlib.import_module("torchmetrics.utilities")  # first, as in the whole package
            return getattr(importlib.import_module(f"torchmetrics.{of}"), name)
        finally:
            waiting.busy = before

    return taken


DEFERRED: dict[str, Given] = {
    "torch._dynamo": {
        "OptimizedModule": lambda _: OptimizedModule,
        "disable": lambda _: disable,
        "graph_break": lambda _: graph_break,
    },
    "torchmetrics": {
        "__version__": lambda _: version("torchmetrics"),
        "_logger": lambda _: logging.getLogger("torchmetrics"),
        "Metric": _part("Metric", "metric"),
        "MetricCollection": _part("MetricCollection", "collections"),
    },
}
"""What is given of each package before it is loaded."""

PROXIES: dict[str, Mapping[str, Sequence[str]]] = {
    "sklearn.utils.fixes": {"pandas": (), "scipy.stats": ()},
    "sklearn.preprocessing._data": {"scipy.stats": ()},
    "sklearn.metrics._ranking": {"scipy.stats": ("rankdata",)},
}
"""Modules, the packages that each imports for later, and the functions that it takes of these."""


def defer() -> None:
    """Defer what has not been imported yet."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
