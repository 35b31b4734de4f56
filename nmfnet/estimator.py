"""nmfnet as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data


class Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Any model of nmfnet in a scikit-learn pipeline.

    Parameters
    ----------
    model : str
        A choice of the group ``model``.
    n_components : int, >= 1
    loss : str
        A choice of the group ``loss``.
    n_restarts : int, >= 1
    max_iter : int, >= 1
    tol : float, >= 0
        See :class:`nmfnet.budget.Budget`.
    random_state : int, RandomState or None
        Seed.
    settings : dict or None
        Any further keywords of :func:`nmfnet.fit`, e.g. ``{"solver": "adam", "solver.lr": 0.1}``.

    Attributes
    ----------
    components_ : ndarray, shape (n_components, n_features)
    n_components_ : int
    n_iter_ : int
        Iterations of the best restart.
    reconstruction_err_ : float
        Objective of the best restart: the loss summed over all entries (half the squared error for
        ``frobenius``), penalties included.
    model_ : Factorization
        The fitted model.
    """

    def __init__(
        self,
        model: str = "nmf",
        n_components: int = 2,
        *,
        loss: str = "frobenius",
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
        """Fit the model to X, shape (n_samples, n_features), >= 0."""
        from nmfnet.api import fit

        X = self._checked(X, reset=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.model_ = fit(
            X,
            model=self.model,
            n_components=self.n_components,
            loss=self.loss,
            n_restarts=self.n_restarts,
            max_iter=self.max_iter,
            tol=self.tol,
            seed=seed,
            dtype="float64" if X.dtype == np.float64 else "float32",
            **(self.settings or {}),
        )
        self.components_ = self.model_.components_
        self.n_components_ = self.components_.shape[0]
        self.n_iter_ = int(self.model_.metrics["n_iter"])
        self.reconstruction_err_ = float(self.model_.metrics["objective"])
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

    def _checked(self, X: Any, *, reset: bool) -> Any:
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=reset)
        values = X.data if hasattr(X, "tocsr") else X
        if values.size and values.min() < 0:
            raise ValueError(f"Negative values in data passed to {type(self).__name__}")
        return X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
