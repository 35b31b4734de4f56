"""``hparams_search=model_zoo``: the models that fit the data, each asked, and run on equal terms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from nmfnet.config import Config, check_config, read_choice
from nmfnet.data.sources.source import Held, Source
from nmfnet.errors import UserError
from nmfnet.run.stored import write_json
from nmfnet.settings.objects import build
from nmfnet.settings.words import open_keys
from nmfnet.sweep.search.by_jobs import ByJobs
from nmfnet.sweep.summary import ZOO

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization
    from nmfnet.data.module import MatrixDataModule

__all__ = ["Zoo", "why_not"]

ABSENT = {
    "mask": "no entry is missing or held out",
    "views": "one view only",
    "graph": "no links between the samples",
    "reference": "no known components",
    "labels": "no labels",
    "covariates": "no covariates",
}
"""What is said of data that lack something beside a whole X."""


class Zoo(ByJobs):
    """A sweep over the models that fit the data, or over those of ``model=a,b,c`` that do.

    A model fits if the data bring what its own example brings, and if a run of it would begin: it is
    put together and started as in a run, with the first of all values that are swept.

    Parameters
    ----------
    params : dict of str to str
        What to sweep beside the model, as on the command line, which wins.
    """

    choice = "model_zoo"

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = dict(params or {})

    def sweep(self, arguments: list[str]) -> None:
        """Choose, and run what was chosen.

        Raises
        ------
        UserError
            If no model fits, or the data are not the same in all jobs.
        """
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        own = open_keys([f"{key}={value}" for key, value in self.params.items()])
        given = {o.get_key_element(): o for o in parser.parse_overrides([*own, *arguments])}
        asked = given.pop("model", None)
        for key, override in given.items():
            if key.lstrip("+").partition(".")[0] == "data" and override.is_sweep_override():
                raise UserError(
                    f"{key.lstrip('+')}: hparams_search=model_zoo chooses models by the data, so give it "
                    "one data set at a time"
                )
        names = _values(asked) if asked else loader.get_group_options("model", ObjectType.CONFIG)
        swept = {key: _values(override) for key, override in given.items()}
        found = self._asked(names, [f"{key}={values[0]}" for key, values in swept.items()])
        fitting = [name for name in names if found[name] is None]
        left_out = in_a_line({name: why for name, why in found.items() if why is not None})
        if not fitting:
            raise UserError(f"no model fits these data: {left_out}")
        sweep = Path(self.config.hydra.sweep.dir)
        sweep.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, sweep / "multirun.yaml")
        write_json(sweep / ZOO, {"chosen": fitting, "left_out": left_out})
        words = [[f"{key}={value}" for value in values] for key, values in swept.items()]
        self.launcher.launch(list(product([f"model={name}" for name in fitting], *words)), 0)

    def _asked(self, names: Sequence[str], words: Sequence[str]) -> dict[str, str | None]:
        """Why each model does not fit; None = it does."""
        folder = Path(self.config.hydra.sweep.dir).absolute()
        found: dict[str, str | None] = {}
        source: Source | None = None
        losses = any(word.startswith("loss=") for word in words)
        for name in names:
            plain = self.launcher.job(folder, 0, [f"model={name}", *words], 1).cfg
            try:
                cfg = check_config(plain)
            except UserError as error:
                found[name] = str(error).splitlines()[-1].strip()
                continue
            source = source or _once(build(cfg.data))
            found[name] = why_not(cfg, source, any_loss=losses)
        return found


def why_not(cfg: Config, source: Source, *, any_loss: bool = False) -> str | None:
    """Why a model does not fit these data, a clause; None = it does.

    Parameters
    ----------
    cfg : Config
        Of a run of the model.
    source : Source
    any_loss : bool
        Whether the loss was chosen by the user, and so is no sign of what the model is for.
    """
    from nmfnet.run.train import begun, data_of

    try:
        datamodule = data_of(cfg, source)
        if absent := needs(cfg) - datamodule.train.brings:
            return ", ".join(ABSENT.get(word, f"no {word}") for word in sorted(absent))
        model = begun(cfg, datamodule)
    except UserError as error:
        return _clause(error, cfg.model_name, str(cfg.model["_target_"]).rpartition(".")[2])
    if model.ordered and datamodule.matrix.sound is None:
        return "rows not in the order of time"
    if of_counts(model) and not any_loss and not _whole(datamodule):
        return "counts only, and X has fractions"
    return None


def needs(cfg: Config) -> frozenset[str]:
    """What the example of a model brings beside a whole X."""
    from nmfnet.run.check import Case
    from nmfnet.run.train import data_of

    known = {"reference": None} if "reference" in cfg.model else {}
    case = Case(cfg.but(model={**cfg.model, **known}), Path())
    own, source, _ = case.configured(case.example, split=read_choice("split", "none"))
    return data_of(own, source).train.brings


def of_counts(model: Factorization) -> bool:
    """Whether the objective is a probability of counts."""
    same = (build(read_choice("loss", name)) for name in model.same_losses)
    return model.loss.of_counts or any(loss.of_counts for loss in same)


def in_a_line(left_out: dict[str, str]) -> str:
    """Models by the reason that they were left out for: ``a, b (no labels); c (no graph)``."""
    by_reason: dict[str, list[str]] = {}
    for name, why in left_out.items():
        by_reason.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())


def _whole(datamodule: MatrixDataModule) -> bool:
    """Whether all of X are whole numbers."""
    values = datamodule.sampled()
    stored = values.data if hasattr(values, "tocsr") else values
    return bool((stored % 1 == 0).all())


def _clause(error: UserError, name: str, kind: str) -> str:
    """What a refusal says of the model, without its name or class and without what to do."""
    words = str(error).splitlines()[-1].strip()
    for own in (f"model={name} ", f"{name} ", f"{kind} "):
        words = words.removeprefix(own)
    return words if words.startswith("model.") else words.partition(": ")[0]


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [str(override.get_value_element_as_str())]


def _once(source: Source) -> Source:
    """The source, read only once where all of it is read."""
    return source if source.streamed else Held(source.read())
