"""Methods from outside policy optimisation, to compare with."""
