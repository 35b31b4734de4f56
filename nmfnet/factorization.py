"""The address from which a model of one's own imports its base."""

from nmfnet.core.model import Factorization, Parts

__all__ = ["Factorization", "Parts"]
