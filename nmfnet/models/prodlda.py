"""ProdLDA: documents as products of topics, their codes by a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, final

import torch

from nmfnet.core.constraints import Free
from nmfnet.core.model import Parts
from nmfnet.kernels.csr import csr_of
from nmfnet.kernels.sparse import row_numbers, row_sums
from nmfnet.models._amortised import AmortisedTopics
from nmfnet.models._documents import counts
from nmfnet.settings.ranges import Natural, Positive, Range
from nmfnet.types import Batch, Float, Tensor

MOMENTUM = 0.1
"""Share of the running mean and covariance that a step replaces."""

LEAST = 1e-5
"""Added to a variance."""


@final
class ProdLDA(AmortisedTopics):
    r"""X ~ multinomial(softmax(N(theta H))) with theta = softmax(z), z ~ N(m(X), v(X)) by a network E.

    ======  =============================================  ==============  ========================
    symbol  meaning                                        code            shape
    ======  =============================================  ==============  ========================
    X       counts of words                                ``batch.x``     n_samples, n_features
    E_l     weights of encoder layer l, then softplus      ``E1``, ...     width in, width out
    m       mean of z, batch-normalised                    ``M``           width in, n_components
    log v   log of its variance, batch-normalised          ``V``           width in, n_components
    theta   topics of a document, of sum 1                 ``law``         n_samples, n_components
    H       what a topic adds to the log of the shares     ``H``           n_components, n_features
    N       batch normalisation, word by word              ``logits``
    ======  =============================================  ==============  ========================

    A word is likely if its topics agree: topics are multiplied, not mixed. The prior of z is normal, and
    theta with it close to Dirichlet(alpha). The objective is minus the evidence lower bound in nats, by
    one draw for every document and iteration in training, and by eight fixed ones where it is judged.
    Without batch normalisation all topics soon are the same (component collapse). N's shift starts at the
    log of the words' shares in all documents.

    The code is softmax(m), which is not the mean of the law. A row of ``components_`` is the shares of
    words in a document about that topic alone. The default solver stops by a tenth of the documents,
    which no gradient sees: runs end ``stopped early``. It needs the shares of all words in all documents
    at once; for large collections use ``solver=adam_network batch_size=200``.

    Parameters
    ----------
    n_components : int, >= 2
    hidden : sequence of int
        Widths of the encoder's hidden layers.
    alpha : float, > 0
        Of the symmetric Dirichlet that the prior stands for.
    dropout : float in [0, 1)
        Share of the last hidden units that a gradient step leaves out.
    warm_up : int, >= 0
        Iterations over which the weight of the KL term rises to 1; nothing stops before.

    Source: Srivastava & Sutton 2017, "Autoencoding variational inference for topic models", sections 3
    and 4.

    Differs from the source: full batches with held-out rows that say when to stop, a warm-up, and no
    dropout of theta.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 20,
        hidden: Sequence[int] = (100, 100),
        alpha: Positive = 0.1,
        dropout: Annotated[float, Range(0, below=1)] = 0.2,
        warm_up: Natural = 200,
    ) -> None:
        super().__init__(
            parts, n_components=n_components, hidden=hidden, dropout=dropout, warm_up=warm_up,
            alpha=alpha,
        )  # fmt: skip
        self.H = self.factor("H", "component", "feature", constraint=Free())
        r, k = self.n_restarts, n_components
        self.scale, self.shift = (
            torch.nn.Parameter(fill * torch.ones(r, 1, self.sizes.n_features)) for fill in (1, 0)
        )
        self.register_buffer("middle", torch.zeros(r, 1, k))
        self.register_buffer("spread", torch.eye(k).repeat(r, 1, 1))
        self.middle: Tensor  # mean and covariance of theta, as N last saw them
        self.spread: Tensor

    def logits(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """N(theta H): normalising a linear map takes the mean and the covariance of what it maps."""
        H, middle, spread = self.H(), self.middle, self.spread
        if self.training and self.now is not None and W.shape[-2] > 1:
            middle = W.mean(-2, keepdim=True)
            spread = (W - middle).mT @ (W - middle) / W.shape[-2]
            with torch.no_grad():
                self.middle.lerp_(middle, MOMENTUM)
                self.spread.lerp_(spread, MOMENTUM)
        variance = (H * (spread @ H)).sum(-2, keepdim=True)
        gain = self.scale * (variance + LEAST).rsqrt()
        return (W - middle) @ (H * gain) + self.shift

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """Shares of the words."""
        return self.logits(W).softmax(-1)

    def components(self) -> Float[Tensor, "*r k f"]:
        """Shares of the words in a document of one topic alone."""
        H = self.H()
        eye = torch.eye(self.n_components, dtype=self.precision, device=self.device)
        return self.decode(eye.expand(*H.shape[:-2], *eye.shape))

    def row_misfit(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        x = csr_of(batch.x)
        rows, log = row_numbers(x), self.logits(code)
        at = rows * x.shape[1] + x.col_indices()
        words = log.flatten(-2).index_select(-1, at) * x.values()
        sums = log.new_zeros(log.shape[:-1]).index_add(-1, rows, words)
        return row_sums(x) * log.logsumexp(-1) - sums

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        super().start(proposal, batch)
        x = counts(batch)
        words = x.values().new_ones(x.shape[1]).index_add(0, x.col_indices(), x.values())
        self.shift.copy_((words / words.sum()).log().expand_as(self.shift))
