"""A page to look at runs, sweeps and RLHF runs: written once, or served while they go on."""
