"""Online learning with hyper-parameters that are estimated again: LDA on minibatches."""

from __future__ import annotations

import numpy as np
from answering import answer, axes

import nmfnet

rng = np.random.default_rng(0)
alpha, eta, k = np.array([0.6, 0.3, 0.1, 0.05]), 0.08, 4
topics = rng.dirichlet(np.full(200, eta), k)
X = np.stack([rng.multinomial(150, p) for p in rng.dirichlet(alpha, 2000) @ topics]).astype(float)
train, test = X[:1600], X[1600:]

figure, (left, right) = axes(2)
found = {}
for name, learned in (("fixed", False), ("estimated", True)):
    bounds = []
    for passes in (1, 2, 4, 8):
        fitted = nmfnet.fit(
            train, "lda", n_components=k, batch_size=100, max_iter=16 * passes, certificate_tol=None,
            figures=False, dtype="float64", **{"model.learn_priors": learned},
        )  # fmt: skip
        bounds.append(float(np.exp(-fitted.score(test) * test.size / test.sum())))
    found[name] = bounds
    left.plot((1, 2, 4, 8), bounds, "o-", label=f"priors {name}", markersize=3)
    if learned:
        prior = np.sort(fitted.factors["alpha"]()[0].detach().numpy().ravel())[::-1]
        last = float(fitted.factors["eta"]().detach()[0])
left.set_xlabel("passes over the documents", fontsize=8)
left.set_ylabel("held-out perplexity bound", fontsize=8)
left.legend(fontsize=7, frameon=False)
right.plot(range(k), alpha, "o", color="#999999", label="true alpha")
right.plot(range(k), prior, "x", color="#332288", label="estimated online")
right.set_xticks(range(k))
right.legend(fontsize=7, frameon=False)
answer(
    figure,
    f"Yes, roughly: alpha and eta that every minibatch estimates again come out as "
    f"{', '.join(f'{a:.2f}' for a in prior)} "
    f"and {last:.3f} (true {', '.join(map(str, alpha))} and {eta}), and the held-out bound "
    f"after 8 passes is "
    f"{found['estimated'][-1]:.1f} against {found['fixed'][-1]:.1f} with priors fixed at 1/k.",
)
