"""What scikit-learn's NMF and MiniBatchNMF promise, asked of nmfnet through a thin adapter.

Remaining differences, each with its reason:

- ``init``: the default is ``random`` and not ``nndsvda``, so that restarts differ.
- ``solver``: ``"cd"`` is ``hals`` (or ``newton``) here; both are coordinate descents, with other
  steps, so ends agree and paths do not.
- ``alpha_W``, ``alpha_H``: weights of penalties are those of sums over all entries, and are not
  multiplied by the number of features or samples. A list of factors (``on=[W,H]``) has one weight.
- ``reconstruction_err_`` is the objective, penalties included: not ``sqrt(2 D)``, which is the norm
  of the residual under the squared error alone.
- ``tol`` bounds the fall of the objective per 100 iterations, and ``converged`` is proved by another
  descent, so ``n_iter_`` differs.
- Exact zeros under multiplicative updates are the smallest factor kept (1e-16), since a zero would
  stay.
- ``shuffle``, ``max_no_improvement``, ``fresh_restarts`` do not exist: the order of coordinates is
  fixed, one rule stops all solvers, and ``solver.n_sub`` says how often the weights of a batch move.
- ``W=`` and ``H=`` hold what is given, and only ``init="given"`` makes a start of it (there:
  ``init="custom"``).
- Zeros of X under Itakura-Saito are refused for every solver, and under every other beta <= 0.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from making import planted, positive
from sklearn.decomposition import NMF, MiniBatchNMF
from sklearn.exceptions import ConvergenceWarning

import nmfnet
from nmfnet import Estimator, UserError

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta"),
]

SOLVERS = {"cd": "auto", "mu": "mu"}
LOSSES = {"frobenius": "frobenius", "kullback-leibler": "kl", "itakura-saito": "itakura_saito"}


def like(
    n_components: int | str = "auto",
    *,
    init: str = "random",
    solver: str = "cd",
    beta_loss: str | float = "frobenius",
    alpha: float = 0.0,
    l1_ratio: float = 0.0,
    max_iter: int = 200,
    tol: float = 1e-4,
    random_state: int = 0,
) -> Estimator:
    """An estimator with scikit-learn's words; ``alpha`` is per entry of both factors."""
    settings: dict = {"solver": SOLVERS[solver], "init": init}
    if not isinstance(beta_loss, str):
        settings["loss.beta"] = float(beta_loss)
    shares = {"l1": alpha * l1_ratio, "l2": alpha * (1 - l1_ratio)}
    used = {name: weight for name, weight in shares.items() if weight > 0}
    if used:
        settings["penalty"] = list(used)
    for name, weight in used.items():
        settings |= {f"penalty.{name}.on": ["W", "H"], f"penalty.{name}.weight": weight}
    return Estimator(
        n_components=n_components,
        loss=LOSSES[beta_loss] if isinstance(beta_loss, str) else "beta",
        max_iter=max_iter,
        tol=tol,
        random_state=random_state,
        settings=settings,
    )


def divergence(X: np.ndarray, X_hat: np.ndarray, beta: float) -> float:
    if beta == 1:
        return float((X * np.log(X / X_hat) - X + X_hat).sum())
    if beta == 0:
        return float((X / X_hat - np.log(X / X_hat) - 1).sum())
    whole = X**beta + (beta - 1) * X_hat**beta - beta * X * X_hat ** (beta - 1)
    return float((whole / (beta * (beta - 1))).sum())


@pytest.mark.parametrize("solver", ["cd", "mu"])
@pytest.mark.parametrize("init", ["random", "nndsvd", "nndsvda", "nndsvdar"])
def test_any_start_gives_factors_without_a_sign_that_fit_a_matrix_of_their_rank(init, solver):
    X = planted(30, 12)[0] + 0.01
    made = like(3, init=init, solver=solver, max_iter=100)
    W = made.fit_transform(X)
    assert W.min() >= 0
    assert made.components_.min() >= 0
    assert np.linalg.norm(X - W @ made.components_) < 0.1 * np.linalg.norm(X)


def test_the_number_of_components():
    X = positive(9, 6)
    assert like("auto", max_iter=5).fit(X).components_.shape == (6, 6)
    assert like(11, max_iter=5).fit(X).components_.shape == (11, 6)
    with pytest.raises(UserError, match=r"n_components <= min\(n_samples, n_features\)"):
        like(11, init="nndsvd").fit(X)
    with pytest.raises(UserError, match="at least 1"):
        like(0).fit(X)


@pytest.mark.parametrize("beta_loss", ["frobenius", "kullback-leibler"])
def test_transform_repeats_the_weights_of_the_fit(beta_loss):
    X = planted(30, 12)[0] + 0.1
    made = like(3, beta_loss=beta_loss, max_iter=3000, tol=1e-7).fit(X)
    W = made.model_.factors["W"]()[0].detach().numpy()
    np.testing.assert_allclose(made.transform(X), W, rtol=1e-2, atol=1e-3)
    np.testing.assert_array_equal(made.transform(X), like(
        3, beta_loss=beta_loss, max_iter=3000, tol=1e-7).fit_transform(X))  # fmt: skip
    np.testing.assert_allclose(made.inverse_transform(W), W @ made.components_, rtol=1e-6)
    with pytest.raises(UserError, match="3 columns"):
        made.inverse_transform(W[:, :2])


