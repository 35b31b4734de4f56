"""What sweeps have in common that decide themselves which jobs there are."""

from __future__ import annotations

from typing import ClassVar

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from nmfnet.errors import UserError
from nmfnet.sweep.launchers.base import Jobs

__all__ = ["ByJobs"]


class ByJobs(Sweeper):
    """A sweeper that hands jobs to a launcher of nmfnet."""

    choice: ClassVar[str]
    """Of the group ``hparams_search``."""

    config: DictConfig
    hydra_context: HydraContext
    launcher: Jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra."""
        self.config, self.hydra_context = config, hydra_context
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        if not isinstance(launcher, Jobs):
            raise UserError(f"hparams_search={self.choice} needs a launcher=... of nmfnet")
        self.launcher = launcher
