"""Pictures of a factorisation: functions from arrays to matplotlib figures.

Importing this package is cheap: matplotlib is imported when the first figure is drawn, always
through its object interface, so that no backend, ``pyplot`` state or ``rcParams`` are touched.
A new figure of a run is a function, and a line in ``FIGURES``.

======================  ============================================================================
module                  figures
======================  ============================================================================
``curves``              convergence, convergence_many, rank_curve, objective_spread
``components``          components: images, mutation spectra, topics, heat map
``weights``             weights_by_class, weights_stack, weights_heatmap
``proportions``         proportions, against_truth
``reconstruction``      reconstruction_examples
``sound``               spectra_of, activations, spectrogram
``residuals``           scaled_residuals
``parts``               parts: parts x code = image
``similarity``          cosine_heatmap, consensus_matrix, links_by_cluster
``decomposition``       decomposition: components as sums of references
``selection``           rank_selection
``modules``             modules
``association``         associations
``tree``                topic_tree
``topics``              topic_map
``tissue``              tissue: every component where the samples lie
``views``               explained_by_view
``code``                code_map, objective_terms, dispersion_of_means
``samples``             samples: rows of the data, and rows drawn from a model
======================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from nmfnet.plots.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "KINDS", "Drawing", "Run", "run_figures", "save", "save_all"]

_DPI = 150

KINDS = (".png", ".pdf", ".svg")
"""Files that a figure can be."""


def _components(run: Run) -> Figure:
    from nmfnet.plots.components import components

    return components(
        run.H,
        run.feature_names,
        run.kind,
        image_shape=run.image_shape,
        names=run.names,
        W=run.W,
        cmap=run.grey_map,
    )


def _reconstruction(run: Run) -> Figure:
    if run.kind == "sound":
        from nmfnet.plots.sound import spectrogram

        named = run.sample_names, run.feature_names
        return spectrogram(run.x, run.reconstruction, *named, power=run.power)
    from nmfnet.plots.reconstruction import reconstruction_examples

    return reconstruction_examples(
        run.x,
        run.reconstruction,
        run.kind,
        mask=run.mask,
        image_shape=run.image_shape,
        sample_names=run.sample_names,
        feature_names=run.feature_names,
        cmap=run.grey_map,
    )


def _scaled_residuals(run: Run) -> Figure:
    from nmfnet.plots.residuals import scaled_residuals

    return scaled_residuals(run.x, run.reconstruction, run.mask, run.feature_names)


def _parts(run: Run) -> Figure:
    from nmfnet.plots.parts import parts

    return parts(run.H, run.W, run.x, run.reconstruction, run.image_shape, cmap=run.grey_map)


def _adds_up(run: Run) -> bool:
    return run.kind == "image" and run.linear and run.x is not None and run.W is not None


def _weights_by_class(run: Run) -> Figure:
    from nmfnet.plots.weights import weights_by_class

    return weights_by_class(
        run.amounts, run.labels, run.label_names, names=run.names, kind=run.field
    )


def _weights(run: Run) -> Figure:
    if run.kind == "sound":
        from nmfnet.plots.sound import activations

        return activations(run.amounts, run.sample_names, names=run.names)
    from nmfnet.plots.weights import weights_heatmap, weights_stack

    stack = run.field in ("sbs96", "dbs78", "id83") and run.amounts.min() >= 0
    draw = weights_stack if stack else weights_heatmap
    return draw(run.amounts, run.sample_names, names=run.names, kind=run.field)


def _proportions(run: Run) -> Figure:
    from nmfnet.plots.proportions import proportions

    return proportions(run.shares, run.sample_names, names=run.names, kind=run.field)


def _associations(run: Run) -> Figure:
    from nmfnet.plots.association import associations

    return associations(run.associations or ())


def _truth(run: Run) -> Figure:
    from nmfnet.plots.proportions import against_truth

    return against_truth(*run.true_shares)


def _tissue(run: Run) -> Figure:
    from nmfnet.plots.tissue import tissue

    weights = run.W if run.shares is None else run.shares
    return tissue(run.coordinates, weights, names=run.names)


def _reference(run: Run) -> Figure:
    from nmfnet.plots.similarity import align_reference, cosine_heatmap

    table, given = align_reference(run.reference, run.feature_names)
    known = given if run.reference_names is None else run.reference_names
    return cosine_heatmap(run.H, table, run.names, known, kind=run.field)


def _links(run: Run) -> Figure:
    from nmfnet.plots.similarity import links_by_cluster

    return links_by_cluster(run.links, run.clusters)


def _convergence(run: Run) -> Figure:
    from nmfnet.plots.curves import convergence

    return convergence(run.history)


def _restarts(run: Run) -> Figure:
    from nmfnet.plots.curves import objective_spread

    return objective_spread(run.restarts_objective)


def _code(run: Run) -> Figure:
    from nmfnet.plots.code import code_map

    return code_map(run.W, run.groups)


def _samples(run: Run) -> Figure:
    from nmfnet.plots.samples import samples

    x, drawn = run.drawn
    return samples(x, drawn, run.feature_names, run.kind, image_shape=run.image_shape)


def _terms(run: Run) -> Figure:
    from nmfnet.plots.code import objective_terms

    return objective_terms(run.history)


def _views(run: Run) -> Figure:
    from nmfnet.plots.views import explained_by_view

    return explained_by_view(run.explained, run.names)


def _dispersion(run: Run) -> Figure:
    import numpy as np

    from nmfnet.plots.code import dispersion_of_means

    return dispersion_of_means(run.dispersion, np.asarray(run.x.mean(0)))


def _tree(run: Run) -> Figure:
    from nmfnet.metrics import topic_tree as shares_of
    from nmfnet.plots.tree import topic_tree

    names = [[f"{i}.{j + 1}" for j in range(len(H))] for i, H in enumerate(run.layers, start=1)]
    if run.names is not None and len(run.names) == len(names[-1]):  # the components of the run
        names[-1] = list(run.names)
    shares = shares_of(run.layers)
    return topic_tree(run.layers, shares, run.feature_names, kind=run.kind, names=names)


def _topic_map(run: Run) -> Figure:
    from nmfnet.plots.topics import topic_map

    amounts = None if run.W is None else run.amounts
    return topic_map(run.H, run.feature_names, names=run.names, W=amounts)


def _has_topics(run: Run) -> bool:
    return run.kind == "text" and run.H is not None and len(run.H) > 2 and run.H.min() >= 0


class Drawing(NamedTuple):
    """A figure of a run, and when there is something to draw."""

    draw: Callable[[Run], Figure]
    applies: Callable[[Run], bool] = lambda run: True


FIGURES = {
    "components": Drawing(_components, lambda run: run.H is not None),
    "reconstruction": Drawing(_reconstruction, lambda run: run.x is not None and run.W is not None),
    "scaled_residuals": Drawing(
        _scaled_residuals, lambda run: run.uncertain and run.mask is not None and run.W is not None
    ),
    "parts": Drawing(_parts, _adds_up),
    "weights_by_class": Drawing(_weights_by_class, lambda run: run.labels is not None),
    "weights": Drawing(_weights, lambda run: run.W is not None),
    "proportions": Drawing(_proportions, lambda run: run.shares is not None),
    "tissue": Drawing(_tissue, lambda run: run.coordinates is not None and run.W is not None),
    "associations": Drawing(_associations, lambda run: bool(run.associations)),
    "truth": Drawing(_truth, lambda run: run.true_shares is not None),
    "views": Drawing(_views, lambda run: run.explained is not None),
    "code": Drawing(_code, lambda run: run.W is not None and run.real_code),
    "samples": Drawing(_samples, lambda run: run.drawn is not None),
    "links": Drawing(_links, lambda run: run.links is not None and run.clusters is not None),
    "reference": Drawing(_reference, lambda run: run.reference is not None and run.H is not None),
    "topic_map": Drawing(_topic_map, _has_topics),
    "convergence": Drawing(_convergence, lambda run: run.history is not None),
    "terms": Drawing(_terms, lambda run: run.n_terms > 1),
    "dispersion": Drawing(
        _dispersion, lambda run: run.dispersion is not None and run.x is not None
    ),
    "restarts": Drawing(_restarts, lambda run: len(run.restarts_objective) > 1),
    "tree": Drawing(
        _tree, lambda run: len(run.layers) > 1 and min(H.min() for H in run.layers) >= 0
    ),
}
"""Every figure that a training run writes, by the name of its file, in reading order."""


def run_figures(run: Run) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of every picture of a run that applies, drawn one at a time."""
    for name, (draw, applies) in FIGURES.items():
        if applies(run):
            yield name, draw(run)


