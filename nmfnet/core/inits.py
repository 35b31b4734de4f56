"""Where a run starts: proposals of W and H that every model translates into its own factors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch

from nmfnet.errors import UserError
from nmfnet.kernels.csr import to_scipy
from nmfnet.kernels.nndsvd import nndsvd
from nmfnet.kernels.nnls import nnls_rows
from nmfnet.kernels.separable import successive_projections
from nmfnet.types import Float, Tensor


class Proposal(NamedTuple):
    """Start of one restart: ``W (n, k)`` and ``H (k, f)``, non-negative, with ``W H`` near X."""

    W: Tensor
    H: Tensor


class Init(ABC):
    """Proposes a start. ``deterministic`` ones give every restart the same start."""

    name: str
    deterministic: bool = False

    empty: bool = False
    """Whether it says nothing by itself and waits for arrays."""

    given: bool = False
    """Whether it says what the user wants to start from, so that nothing may improve on it."""

    layered: bool = False
    """Whether it makes a start for every layer of a model that has several."""

    @abstractmethod
    def __call__(
        self, x: Float[Tensor, "n f"], n_components: int, generator: torch.Generator
    ) -> Proposal:
        """One start for x (missing entries are 0)."""

    def values(self) -> dict[str, np.ndarray]:
        """Values of W and H that the user wants, of those that there are."""
        return {}

    def check(self, n_components: int, n_samples: int, n_features: int, n_restarts: int) -> None:
        """Refuse what the method cannot give.

        Raises
        ------
        UserError
        """
        if self.deterministic and n_restarts > 1:
            raise UserError(
                f"init={self.name} is deterministic, so n_restarts={n_restarts} would repeat one "
                "run: set n_restarts=1, or use init=random or init=nndsvdar"
            )


def mean_of(x: Tensor) -> float:
    """Mean size of all entries, zeros of a sparse matrix included."""
    values = x.values() if x.is_sparse_csr else x
    return float(values.abs().sum()) / (x.shape[0] * x.shape[1])


@final
class Random(Init):
    """``|N(0, 1)|`` entries scaled so that W H has the mean of ``|X|`` (scikit-learn's ``random``)."""

    name = "random"
    layered = True

    def __call__(
        self, x: Float[Tensor, "n f"], n_components: int, generator: torch.Generator
    ) -> Proposal:
        # the mean of a product of two half-normal factors is k * scale² * 2 / pi
        scale = (max(mean_of(x), 1e-12) / n_components) ** 0.5

        def draw(*shape: int) -> Tensor:
            drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return drawn.abs_().mul_(scale).to(x.dtype)

        H = draw(n_components, x.shape[1])
        return Proposal(draw(x.shape[0], n_components).to(x.device), H.to(x.device))


class _SVDStart(Init, ABC):
    """The NNDSVD family."""

    def check(self, n_components: int, n_samples: int, n_features: int, n_restarts: int) -> None:
        super().check(n_components, n_samples, n_features, n_restarts)
        if n_components > min(n_samples, n_features):
            raise UserError(
                f"init={self.name} needs n_components <= min(n_samples, n_features) = "
                f"{min(n_samples, n_features)}, but model.n_components={n_components}: lower it, "
                "or use init=random"
            )


@final
class NNDSVD(_SVDStart):
    """NNDSVD with its exact zeros: sparse starts for HALS; multiplicative rules keep the zeros.

    Source: Boutsidis & Gallopoulos 2008.
    """

    name = "nndsvd"
    deterministic = True

    def __call__(
        self, x: Float[Tensor, "n f"], n_components: int, generator: torch.Generator
    ) -> Proposal:
        return Proposal(*nndsvd(x, n_components, generator))


@final
class NNDSVDa(_SVDStart):
    """NNDSVD with zeros replaced by the mean of X. Source: Boutsidis & Gallopoulos 2008."""

    name = "nndsvda"
    deterministic = True

    def __call__(
        self, x: Float[Tensor, "n f"], n_components: int, generator: torch.Generator
    ) -> Proposal:
        W, H = nndsvd(x, n_components, generator)
        fill = mean_of(x)
        return Proposal(torch.where(W == 0, fill, W), torch.where(H == 0, fill, H))


@final
class NNDSVDar(_SVDStart):
    """NNDSVD with zeros replaced by small random numbers in [0, mean(X) / 100].

    Source: Boutsidis & Gallopoulos 2008.
    """

    name = "nndsvdar"

    def __call__(
        self, x: Float[Tensor, "n f"], n_components: int, generator: torch.Generator
    ) -> Proposal:
        W, H = nndsvd(x, n_components, generator)

        def filled(v: Tensor) -> Tensor:
            noise = torch.rand(v.shape, generator=generator, dtype=torch.float64).to(v)
            return torch.where(v == 0, noise * (mean_of(x) / 100), v)

        return Proposal(filled(W), filled(H))


@final
class KMeans(Init):
    """Cluster centres as H (of data of any sign their size), memberships + 0.2 as W.

    Source: Ding, Li & Jordan 2010, section 3.2 (initialisation of convex NMF).
    """

    name = "kmeans"

    def check(self, n_components: int, n_samples: int, n_features: int, n_restarts: int) -> None:
        if n_components > n_samples:
            raise UserError(
                f"init=kmeans needs n_components <= n_samples = {n_samples}, but "
                f"model.n_components={n_components}: lower it, or use init=random"
            )

    def __call__(
        self, x: Float[Tensor, "n f"], n_components: int, generator: torch.Generator
    ) -> Proposal:
        from sklearn.cluster import KMeans as SklearnKMeans

        rows = to_scipy(x) if x.is_sparse_csr else x.cpu().numpy()
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        found = SklearnKMeans(n_components, n_init=1, random_state=seed).fit(rows)
        H = torch.from_numpy(found.cluster_centers_).to(x).abs()
        member = torch.nn.functional.one_hot(
            torch.from_numpy(found.labels_).long(), n_components
        ).to(x)
        return Proposal(member + 0.2, H)


@final
class SPA(Init):
    """Rows of X as H, chosen by successive projections, and their non-negative least squares as W.

    Source: Gillis & Vavasis 2014, algorithm 1.
    """

    name = "spa"
    deterministic = True

    def check(self, n_components: int, n_samples: int, n_features: int, n_restarts: int) -> None:
        super().check(n_components, n_samples, n_features, n_restarts)
        if n_components > min(n_samples, n_features):
            raise UserError(
                f"init=spa needs n_components <= min(n_samples, n_features) = "
                f"{min(n_samples, n_features)}, but model.n_components={n_components}: lower it, or use "
                "init=random"
            )

    def __call__(
        self, x: Float[Tensor, "n f"], n_components: int, generator: torch.Generator
    ) -> Proposal:
        rows = (x.to_dense() if x.is_sparse_csr else x).double().clamp_min(0)
        H = rows[successive_projections(rows, n_components)]
        return Proposal(nnls_rows(rows, H).to(x.dtype), H.to(x.dtype))


@final
class Given(Init):
    """W, H or both from a ``factors.npz`` (that of an earlier run, or your own); the other is random.

    Parameters
    ----------
    path : str, optional
        A .npz with ``W`` (n_samples, n_components), ``H`` (n_components, n_features) or both. In Python
        the arrays themselves can be given: ``nmfnet.fit(X, init="given", H=H)``.
    """

    name = "given"
    deterministic = True
    given = True

    def __init__(self, *, path: str | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.deterministic, self.empty = path is not None, path is None

    def check(self, n_components: int, n_samples: int, n_features: int, n_restarts: int) -> None:
        super().check(n_components, n_samples, n_features, n_restarts)
        wanted = {"W": (n_samples, n_components), "H": (n_components, n_features)}
        for name, found in self.values().items():
            if found.shape != wanted[name]:
                raise UserError(
                    f"init.path={self.path}: {name} has shape {found.shape}, but this run needs "
                    f"{wanted[name]}"
                )
            if not np.isfinite(found).all():
                raise UserError(f"init.path={self.path}: {name} must be finite")

    def values(self) -> dict[str, np.ndarray]:
        if self.path is None:
            return {}
        if not self.path.is_file():
            raise UserError(f"init.path={self.path} does not exist: give a .npz with W and H")
        try:
            opened = np.load(self.path)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"init.path={self.path} is not a .npz with W and H: {error}") from error
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise UserError(f"init.path={self.path} is a single array: give a .npz with W and H")
        with opened as arrays:
            try:
                held: dict[str, np.ndarray] = {
                    name: arrays[name] for name in ("W", "H") if name in arrays.files
                }
            except ValueError as error:  # Python objects
                raise UserError(f"init.path={self.path}: {error}") from error
            if not held:
                raise UserError(
                    f"init.path={self.path} has neither an array 'W' nor 'H', only "
                    f"{', '.join(arrays.files)}"
                )
            for name, value in held.items():
                if value.dtype.kind not in "fiub":
                    raise UserError(f"init.path={self.path}: {name} must hold numbers")
            return held

    def __call__(
        self, x: Float[Tensor, "n f"], n_components: int, generator: torch.Generator
    ) -> Proposal:
        drawn = Random()(x, n_components, generator)
        held = {name: torch.from_numpy(value).to(drawn.W) for name, value in self.values().items()}
        return drawn._replace(**held)
