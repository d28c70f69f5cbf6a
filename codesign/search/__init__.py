"""The search. Import its modules directly: `space` and `results` start at once, `study` brings jax and Optuna."""
