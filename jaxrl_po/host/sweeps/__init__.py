"""Sweeps: many settings and seeds, their results."""
