"""What touches files, time and people; nothing here is traced."""
