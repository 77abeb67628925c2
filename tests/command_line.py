"""The command line called from within a test."""

from __future__ import annotations

import sys

from tomadapt.cli import main


def call(*arguments: object) -> int:
    """Run a command; gives its exit code."""
    before, sys.argv = sys.argv, ["tomadapt", *map(str, arguments)]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    raise AssertionError("the command line always exits")
