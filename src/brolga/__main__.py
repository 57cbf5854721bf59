"""`python -m brolga` is the command `brolga`."""

from brolga.cli import main

main()
