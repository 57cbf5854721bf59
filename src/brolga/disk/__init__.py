"""Files of an OCI image layout on disk, as the client and the registry share them."""
