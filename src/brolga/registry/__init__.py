"""The embedded OCI registry: distribution-spec 1.1 over one image layout per repository.

It shares with the client the value types and the files on disk, because the tests hold the one
against the other. The extra `brolga[server]` installs what it needs.

    app, options, errors     the routes; the settings; errors as HTTP responses
    routes/                  the handlers, one module for each kind of resource
    storage/                 repositories on disk
    serving/                 sockets, connections and their bounds, authentication
"""
