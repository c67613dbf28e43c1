"""Sections of the input space: lines, planes, and what the classifier says on them."""
