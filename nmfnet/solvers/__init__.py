"""How factors move: the only code that changes a model's parameters, chosen with ``solver=NAME``."""
