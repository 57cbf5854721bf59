"""Known registries, as a table of values, and the middleware that behaves as one of them."""
