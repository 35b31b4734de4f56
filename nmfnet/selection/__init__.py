"""How many components? Any model, fitted many times at every rank; and what the fits agree on.

:func:`select` runs a configuration with ``ranks=...``; ``nmfnet.select_rank`` does the same for an
array. The steps: ``prepare`` checks, ``resampling`` makes replicates, ``fits`` trains the model on each
through the one training loop, ``relevance`` asks how many components NMF would keep, ``measures``
clusters the components and scores every rank, ``rule`` suggests one, ``outcome`` is what is reported.
"""

from nmfnet.selection.options import Selection, parse_ranks

__all__ = ["Selection", "parse_ranks"]
