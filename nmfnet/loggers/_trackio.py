"""Lightning's logger interface for Trackio, which has none of its own."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger

from nmfnet.config import Plain
from nmfnet.loggers._pictures import picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Trackio(Logger):
    """A run of Trackio.

    Parameters
    ----------
    project, name : str
        Names of the project and of the run.
    group : str or None
        Name of the sweep.
    config : dict
        Of the run.
    """

    def __init__(self, project: str, name: str, group: str | None, config: Plain) -> None:
        super().__init__()
        import trackio

        self._project, self._name = project, name
        with _silently():
            self.run = trackio.init(
                project=project,
                name=name,
                group=group,
                config=config,
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The run."""
        return self._name

    def log_hyperparams(self, *args: Any, **options: Any) -> None:
        """They were given with the run."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """One row of the history."""
        self.run.log(dict(metrics), step=step)

    def log_result(self, numbers: dict[str, Any], figures: dict[str, Figure]) -> None:
        """Final numbers and pictures."""
        import trackio

        row: dict[str, Any] = dict(numbers)
        for name, figure in figures.items():
            row[f"figures/{name}"] = trackio.Image(picture(figure))
        self.run.log(row)

    def close(self) -> None:
        """Write what is left, and end the run (Lightning's ``finalize`` comes before the results)."""
        import trackio

        with _silently():
            trackio.finish()


@contextlib.contextmanager
def _silently() -> Any:
    """Trackio announces every run on standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
