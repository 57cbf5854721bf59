"""The embedded OCI registry: distribution-spec 1.1 over one image layout per repository.

Knows the server's side of the protocol alone. Must not know the client: it shares the value
types with it and nothing else, because the tests hold the one against the other.

    app, guard     the table of routes, and what stands before them
    blobs, uploads, manifests, listings    the handlers, one module for each kind of resource
    receiving, sending     bodies: written while the rest arrives, sent by the kernel
    ranges, paging         small grammars of requests
    names          what a URL may name: the only gate from the network to the file system
    problems       each refusal as a status and the spec's error code
    strict         JSON that every reader reads alike
    storage, session, manifest_store    the disk; they know no HTTP
    layout, index, documents            what is in a layout; disk: how files get to their place
    catalog        the repositories below the directory
    graph, database    what the manifests say, in tables; the file that those are kept in
    turns          one change of a layout at a time
    htpasswd, tls  who may use it, and by which certificate it is known
    running, connections    a socket, a thread or a process, signals; the bounds of a connection
    options        the choices of whoever runs it

And what goes wrong on purpose, for tests:

    faults, profiles    values: what is to go wrong, and which kind of registry is played
    injection           what is in force, what struck, which requests came
    striking, tokens    a request's body and answer interrupted; tokens that die
    quirks, refusals, locations    a profile honoured
    process             a registry that can be killed and started again

The extra `brolga[server]` brings what it needs.
"""
