"""A run as its figures see it: arrays and names, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = ["Run"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run's figures are drawn from; what several of them need is computed once, when asked.

    Attributes
    ----------
    W : array, shape (n, k), optional
        Weights; drawn in units of the data (:attr:`amounts`).
    H : array, shape (k, f), optional
        Components, possibly signed. Without them W is drawn as it is.
    x : array or scipy sparse matrix, shape (n, f), optional
        Data.
    x_hat : array, shape (n, f), or function, optional
        Reconstruction, or the decoder: a function from rows of W to rows of the reconstruction,
        called for the rows that are looked at. Without it W H.
    mask : array or scipy sparse matrix of bool, shape (n, f), optional
        True = observed; other entries are left out of the ``reconstruction``.
    uncertain : bool
        Whether the mask is 1/u² of known uncertainties u.
    history : pandas.DataFrame or mapping, optional
        Columns iteration, seconds, objective, ... (see `nmfnet.plots.curves.convergence`).
    kind : str
        ``image``, ``sbs96``, ``dbs78``, ``id83``, ``sound``, ``text`` or ``generic``.
    image_shape : (int, int), optional
        Height and width of images.
    sample_names, feature_names, names : sequence of str, optional
        Names of samples, features and components (C1, C2, ...); components are drawn in the order
        of H everywhere.
    labels, label_names
        Class of each sample (see `nmfnet.plots.weights.weights_by_class`).
    reference, reference_names
        Known components: a table joined by feature label, or an array in the features' order
        (see `nmfnet.plots.similarity.align_reference`).
    restarts_objective : sequence or array of float, shape (r,)
        Final objective of each restart; drawn from two restarts on.
    said : function, optional
        From row numbers to rows of the reconstruction, where a decoder reads more of a sample than its
        code.
    power : float
        Of the magnitudes in a spectrogram: 1 = amplitudes, 2 = energies.
    linear : bool
        Whether the reconstruction is W H, up to what no code changes.
    real_code : bool
        Whether W has entries of any sign that are no amounts: points, to be drawn as such.
    batches : mapping of str to sequence, optional
        Class of each sample by covariate.
    coordinates : array, shape (n, 2), optional
        Where the samples lie.
    explained : mapping of str to array, shape (k + 1,), optional
        Of every view, the share of its variance that is lost without each component, and last the share
        that all explain.
    dispersion : array, shape (f,), optional
        Inverse dispersion of every feature.
    drawn : (array, array), optional
        Rows of the data, and as many drawn from the model, both (m, f).
    links : scipy sparse matrix, shape (n, n), optional
        Of the samples.
    clusters : array of int, shape (n,), optional
        Cluster of each sample; -1 = none.
    associations : sequence of Association, optional
        Components against phenotypes.
    layers : sequence of arrays, shapes (k_l, f)
        Components of every layer of a hierarchy, from wide to narrow; drawn from two layers on.
    shares : array, shape (n, k), optional
        Shares of the components in the samples; rows of NaN where nothing is known.
    true_shares : (names, found, true), optional
        The components of which the true shares are known, and both as arrays of shape (n, len(names)).
    """

    W: Any = None
    H: Any = None
    x: Any = None
    x_hat: Any = None
    mask: Any = None
    uncertain: bool = False
    history: Any = None
    kind: str = "generic"
    image_shape: tuple[int, int] | None = None
    sample_names: Sequence[str] | None = None
    feature_names: Sequence[str] | None = None
    labels: Any = None
    label_names: Sequence[str] | None = None
    reference: Any = None
    reference_names: Sequence[str] | None = None
    restarts_objective: Any = ()
    names: Sequence[str] | None = None
    layers: Sequence[Any] = ()
    shares: Any = None
    true_shares: Any = None
    said: Any = None
    power: float = 1.0
    linear: bool = False
    real_code: bool = False
    batches: Mapping[str, Sequence[Any]] | None = None
    dispersion: Any = None
    drawn: Any = None
    links: Any = None
    clusters: Any = None
    coordinates: Any = None
    explained: Any = None
    associations: Sequence[Any] | None = None

    @property
    def groups(self) -> dict[str, Sequence[Any]]:
        """Ways to colour the samples: their labels and their covariates in text."""
        found: dict[str, Sequence[Any]] = {}
        if self.labels is not None:
            names = self.label_names
            found["labels"] = [
                one if names is None else names[one] if one >= 0 else None for one in self.labels
            ]
        return found | dict(self.batches or {})

    @property
    def n_terms(self) -> int:
        """How many terms of the objective the history has."""
        keys = () if self.history is None else self.history
        return sum(str(key).startswith("term/") for key in keys)

    @cached_property
    def amounts(self) -> Any:
        """W in units of the data, shape (n, k): as if the rows of H had (absolute) sum 1."""
        import numpy as np

        from nmfnet.plots.arrays import matrix

        if self.H is None:
            return matrix(self.W, "W")
        return matrix(self.W, "W") * np.abs(matrix(self.H, "H")).sum(axis=1)

    @cached_property
    def field(self) -> str:
        """The kind of data, mutation channels recognised by their names."""
        from nmfnet.plots.spectra import find_layout

        layout = (
            None if self.kind in ("image", "sound", "text") else find_layout(self.feature_names)
        )
        return self.kind if layout is None else layout.kind

    @cached_property
    def grey_map(self) -> str | None:
        """The grey map in which images look natural: ink on a light ground, or photographs."""
        if self.x is None or self.kind != "image":
            return None
        import numpy as np

        from nmfnet.plots.reconstruction import choose_rows, dense_rows

        pixels = dense_rows(self.x, choose_rows(self.x.shape)[:200])
        pixels = pixels[np.isfinite(pixels)]
        ground = pixels.size and np.mean(pixels <= 0.1 * pixels.max()) > 0.25
        return "gray_r" if ground else "gray"

    @property
    def reconstruction(self) -> Any:
        """The reconstruction as an array, or as a function that gives rows on demand."""
        if self.said is not None:
            return self.said
        if self.x_hat is not None and not callable(self.x_hat):
            return self.x_hat
        import numpy as np

        from nmfnet.plots.arrays import matrix

        weights, decode = np.asarray(self.W), self.x_hat
        if decode is not None:
            return lambda rows: decode(weights[rows])
        return lambda rows: matrix(weights[rows], "W") @ matrix(self.H, "H")