def save_all(figures: Mapping[str, Figure], folder: Path, kind: str | Literal[True]) -> None:
    """Write figures into a folder, each under its name: png (also ``True``), pdf or svg."""
    for name, figure in figures.items():
        save(figure, folder / f"{name}.{'png' if kind is True else kind}")


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure: same figure, same bytes (no date). PNG has 150 dpi and 256 colours.

    Returns the path; missing folders are made.

    Raises
    ------
    UserError
        If the file name ends in neither ``.png`` nor ``.pdf`` nor ``.svg``.
    """
    from nmfnet.errors import UserError

    path = Path(path)
    if path.suffix not in KINDS:
        raise UserError(
            f"'{path.name}' is no {', '.join(KINDS)} file; figures are written as these."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".png":
        from matplotlib import rc_context

        date = {".pdf": "CreationDate", ".svg": "Date"}[path.suffix]
        with rc_context({"svg.hashsalt": "nmfnet"}):  # names inside the file that do not change
            figure.savefig(path, metadata={date: None})
        return path
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    before, canvas = figure.dpi, figure.canvas
    agg = canvas if isinstance(canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)
    try:
        figure.set_dpi(_DPI)
        agg.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(agg.buffer_rgba())  # type: ignore[no-untyped-call]
        image = Image.fromarray(pixels).convert("RGB")
    finally:
        figure.set_dpi(before)
        figure.set_canvas(canvas)
    if image.getcolors(256) is None:  # shades in steps of 5, so that (nearly) all fit the palette
        image = image.point([5 * round(level / 5) for level in range(256)] * 3)
    image.quantize(256, dither=Image.Dither.NONE).save(path, dpi=(_DPI, _DPI))
    return path
