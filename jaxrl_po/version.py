"""The version of this library: the build reads it here too."""

__version__ = "0.2.0"
