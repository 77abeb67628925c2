"""Warnings that are shown and kept."""

from __future__ import annotations

import warnings

import pytest

from tomadapt.errors import InputError
from tomadapt.runs.heard import heard


def test_what_is_told_is_kept_and_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python shows a sentence of one line once, and at once, not when the block ends."""
    shown: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        monkeypatch.setattr(warnings, "showwarning", lambda text, *_, **__: shown.append(str(text)))
        told: list[str] = []
        with heard(told):
            for text in ("one", "one", "another"):
                warnings.warn(text, stacklevel=1)
            warnings.warn("of another package", RuntimeWarning, stacklevel=1)
            assert shown == ["one", "another", "of another package"]
    assert told == ["one", "another"]
    assert shown == ["one", "another", "of another package"]


def test_a_warning_that_is_an_error_is_raised_where_it_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="one"), heard([]):
            warnings.warn("one", stacklevel=1)


def test_what_is_told_before_an_error_is_shown(recwarn: pytest.WarningsRecorder) -> None:
    def fail() -> None:
        with heard([]):
            warnings.warn("the header says otherwise", stacklevel=1)
            raise InputError("damaged")

    with pytest.raises(InputError):
        fail()
    assert [str(warning.message) for warning in recwarn.list] == ["the header says otherwise"]
