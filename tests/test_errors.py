"""Errors: one line, with a remedy, and an exit code of their own."""

from __future__ import annotations

import pytest

from tomadapt.errors import (
    ConfigError,
    InputError,
    MismatchError,
    OfflineError,
    OutputError,
    TomadaptError,
)


def test_parts_are_put_together_in_order() -> None:
    error = InputError("file x is bad", expected="a good one", got=0, remedy="mend it")
    assert str(error) == "file x is bad; expected a good one; got 0. Remedy: mend it"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "bad"),
        ({"expected": "good"}, "bad; expected good"),
        ({"got": False}, "bad; got False"),
        ({"remedy": "mend it"}, "bad. Remedy: mend it"),
    ],
)
def test_parts_may_be_missing(parts: dict[str, object], message: str) -> None:
    assert str(TomadaptError("bad", **parts)) == message


def test_messages_of_libraries_become_one_line() -> None:
    error = ConfigError("bad\n", got="line one\n\tline  two\r\n", remedy="a\nb")
    assert str(error) == "bad ; got line one line two . Remedy: a b"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (TomadaptError, 1),
        (ConfigError, 2),
        (InputError, 3),
        (MismatchError, 4),
        (OutputError, 5),
        (OfflineError, 6),
    ],
)
def test_exit_codes(kind: type[TomadaptError], code: int) -> None:
    assert kind.exit_code == code
    assert issubclass(kind, TomadaptError)
    assert f"exit code {code}" in (kind.__doc__ or "") or code == 1
