"""Environments that step on the host: a pool of them, and what is collected there."""
