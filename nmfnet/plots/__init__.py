"""Pictures of a factorisation: functions from arrays to matplotlib figures.

Importing this package is cheap: matplotlib is imported when the first figure is drawn, always
through its object interface, so that no backend, ``pyplot`` state or ``rcParams`` are touched.

======================  ============================================================================
module                  figures
======================  ============================================================================
``curves``              convergence, convergence_many, rank_curve, objective_spread
``components``          components: images, mutation spectra, topics, heat map
``weights``             weights_by_class, weights_stack, weights_heatmap
``reconstruction``      reconstruction_examples
``similarity``          cosine_heatmap, consensus_matrix
``selection``           rank_selection
``tree``                topic_tree
======================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_makers", "run_figures", "save"]

_DPI = 150


def run_figures(
    *,
    W: Any,
    H: Any = None,
    x: Any = None,
    x_hat: Any = None,
    mask: Any = None,
    history: Any = None,
    kind: str = "generic",
    image_shape: tuple[int, int] | None = None,
    sample_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    labels: Any = None,
    label_names: Sequence[str] | None = None,
    reference: Any = None,
    reference_names: Sequence[str] | None = None,
    restarts_objective: Any = None,
    names: Sequence[str] | None = None,
    layers: Sequence[Any] = (),
) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of every picture that a training run writes, drawn one at a time.

    Parameters as in `figure_makers`, which gives the same pictures undrawn.
    """
    makers = figure_makers(
        W=W,
        H=H,
        x=x,
        x_hat=x_hat,
        mask=mask,
        history=history,
        kind=kind,
        image_shape=image_shape,
        sample_names=sample_names,
        feature_names=feature_names,
        labels=labels,
        label_names=label_names,
        reference=reference,
        reference_names=reference_names,
        restarts_objective=restarts_objective,
        names=names,
        layers=layers,
    )
    for name, make in makers.items():
        yield name, make()


