"""Layers with the restart axis in front, shared by the network models."""
