"""``launcher=``: how the jobs of a sweep are run; each is plain values in, a record out."""

from __future__ import annotations

from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin

from nmfnet.sweep.launchers.processes import Joblib, Local
from nmfnet.sweep.launchers.queues import Ray, Submitit

PLUGINS = (Local, Joblib, Submitit, Ray)
"""What ``launcher=`` may be."""


def register(*plugins: type[Plugin]) -> None:
    """Let Hydra use classes of ours as launchers and sweepers.

    Hydra wants plugins in a package called ``hydra_plugins``; those that are registered will do.
    """
    known = Plugins.instance()
    for plugin in plugins:
        known.register(plugin)
    known.is_in_toplevel_plugins_module = (  # type: ignore[method-assign]
        lambda clazz: clazz in known.class_name_to_class
    )
