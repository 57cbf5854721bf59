"""The registry's storage: one OCI image layout for each repository. It knows no HTTP."""
