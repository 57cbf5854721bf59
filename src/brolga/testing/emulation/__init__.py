"""The middleware that behaves as the registry of a profile."""
