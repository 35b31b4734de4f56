"""Hooks into the training loop that every model shares."""
