"""The command `brolga`: verbs in click, results on stdout, everything else on stderr."""
