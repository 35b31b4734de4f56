"""nmfnet as a scikit-learn transformer."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from nmfnet.config import constraints_of, options, plain, read_choice
from nmfnet.errors import UserError

if TYPE_CHECKING:
    from nmfnet.config import Config
    from nmfnet.core.model import Factorization


DEFAULT = 2
"""Number of components, where none is given."""


def _config_of(model: str) -> Config | None:
    """The configuration of a choice of the group ``model``; None for what is none."""
    from nmfnet.settings.words import configuration

    try:
        return configuration(plain({"model": model}))
    except UserError:
        return None


def _class_of(cfg: Config | None) -> type[Factorization] | None:
    from nmfnet.settings.objects import locate

    found: type[Factorization] | None = None if cfg is None else locate(cfg.model["_target_"])
    return found


def _learns_from_batches(estimator: Estimator) -> bool:
    """Whether the model is X ~ W H of factors >= 0, whose sums can stand for the rows they come from."""
    from nmfnet.core.constraints import NON_NEGATIVE
    from nmfnet.settings.objects import build

    cfg = _config_of(estimator.model)
    kind = _class_of(cfg)
    if cfg is None or kind is None or not kind.bilinear:
        return False
    general, single = constraints_of(cfg.constraint)
    return all(build(node).bounds == NON_NEGATIVE for node in (general, *single.values()))


def _without_rows(model: Factorization, *, keep_solver: bool) -> Factorization:
    """A copy for the rows to come: tables with a row per training sample hold their mean row.

    It starts the search for the codes of new rows, and is all that is used of them. Without
    ``keep_solver`` what a solver remembers of X is left out as well.
    """
    from torch import nn

    from nmfnet.solvers.auto import Auto

    instead: dict[int, Any] = {} if keep_solver else {id(model.solver): Auto()}
    for factor in model.factors.values():
        if factor.per_sample and factor.degree == 1:
            mean = factor().detach().mean(-2, keepdim=True)
            instead[id(factor.raw)] = nn.Parameter(factor.constraint.right_inverse(mean))
    for value in model.given.values():
        instead[id(value)] = value[:0]
    slim = copy.deepcopy(model, instead)
    slim.transpose = None
    return slim


def _counts(model: str) -> bool:
    """Whether a model has a number of components to choose; one that is not known may have."""
    return model not in options("model") or "n_components" in read_choice("model", model)["model"]


class Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Any model of nmfnet in a scikit-learn pipeline.

    Parameters
    ----------
    model : str
        A choice of the group ``model``.
    n_components : int, >= 1, or "auto"
        Left at its default for a model without such a number (``flow``, ``unigram``). "auto" = as
        :func:`nmfnet.fit` says: those of a given factor, else the number of features.
    loss : str or None
        A choice of the group ``loss``; None = the one that the model is made for, by default
        ``frobenius``.
    n_restarts : int, >= 1
    max_iter : int, >= 1
    tol : float, >= 0
        See :class:`nmfnet.core.budget.Budget`.
    random_state : int, RandomState or None
        Seed.
    settings : dict or None
        Any further keywords of :func:`nmfnet.fit`, e.g. ``{"solver": "adam", "solver.lr": 0.1}``.

    Attributes
    ----------
    components_ : ndarray, shape (n_components, n_features)
        Not there for a model whose code has no components (``vae`` with a deep decoder).
    n_components_ : int
    n_iter_ : int
        Iterations of the best restart.
    reconstruction_err_ : float
        Objective of the best restart: the loss summed over all entries (half the squared error for
        ``frobenius``), penalties included.
    n_samples_seen_ : int
        Rows that :meth:`partial_fit` has learned from.
    model_ : Factorization
        The fitted model. A pickle holds it without what it knew of single training rows, so that its size
        does not depend on their number where the components do not need them.
    """

    def __init__(
        self,
        model: str = "nmf",
        n_components: int | str = DEFAULT,
        *,
        loss: str | None = None,
        n_restarts: int = 1,
        max_iter: int = 10_000,
        tol: float = 1e-5,
        random_state: Any = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.n_components = n_components
        self.loss = loss
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.settings = settings

    def fit(self, X: Any, y: Any = None) -> Estimator:
        """Fit the model to X, shape (n_samples, n_features), >= 0 where model or loss ask for it.

        Warns
        -----
        ConvergenceWarning
            If no independent descent has proved that the fit is done.
        """
        from nmfnet.api import fit
        from nmfnet.run.measures import unfinished_words

        X = self._checked(X, reset=True)
        self.model_ = fit(X, model=self.model, **self._options(X))
        numbers = self.model_.numbers  # of which only these are computed
        self.n_iter_ = int(numbers["n_iter"])
        self.reconstruction_err_ = float(numbers["objective"])
        self.n_samples_seen_ = 0  # partial_fit then starts from these components
        if said := unfinished_words(numbers):
            warnings.warn(f"{self.model}: {said}", ConvergenceWarning, stacklevel=2)
        return self._fitted()

    @available_if(_learns_from_batches)
    def partial_fit(self, X: Any, y: Any = None) -> Estimator:
        """Improve the components by a batch of rows that is seen once.

        Every call learns from X, shape (n_samples, n_features), and from sums that remember the
        batches before; the batches themselves are not kept. Models of the form X ~ W H have it. After
        :meth:`fit` it goes on from the fitted components.
        ``reconstruction_err_`` is then that of the last batches, decayed as the sums are.
        """
        from nmfnet.run.incremental import begin, learn

        first = not hasattr(self, "model_")
        X = self._checked(X, reset=first)
        if first or self.n_samples_seen_ == 0:
            start = None if first else self.components_
            self.model_ = begin(X, {"model": self.model, **self._options(X)}, start)
            self.n_samples_seen_ = 0
        self.n_samples_seen_ += X.shape[0]
        learn(self.model_, X, self.n_samples_seen_)
        self.n_iter_ = self.model_.iteration
        best = self.model_.objectives[self.model_.best]
        self.reconstruction_err_ = float(best) * self.model_.loss_unit
        return self._fitted()

    def _options(self, X: Any) -> dict[str, Any]:
        number = X.shape[1] if self.n_components == "auto" else self.n_components
        options = {
            **({} if number == DEFAULT and not _counts(self.model) else {"n_components": number}),
            **({} if self.loss is None else {"loss": self.loss}),
            "n_restarts": self.n_restarts,
            "max_iter": self.max_iter,
            "tol": self.tol,
            "seed": int(check_random_state(self.random_state).randint(2**31 - 1)),
            "dtype": "float64" if X.dtype == np.float64 else "float32",
            **(self.settings or {}),
        }
        return plain(options)

    def _fitted(self) -> Estimator:
        from nmfnet.run.checkpoint import name_features

        if hasattr(self, "feature_names_in_"):
            name_features(self.model_, self.feature_names_in_)
        self.n_components_ = self.model_.n_components
        if self.model_.has_components:
            self.components_ = self.model_.components_
            self.n_components_ = self.components_.shape[0]
        elif hasattr(self, "components_"):
            del self.components_
        self._n_features_out = self.n_components_
        return self

    def transform(self, X: Any) -> np.ndarray:
        """W of X, shape (n_samples, n_components), with the components fixed."""
        check_is_fitted(self)
        return self.model_.transform(self._checked(X, reset=False))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """X_hat of weights, shape (n_samples, n_features)."""
        check_is_fitted(self)
        return self.model_.inverse_transform(X)

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the loss per entry of X with the components fixed; higher = better, 0 = perfect.

        The loss is the one that was minimised, in the units of X: compare scores of the same loss only.
        """
        check_is_fitted(self)
        return self.model_.score(self._checked(X, reset=False))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = _without_rows(self.model_, keep_solver=self.n_samples_seen_ > 0)
        return state

    def _checked(self, X: Any, *, reset: bool) -> Any:
        if np.ma.is_masked(X):
            raise UserError(
                "X has masked entries, and a scikit-learn transformer takes X as a whole: use "
                "nmfnet.fit(X), which leaves them out, or fill them, X.filled(0)"
            )
        sparse = "csr" if self._takes_sparse() else False
        X = validate_data(
            self, X, accept_sparse=sparse, dtype=[np.float64, np.float32], reset=reset
        )
        values = X.data if hasattr(X, "tocsr") else X
        if values.size and values.min() < 0 and not self._takes_any_sign():
            raise ValueError(f"Negative values in data passed to {type(self).__name__}")
        return X

    def _takes_sparse(self) -> bool:
        """Whether the model works on a sparse X; True for what is no model, which fit refuses."""
        kind = _class_of(_config_of(self.model))
        return kind is None or kind.sparse

    def _takes_any_sign(self) -> bool:
        """Whether the model and its loss take a negative X; True for what fit refuses anyway."""
        from nmfnet.core.starting import takes_any_sign
        from nmfnet.run.checkpoint import assemble
        from nmfnet.settings.words import configuration
        from nmfnet.types import Sizes

        loss = {} if self.loss is None else {"loss": self.loss}
        try:
            cfg = configuration(plain({"model": self.model, **loss, **(self.settings or {})}))
            model = assemble(cfg, Sizes(1000, 1000))
        except UserError:
            return True
        refused = model.loss.refused(-np.ones((1, 1)))
        return takes_any_sign(model) and not any(outside.any() for outside, *_ in refused)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._takes_sparse()
        tags.input_tags.positive_only = not self._takes_any_sign()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
