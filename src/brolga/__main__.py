"""`python -m brolga` is the command `brolga`."""

from brolga.cli.main import main

main()
