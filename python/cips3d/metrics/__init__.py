"""Numbers that say how good a trained generator is."""
