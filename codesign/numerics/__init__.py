"""Number semantics: fixed point, weight formats, activation functions."""