@pytest.mark.parametrize("solver", ["cd", "mu"])
def test_sparse_storage_changes_nothing(solver):
    X = positive(20, 9)
    X = np.where(X > 0.5, X, 0)
    dense, sparse = (like(3, solver=solver, max_iter=50) for _ in range(2))
    W, V = dense.fit_transform(X), sparse.fit_transform(sp.csc_matrix(X))
    np.testing.assert_allclose(V, W, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(sparse.components_, dense.components_, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("beta_loss", "beta"), [("itakura-saito", 0), (0.5, 0.5), ("kullback-leibler", 1), (1.5, 1.5),
                            ("frobenius", 2), (3.0, 3)],
)  # fmt: skip
def test_every_divergence_ends_no_worse_than_theirs(beta_loss, beta):
    X = planted(20, 8)[0] + 0.2
    theirs = NMF(
        3, solver="mu", beta_loss=beta_loss, init="nndsvda", max_iter=400, tol=0, random_state=0
    ).fit(X)
    made = like(3, beta_loss=beta_loss, init="nndsvda", max_iter=400, tol=0).fit(X)
    X_hat = made.inverse_transform(made.model_.factors["W"]()[0].detach().numpy())
    assert made.reconstruction_err_ == pytest.approx(divergence(X, X_hat, beta), rel=1e-6)
    assert made.reconstruction_err_ <= 1.01 * theirs.reconstruction_err_**2 / 2


def test_penalties_shrink_and_end_where_theirs_do():
    X = planted(20, 8)[0] + 0.2
    plain = like(3, init="nndsvda", max_iter=1000, tol=1e-6).fit(X)
    for l1_ratio in (0.0, 0.5, 1.0):
        made = like(3, init="nndsvda", alpha=0.3, l1_ratio=l1_ratio, max_iter=1000, tol=1e-6).fit(X)
        W, H = made.model_.factors["W"]()[0].detach().numpy(), made.components_
        theirs = NMF(
            3, init="nndsvda", alpha_W=0.3 / 8, alpha_H=0.3 / 20, l1_ratio=l1_ratio, max_iter=1000,
            tol=1e-6, random_state=0,
        )  # fmt: skip
        V = theirs.fit_transform(X)

        def objective(W, H, ratio=l1_ratio) -> float:
            size = W.sum() + H.sum(), (W**2).sum() + (H**2).sum()
            misfit = 0.5 * ((X - W @ H) ** 2).sum()
            return misfit + 0.3 * (ratio * size[0] + 0.5 * (1 - ratio) * size[1])

        assert made.reconstruction_err_ == pytest.approx(objective(W, H), rel=1e-6)
        assert objective(W, H) <= 1.001 * objective(V, theirs.components_)
        assert objective(W, H) < objective(plain.transform(X), plain.components_)


def test_own_starts_and_a_dictionary_that_is_held():
    X, W, H = planted(30, 12)
    start = {"W": W + 0.1, "H": H + 0.1, "init": "given", "dtype": "float64"}
    fitted = nmfnet.fit(X, n_components=3, max_iter=100, **start)
    assert fitted.metrics["train/relative_error"] < 0.02
    theirs = NMF(3, tol=1e-10, max_iter=2000).fit(X)
    theirs.components_ = H
    np.testing.assert_allclose(
        nmfnet.project(X, H, dtype="float64"), theirs.transform(X), rtol=1e-3, atol=1e-3
    )
    with pytest.raises(UserError, match="given H has shape"):
        nmfnet.fit(X, n_components=3, W=W, H=H[:, :5], init="given")
    with pytest.raises(UserError, match="not feasible"):
        nmfnet.fit(X, n_components=3, W=-W, H=H, init="given")


@pytest.mark.quick("kullback-leibler")
@pytest.mark.parametrize("beta_loss", ["itakura-saito", 0.5, "kullback-leibler", 1.5, "frobenius"])
def test_minibatches_end_near_theirs_under_every_divergence(beta_loss):
    X = planted(60, 8)[0] + 0.2
    own = {"solver": "online", "batch_size": 20, "max_iter": 300, "threads": 1, "seed": 0}
    loss = LOSSES.get(beta_loss, "beta")
    own |= {"loss.beta": beta_loss} if loss == "beta" else {}
    ours = nmfnet.fit(X, n_components=3, loss=loss, **own).metrics["train/loss"]
    theirs = MiniBatchNMF(
        3, beta_loss=beta_loss, batch_size=20, max_iter=100, random_state=0, max_no_improvement=None
    ).fit(X)
    assert ours <= 1.05 * theirs.reconstruction_err_**2 / 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_types_stay_and_names_of_features_come_out(dtype):
    X = positive(20, 8).astype(dtype)
    made = like(2, max_iter=20).fit(X)
    assert made.components_.dtype == made.transform(X).dtype == dtype
    assert list(made.get_feature_names_out()) == ["estimator0", "estimator1"]


def test_single_precision_is_close_to_double():
    X = planted(30, 12)[0] + 0.1
    single, double = (like(3, max_iter=30).fit(X.astype(t)) for t in (np.float32, np.float64))
    np.testing.assert_allclose(single.components_, double.components_, rtol=1e-2, atol=1e-3)


def test_what_is_refused_and_what_is_warned_about():
    X = positive(20, 8)
    for beta_loss in LOSSES:
        with pytest.raises(ValueError, match="Negative values"):
            like(2, beta_loss=beta_loss).fit(X - 1)
    zeros = X.copy()
    zeros[0, 0] = 0
    with pytest.raises(ValueError, match="X > 0"):
        like(2, beta_loss="itakura-saito").fit(zeros)
    fitted = like(2, beta_loss="kullback-leibler", max_iter=20).fit(zeros)
    assert np.isfinite(fitted.transform(zeros)).all()
    with pytest.warns(ConvergenceWarning):
        like(2, max_iter=1).fit(X)


def test_more_iterations_never_end_worse():
    X = positive(20, 8)
    for solver in SOLVERS:
        ends = [
            like(3, solver=solver, max_iter=n, tol=0).fit(X).reconstruction_err_
            for n in (5, 20, 80)
        ]
        assert ends == sorted(ends, reverse=True)
