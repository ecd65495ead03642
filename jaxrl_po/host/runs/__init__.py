"""Runs: start, resume, look into one."""
