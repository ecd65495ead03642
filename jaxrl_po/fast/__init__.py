"""What makes the program fast and changes no number."""
