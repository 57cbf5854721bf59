"""Value types of the OCI specifications: immutable, checked when made, without I/O."""
