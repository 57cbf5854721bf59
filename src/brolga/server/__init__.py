"""The embedded OCI registry: distribution-spec 1.1 over one image layout per repository.

Knows the server's side of the protocol alone. Must not know the client: it shares the value
types with it and nothing else, because the tests hold the one against the other.

    app            the table of routes, and the ASGI application made of it
    blobs, uploads, manifests, tags    the handlers, one module for each kind of resource
    receiving      a request's body, written while the rest of it arrives
    names          what a URL may name: the only gate from the network to the file system
    problems       each refusal as a status and the spec's error code
    storage, session, index            the disk; they know no HTTP
    running        a socket, a thread or a process, signals

The extra `brolga[server]` brings what it needs.
"""
