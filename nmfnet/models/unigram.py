"""The unigram model: one distribution of words for all documents."""

from __future__ import annotations

from typing import final

from nmfnet.core.constraints import Simplex
from nmfnet.core.model import Parts
from nmfnet.kernels.sparse import row_sums, with_values
from nmfnet.models._documents import Documents, by_restart, counts
from nmfnet.settings.ranges import NotNegative
from nmfnet.types import Batch, Float, Tensor, Terms


@final
class Unigram(Documents):
    r"""X ~ multinomial(H) row by row, with one H for all documents.

    ======  ===================================  ==============  =============
    symbol  meaning                              code            shape
    ======  ===================================  ==============  =============
    X       counts of words                      ``batch.x``     n_samples, n_features
    H       shares of the words, a row of sum 1  ``H``           1, n_features
    ======  ===================================  ==============  =============

    The yardstick of topic models: it has no topics, and the code of every document is 1. H has a
    closed form, ``(Σ_i X_i + pseudocount) / sum``. What is minimised is ``-Σ x log H`` in nats
    (``data``), and ``-pseudocount Σ log H`` (``prior``).

    Parameters
    ----------
    pseudocount : float, >= 0
        Added to the count of every word; 1 = "add one", 0 = maximum likelihood.

    Source: Blei, Ng & Jordan 2003, section 4.1.
    """

    def __init__(self, parts: Parts, *, pseudocount: NotNegative = 1.0) -> None:
        super().__init__(parts, n_components=1)
        self.pseudocount = pseudocount
        self.H = self.factor("H", "component", "feature", constraint=Simplex())

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        H = self.H()
        return H.new_ones(*H.shape[:-2], batch.x.shape[0], 1)

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        x = counts(batch)

        def of(log: Tensor) -> Tensor:
            return -row_sums(with_values(x, x.values() * log[0, x.col_indices()]))

        return {"data": by_restart(of, self._log())}

    def terms(self, batch: Batch) -> Terms:
        share = batch.x.shape[0] / self.sizes.n_samples  # so that parts of the rows add up
        prior = -share * self.pseudocount * self._log().sum((-2, -1))
        return {**super().terms(batch), "prior": prior}

    def _log(self) -> Tensor:
        return self.H.raw.double().log_softmax(-1)

    def solve(self, batch: Batch) -> None:
        x = counts(batch)
        words = x.values().new_zeros(x.shape[1]).index_add(0, x.col_indices(), x.values())
        words = words + self.pseudocount
        self.H.assign_((words / words.sum()).expand_as(self.H.raw))

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        self.check_documents(batch)
