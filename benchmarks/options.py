"""Types of command-line options that several benchmarks have."""

from __future__ import annotations

import argparse
import re

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_size(text: str) -> int:
    """Parse a size such as 1GiB, 64MiB or 1000; return bytes."""
    match = re.fullmatch(r"(\d+) ?(|[KMG]iB)", text)
    if not match or int(match[1]) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64MiB")
    return int(match[1]) * _UNITS[match[2]]
