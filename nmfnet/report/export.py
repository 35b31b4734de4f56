"""``nmfnet export RUN --to FORMAT``: the factors of a run in the formats of other programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfnet.data.formats.factors import read_factors
from nmfnet.data.sources.channels import component_names, recognise_channels
from nmfnet.errors import UserError
from nmfnet.run.stored import without_nan

if TYPE_CHECKING:
    import pandas as pd
    from pandas import DataFrame

    from nmfnet.report.collect import Run

__all__ = ["FORMATS", "export"]


def export(
    run: str | Path, to: str, output: str | Path | None = None, *, trust: bool = False
) -> list[Path]:
    """Write the factors (or the network) of a run in another format, and print where.

    Parameters
    ----------
    run : str or Path
        Folder of a finished run.
    to : {"csv", "sigprofiler", "pyldavis", "anndata", "safetensors", "onnx"}
        ``csv``: W.csv, H.csv and every other factor with names (and W_test.csv).
        ``sigprofiler``: signatures.txt (rows = channels, columns sum to 1), activities.txt (in
        mutations) and mutation_probabilities.txt (of each signature, for every sample and channel).
        ``pyldavis``: pyldavis.json, topics of texts as pyLDAvis's page shows them.
        ``anndata``: factors.h5ad. ``safetensors``: factors.safetensors, names as
        metadata. ``onnx``: model.onnx, from X to W and its reconstruction.
    output : str or Path, optional
        Folder; by default ``export`` in the run folder.
    trust : bool
        As for :func:`nmfnet.load`: import what the checkpoint names (``onnx`` builds the model).

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    UserError
        For an unknown format, a folder that is no finished run, factors that the format cannot
        hold, a missing package (its extra is named), or a folder that cannot be written.
    """
    from nmfnet.report.compare import finished_run
    from nmfnet.settings.hints import did_you_mean

    if to not in FORMATS:
        hint = did_you_mean(to, list(FORMATS))
        raise UserError(f"--to {to}: no such format{hint} (it has: {', '.join(FORMATS)})")
    source = finished_run(run)
    content = _read(source, trust)
    folder = Path(output) if output is not None else source.folder / "export"
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = FORMATS[to](content, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write to {folder}: {reason}: choose another -o") from error
    finally:
        with suppress(OSError):  # not empty: something was written
            for path in new:
                path.rmdir()
    for file in written:
        print(file)
    return written


@dataclass(frozen=True)
class _Factors:
    """What is in ``factors.npz``, and the run it belongs to."""

    run: Run
    W: np.ndarray
    H: np.ndarray
    samples: list[str]
    features: list[str]
    W_test: np.ndarray | None
    test_samples: list[str]
    others: dict[str, np.ndarray]
    axes: dict[str, list[str]]
    components: list[str]
    sums: np.ndarray | None = None
    trust: bool = False

    @property
    def names(self) -> list[str]:
        """Of the components, as in the figures."""
        return self.components or component_names(self.features, self.W.shape[1])

    def along(self, axis: str, size: int) -> pd.Index:
        """Names of what a factor has along one of its axes."""
        import pandas as pd

        known = {"sample": self.samples, "feature": self.features, "component": self.names}
        return pd.Index(known.get(axis) or [str(i) for i in range(1, size + 1)], name=axis)

    def table(self, W: np.ndarray, samples: list[str]) -> DataFrame:
        """Samples x components."""
        import pandas as pd

        return pd.DataFrame(W, index=pd.Index(samples, name="sample"), columns=self.names)


def _read(run: Run, trust: bool) -> _Factors:
    held = read_factors(run.folder)
    samples, features, held_out, components = (
        [str(name) for name in held.get(key, ())]
        for key in ("sample_names", "feature_names", "test_sample_names", "component_names")
    )
    axes = json.loads(str(held["axes"])) if "axes" in held else {}
    others = {name: held[name] for name in axes if name not in ("W", "H")}
    W_test = held.get("W_test")
    return _Factors(
        *(run, held["W"], held["H"], samples, features, W_test, held_out, others, axes),
        *(components, held.get("sample_sums"), trust),
    )


# ---------------------------------------------------------------------- formats
def _csv(factors: _Factors, folder: Path) -> list[Path]:
    import pandas as pd

    tables = {"W.csv": factors.table(factors.W, factors.samples)}
    if len(factors.H):
        components = pd.Index(factors.names, name="component")
        tables["H.csv"] = pd.DataFrame(factors.H, index=components, columns=factors.features)
    if factors.W_test is not None:
        tables["W_test.csv"] = factors.table(factors.W_test, factors.test_samples)
    for name, values in factors.others.items():
        rows, columns = (
            factors.along(axis, size)
            for axis, size in zip(factors.axes[name], values.shape, strict=True)
        )
        tables[f"{name}.csv"] = pd.DataFrame(values, index=rows, columns=columns)
    for name, table in tables.items():
        table.to_csv(folder / name)
    return [folder / name for name in tables]


def _sigprofiler(factors: _Factors, folder: Path) -> list[Path]:
    """Signatures sum to 1, so activities are in mutations; channels in SigProfiler's order."""
    from nmfnet.metrics import normalize_scale
    from nmfnet.run import signatures

    if recognise_channels(factors.features) is None:
        raise UserError(
            "--to sigprofiler needs the channels of mutations (A[C>A]A, ... for single bases); "
            f"this run has {len(factors.features)} features, the first is {factors.features[0]!r}: "
            "use --to csv"
        )
    if not len(factors.H):
        raise UserError("--to sigprofiler needs signatures, and this run has none: use --to csv")
    if factors.H.min() < 0:
        raise UserError(
            "--to sigprofiler needs signatures >= 0, and H has negative entries: use csv"
        )
    W, H = normalize_scale(factors.W, factors.H)
    samples, names = factors.samples, factors.names
    if factors.W_test is not None:
        W = np.vstack([W, normalize_scale(factors.W_test, factors.H)[0]])
        samples = samples + factors.test_samples
    stems = ("signatures", "activities", "mutation_probabilities")
    files = [folder / f"{stem}.txt" for stem in stems]
    signatures.write_signatures(files[0], H, factors.features, names)
    signatures.write_activities(files[1], W, samples, names)
    signatures.write_probabilities(files[2], W, H, samples, factors.features, names)
    return files


