"""Adversarial subspaces: how many orthogonal directions fool a network."""
