"""A matrix that stays on disk and is read a few rows at a time."""
