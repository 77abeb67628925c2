"""Warnings that are shown and kept."""

from __future__ import annotations

import warnings

import pytest

from tomadapt.errors import InputError
from tomadapt.heard import heard


def test_what_is_told_is_kept_once_and_shown(recwarn: pytest.WarningsRecorder) -> None:
    told: list[str] = []
    with heard(told):
        for text in ("one", "one", "another"):
            warnings.warn(text, stacklevel=1)
        warnings.warn("of another package", RuntimeWarning, stacklevel=1)
    assert told == ["one", "another"]
    shown = {str(warning.message) for warning in recwarn.list}
    assert shown == {"one", "another", "of another package"}


def test_what_is_told_before_an_error_is_shown(recwarn: pytest.WarningsRecorder) -> None:
    def fail() -> None:
        with heard([]):
            warnings.warn("the header says otherwise", stacklevel=1)
            raise InputError("damaged")

    with pytest.raises(InputError):
        fail()
    assert [str(warning.message) for warning in recwarn.list] == ["the header says otherwise"]
