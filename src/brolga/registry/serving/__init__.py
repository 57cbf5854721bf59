"""The registry on a socket: connections and their bounds, authentication, TLS."""
