"""Tasks small enough to measure RLHF on: one with an exact answer, one on real sentences."""
