"""How many components? Any model, fitted many times at every rank; and what the fits agree on.

:func:`select` runs a configuration with ``ranks=...``; ``nmfnet.select_rank`` does the same for an
array. The steps: ``resampling`` makes replicates, ``fits`` trains the model on each through the one
training loop, ``measures`` clusters the components and scores every rank, ``rule`` suggests one.
"""

from nmfnet.selection.options import Selection, parse_ranks

__all__ = ["Selection", "parse_ranks"]
