"""One run: from a configuration to a fitted model and its folder."""
