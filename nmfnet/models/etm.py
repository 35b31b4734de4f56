"""The embedded topic model: words and topics are points of one space, codes come from a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, final

from nmfnet.core.constraints import Free
from nmfnet.core.model import Parts
from nmfnet.kernels.sparse import row_numbers, row_sums, with_values
from nmfnet.kernels.topics import log_mixture
from nmfnet.models._amortised import AmortisedTopics
from nmfnet.models._documents import by_restart, counts
from nmfnet.settings.ranges import Count, Natural, Range
from nmfnet.types import Batch, Float, Tensor


@final
class ETM(AmortisedTopics):
    r"""X ~ multinomial(theta softmax(A Rᵀ)) with theta = softmax(z), z ~ N(m(X), v(X)) by a network E.

    ======  =============================================  ==============  ========================
    symbol  meaning                                        code            shape
    ======  =============================================  ==============  ========================
    X       counts of words                                ``batch.x``     n_samples, n_features
    E_l     weights of encoder layer l, then softplus      ``E1``, ...     width in, width out
    m       mean of z, batch-normalised                    ``M``           width in, n_components
    log v   log of its variance, batch-normalised          ``V``           width in, n_components
    theta   topics of a document, of sum 1                 ``law``         n_samples, n_components
    R       embeddings of the words                        ``R``           n_features, embedding
    A       embeddings of the topics                       ``A``           n_components, embedding
    ======  =============================================  ==============  ========================

    Topics are mixed as in LDA, and the words of a topic, ``softmax(A Rᵀ)``, are those near to it. The
    encoder reads the shares of the words in a document. The prior of z is N(0, 1). The objective is
    minus the evidence lower bound in nats, by one draw for every document and iteration in training,
    and by eight fixed ones where it is judged. The code is softmax(m), which is not the mean of the
    law. The default solver stops by a tenth of the documents, which no gradient sees: runs end
    ``stopped early``.

    Parameters
    ----------
    n_components : int, >= 2
    hidden : sequence of int
        Widths of the encoder's hidden layers.
    embedding : int, >= 1
        Dimensions of the space of words and topics.
    dropout : float in [0, 1)
        Share of the last hidden units that a gradient step leaves out.
    warm_up : int, >= 0
        Iterations over which the weight of the KL term rises to 1; nothing stops before.

    Source: Dieng, Ruiz & Blei 2020, "Topic modeling in embedding spaces", sections 4 and 5.

    Differs from the source: embeddings are learned with the topics; full batches with held-out rows
    that say when to stop, a warm-up, and batch-normalised m and log v.
    """

    linear = True  # X_hat has the rank of theta, whatever the lengths

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 20,
        hidden: Sequence[int] = (100, 100),
        embedding: Count = 100,
        dropout: Annotated[float, Range(0, below=1)] = 0.2,
        warm_up: Natural = 200,
    ) -> None:
        super().__init__(
            parts, n_components=n_components, hidden=hidden, dropout=dropout, warm_up=warm_up,
            alpha=1 - 1 / n_components,  # with which the prior of z has variance 1
        )  # fmt: skip
        self.axes["embedding"] = embedding
        self.R = self.factor("R", "feature", "embedding", constraint=Free())
        self.A = self.factor("A", "component", "embedding", constraint=Free())

    def read(self, x: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        length = row_sums(x).clamp_min(1)
        return with_values(x, x.values() / length[row_numbers(x)])

    def row_misfit(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        x, H = counts(batch), self.components()
        return -by_restart(lambda T, B: log_mixture(x, T, B), code.double(), H.double())

    def components(self) -> Float[Tensor, "*r k f"]:
        return (self.A() @ self.R().mT).softmax(-1)
