"""Language models on the host: checkpoints in and out, text, runs."""
