"""What a model is made of: factors, constraints, losses, penalties, starts, and their base."""
