"""Training: losses, the two optimisation steps, EMA, checkpoints and the loop that ties them together."""
