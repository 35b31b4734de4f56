"""``-m hparams_search=optuna``: settings that are looked for rather than listed."""
