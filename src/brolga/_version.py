"""The version, alone in a module so that the build and `brolga version` read it cheaply."""

__version__ = "0.2.0"
