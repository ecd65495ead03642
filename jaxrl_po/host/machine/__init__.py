"""What the machine is: files, locks, signals, cores and devices."""
