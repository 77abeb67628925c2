"""Errors that a user can act on: what is wrong, what was expected, what was got, the remedy.

The command line prints one such error on one line, without a traceback, and exits with the
class's ``exit_code``. Exit codes are part of the documented interface (``docs/cli.md``).
"""

from __future__ import annotations

from typing import Any


class TomadaptError(Exception):
    """Base of all errors that name a remedy.

    Parameters
    ----------
    what
        What is wrong, with the file or parameter it is about.
    expected
        What would have been accepted.
    got
        What was found instead.
    remedy
        What to do about it.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, expected: Any = None, got: Any = None, remedy: str | None = None
    ) -> None:
        parts = [what]
        if expected is not None:
            parts.append(f"expected {expected}")
        if got is not None:
            parts.append(f"got {got}")
        message = "; ".join(parts)
        if remedy is not None:
            message += f". Remedy: {remedy}"
        # One line whatever an underlying library put into its message.
        super().__init__(" ".join(message.split()))


class ConfigError(TomadaptError):
    """A configuration file or an option holds a value that cannot be used (exit code 2)."""

    exit_code = 2


class InputError(TomadaptError):
    """An input file is missing, damaged, or does not hold what its use requires (exit code 3)."""

    exit_code = 3


class MismatchError(TomadaptError):
    """Two inputs that must agree do not: both sides are named (exit code 4)."""

    exit_code = 4


class OutputError(TomadaptError):
    """An output cannot be written: read-only, full, or in the way (exit code 5)."""

    exit_code = 5


class OfflineError(TomadaptError):
    """Something had to be downloaded and could not be (exit code 6)."""

    exit_code = 6