def figure_makers(
    *,
    W: Any,
    H: Any = None,
    x: Any = None,
    x_hat: Any = None,
    mask: Any = None,
    history: Any = None,
    kind: str = "generic",
    image_shape: tuple[int, int] | None = None,
    sample_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    labels: Any = None,
    label_names: Sequence[str] | None = None,
    reference: Any = None,
    reference_names: Sequence[str] | None = None,
    restarts_objective: Any = None,
    names: Sequence[str] | None = None,
    layers: Sequence[Any] = (),
) -> dict[str, Callable[[], Figure]]:
    """Return, by name, a function that draws each picture of a run; none depends on another.

    Parameters
    ----------
    W : array, shape (n, k)
        Weights; drawn in units of the data (each column times the sum of its row of H).
    H : array, shape (k, f), optional
        Components, possibly signed. Without them W is drawn as it is.
    x : array or scipy sparse matrix, shape (n, f), optional
        Data. Without it: no ``reconstruction``.
    x_hat : array, shape (n, f), or function, optional
        Reconstruction, or the decoder: a function from rows of W to rows of the reconstruction,
        called for the rows that are looked at. Without it W H.
    mask : array or scipy sparse matrix of bool, shape (n, f), optional
        True = observed; other entries are left out of the ``reconstruction``.
    history : pandas.DataFrame or mapping, optional
        Columns iteration, seconds, objective, ... (see `nmfnet.plots.curves.convergence`).
    kind : str
        ``image``, ``sbs96``, ``dbs78``, ``id83``, ``text`` or ``generic``.
    image_shape : (int, int), optional
        Height and width of images.
    sample_names, feature_names, names : sequence of str, optional
        Names of samples, features and components (C1, C2, ...).
    labels, label_names
        Class of each sample (see `nmfnet.plots.weights.weights_by_class`).
    reference, reference_names
        Known components: a table joined by feature label, or an array in the features' order
        (see `nmfnet.plots.similarity.align_reference`).
    restarts_objective : array, shape (r,), optional
        Final objective of each restart; drawn from two restarts on.
    layers : sequence of arrays, shapes (k_l, f), optional
        Components of every layer of a hierarchy, from wide to narrow; drawn from two layers on.

    Returns
    -------
    dict
        Of ``convergence``, ``components``, ``reconstruction``, ``weights``, ``weights_by_class``,
        ``restarts``, ``reference``, ``tree``: those for which there is something to draw.
    """
    makers: dict[str, Callable[[], Figure]] = {}

    def draw_convergence() -> Figure:
        from nmfnet.plots.curves import convergence

        return convergence(history)

    def draw_components() -> Figure:
        from nmfnet.plots.components import components

        cmap = _grey_map(x) if kind == "image" else None
        look: dict[str, Any] = {"image_shape": image_shape, "names": names, "W": W, "cmap": cmap}
        return components(H, feature_names, kind, **look)

    def draw_reconstruction() -> Figure:
        from nmfnet.plots.reconstruction import reconstruction_examples

        return reconstruction_examples(
            x,
            _rows_of(W, H, x_hat),
            kind,
            mask=mask,
            image_shape=image_shape,
            sample_names=sample_names,
            feature_names=feature_names,
            cmap=_grey_map(x) if kind == "image" else None,
        )

    def draw_weights() -> Figure:
        from nmfnet.plots.weights import weights_heatmap, weights_stack

        scaled, field = _in_data_units(W, H), _field(kind, feature_names)
        stack = field in ("sbs96", "dbs78", "id83") and scaled.min() >= 0
        draw = weights_stack if stack else weights_heatmap
        return draw(scaled, sample_names, names=names, kind=field)

    def draw_classes() -> Figure:
        from nmfnet.plots.weights import weights_by_class

        field = _field(kind, feature_names)
        return weights_by_class(_in_data_units(W, H), labels, label_names, names=names, kind=field)

    def draw_restarts() -> Figure:
        from nmfnet.plots.curves import objective_spread

        return objective_spread(restarts_objective)

    def draw_reference() -> Figure:
        from nmfnet.plots.similarity import align_reference, cosine_heatmap

        table, given = align_reference(reference, feature_names)
        known = given if reference_names is None else reference_names
        return cosine_heatmap(H, table, names, known, kind=_field(kind, feature_names))

    def draw_tree() -> Figure:
        from nmfnet.metrics import topic_tree as shares_of
        from nmfnet.plots.tree import topic_tree

        return topic_tree(layers, shares_of(layers), feature_names, kind=kind)

    if history is not None:
        makers["convergence"] = draw_convergence
    if H is not None:
        makers["components"] = draw_components
    if x is not None:
        makers["reconstruction"] = draw_reconstruction
    makers["weights"] = draw_weights
    if labels is not None:
        makers["weights_by_class"] = draw_classes
    if restarts_objective is not None and len(restarts_objective) > 1:
        makers["restarts"] = draw_restarts
    if reference is not None and H is not None:
        makers["reference"] = draw_reference
    if len(layers) > 1 and min(H.min() for H in layers) >= 0:
        makers["tree"] = draw_tree
    return makers


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG (150 dpi, 256 colours, no date: same figure, same bytes) or as PDF.

    Returns the path; missing folders are made.

    Raises
    ------
    UserError
        If the file name ends in neither ``.png`` nor ``.pdf``.
    """
    from nmfnet.errors import UserError

    path = Path(path)
    if path.suffix not in (".png", ".pdf"):
        raise UserError(
            f"'{path.name}' is no .png and no .pdf file; figures are written as either."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pdf":
        figure.savefig(path, metadata={"CreationDate": None})
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


def _in_data_units(W: Any, H: Any) -> Any:
    """Scale the columns of W as if the rows of H had (absolute) sum 1."""
    import numpy as np

    from nmfnet.plots.arrays import matrix

    if H is None:
        return matrix(W, "W")
    return matrix(W, "W") * np.abs(matrix(H, "H")).sum(axis=1)


def _field(kind: str, feature_names: Sequence[str] | None) -> str:
    """Return the kind of data, recognising mutation channels by their names."""
    from nmfnet.plots.spectra import find_layout

    layout = None if kind in ("image", "text") else find_layout(feature_names)
    return kind if layout is None else layout.kind


def _grey_map(x: Any) -> str | None:
    """Return the grey map in which images look natural: ink on a light ground, or photographs."""
    if x is None:
        return None
    import numpy as np

    from nmfnet.plots.reconstruction import choose_rows, dense_rows

    pixels = dense_rows(x, choose_rows(x.shape)[:200])
    pixels = pixels[np.isfinite(pixels)]
    ground = pixels.size and np.mean(pixels <= 0.1 * pixels.max()) > 0.25
    return "gray_r" if ground else "gray"


def _rows_of(W: Any, H: Any, x_hat: Any) -> Any:
    """Return the reconstruction as an array, or as a function that gives rows on demand."""
    if x_hat is not None and not callable(x_hat):
        return x_hat
    import numpy as np

    from nmfnet.plots.arrays import matrix

    weights = np.asarray(W)
    if callable(x_hat):
        return lambda rows: x_hat(weights[rows])
    return lambda rows: matrix(weights[rows], "W") @ matrix(H, "H")
