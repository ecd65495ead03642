"""Saved policies: write, load, play, export."""
