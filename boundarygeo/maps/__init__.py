"""Planes through examples, and the labels that a classifier gives on them."""
