"""The version of nmfnet."""

__version__ = "0.1.0"
