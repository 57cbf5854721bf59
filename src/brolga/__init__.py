"""brolga: stream anything into a container registry, in one pass."""

from brolga._version import __version__

__all__ = ["__version__"]