def _pyldavis(factors: _Factors, folder: Path) -> list[Path]:
    """Topics of documents: the training documents with their lengths."""
    from nmfnet.report.pyldavis import prepared
    from nmfnet.run.stored import write_json

    H, W = np.asarray(factors.H, np.float64), np.asarray(factors.W, np.float64)
    if factors.sums is None:
        raise UserError(
            "--to pyldavis needs the lengths of the documents, which runs on texts keep (data=text, a "
            "bag of words), and this run has none: use --to csv"
        )
    if len(H) < 2 or H.min() < 0 or W.min() < 0:
        raise UserError(
            "--to pyldavis needs at least 2 topics with shares >= 0 of words, which this run has not: "
            "use --to csv"
        )
    file = folder / "pyldavis.json"
    write_json(file, prepared(W, H, np.asarray(factors.sums, np.float64), factors.features))
    return [file]


def _anndata(factors: _Factors, folder: Path) -> list[Path]:
    """Without X, which a run does not keep: obsm["W"], varm["H"], names and what was run in uns."""
    from nmfnet.data.formats.hdf5 import write_h5ad

    held_out = factors.W_test is not None
    W = np.vstack([factors.W, factors.W_test]) if held_out else factors.W  # type: ignore[list-item]
    parts = ["train"] * len(factors.W) + ["test"] * (len(W) - len(factors.W))
    file = folder / "factors.h5ad"
    write_h5ad(
        file,
        {"part": parts},
        {},
        (factors.samples + factors.test_samples, factors.features),
        obsm={"W": W},
        varm={"H": factors.H.T} if len(factors.H) else {},
        uns={
            "nmfnet": _about(factors.run),
            "factors": factors.others,
            "axes": factors.axes,
            "component_names": np.array(factors.names),
        },
    )
    return [file]


def _safetensors(factors: _Factors, folder: Path) -> list[Path]:
    save = _package("safetensors.numpy", "safetensors", "export").save_file
    arrays = {"W": factors.W, "H": factors.H, **factors.others}
    names: dict[str, Any] = {"sample_names": factors.samples, "axes": factors.axes}
    names |= {"feature_names": factors.features, "component_names": factors.names}
    if factors.W_test is not None:
        arrays["W_test"] = factors.W_test
        names["test_sample_names"] = factors.test_samples
    about = _about(factors.run) | {key: json.dumps(value) for key, value in names.items()}
    file = folder / "factors.safetensors"
    save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, str(file), metadata=about)
    return [file]


def _onnx(factors: _Factors, folder: Path) -> list[Path]:
    """The network of the best restart: ``X (n, f)`` to ``W (n, k)`` and ``X_hat (n, f)``."""
    import logging
    import warnings
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    import torch

    from nmfnet.run.checkpoint import load

    model = load(factors.run.folder, trust=factors.trust)
    if not model.inductive or model.learns_graph:
        how = "reads the links of rows" if model.inductive else "solves for W"
        raise UserError(
            "--to onnx needs a model whose W is computed by a network of X alone, and "
            f"{factors.run.name} {how}: use --to safetensors, or train an autoencoder"
        )
    for package in ("onnx", "onnxscript"):
        _package(package, package, "export")
    network, x = _network(model), torch.ones(2, model.sizes.n_features, dtype=model.precision)
    file = folder / "model.onnx"
    before = logging.root.manager.disable
    logging.disable()  # the exporter's advice to its developers
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (x,),
                str(file),
                input_names=["X"],
                output_names=["W", "X_hat"],
                dynamic_shapes={"x": {0: torch.export.Dim("n")}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # of many kinds, for what cannot be written as a graph of operators
        raise UserError(
            f"--to onnx cannot write what {factors.run.name} computes of X as a graph of operators: "
            "use --to safetensors"
        ) from error
    finally:
        logging.disable(before)
    return [file]


def _network(model: Any) -> Any:
    """X to W and X_hat of new rows, as ``transform`` and ``reconstruct`` do, in the units of X."""
    import torch

    from nmfnet.types import Batch

    best, units = int(model.best), model.units

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            batch = Batch(x / units.data, torch.full((x.shape[0],), -1))
            W = model.infer(batch)
            X_hat = model.outputs(W, batch)["x"].mean
            return W[best] * units.code, X_hat[best] * units.data

    return Network().eval()


def _about(run: Run) -> dict[str, str]:
    """The run as text, for formats that carry metadata."""
    return {
        key: json.dumps(without_nan(getattr(run, key)), allow_nan=False, default=str)
        for key in ("config", "metrics", "origin")
    }


def _package(module: str, package: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"this format needs the package {package}: pip install 'nmfnet[{extra}]'"
        ) from error


FORMATS: dict[str, Callable[[_Factors, Path], list[Path]]] = {
    "csv": _csv,
    "sigprofiler": _sigprofiler,
    "pyldavis": _pyldavis,
    "anndata": _anndata,
    "safetensors": _safetensors,
    "onnx": _onnx,
}
"""Choices of ``--to``."""
