"""Lines through examples: logits and distances along them, straightness, and exact affine pieces."""
