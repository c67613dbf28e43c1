"""Frames: orthogonal directions of equal length around an example, and the searches for those that all fool."""
