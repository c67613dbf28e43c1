"""Orthogonal adversarial directions found one after another."""
