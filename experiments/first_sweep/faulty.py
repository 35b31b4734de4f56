"""A callback that breaks one job of the sweep, as long as a file called ``broken`` is there."""

from __future__ import annotations

from pathlib import Path

import lightning as L


class Fault(L.Callback):
    """Raises in nmf with 16 components and seed 2."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Break."""
        config = pl_module.recipe["config"]
        mine = config["choices"]["model"] == "nmf" and pl_module.n_components == 16
        if mine and config["seed"] == 2 and Path("broken").exists():
            raise RuntimeError("the file 'broken' is here")
