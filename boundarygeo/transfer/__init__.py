"""Transfer: how adversarial examples and subspaces of one model do on another."""
