"""Progress: a bar where there is a terminal, and one line at the end wherever."""

from __future__ import annotations

import pytest
from rich.console import Console

import tomadapt.progress
from tomadapt.progress import progress_bar


def test_one_line_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("simulate", 3, unit="subtomograms") as advance:
        advance(1)
        advance(2, "nearly")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("✓ simulate: 3 subtomograms in ")


def test_nothing_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: an empty line came before the error's one line."""

    def fail() -> None:
        with progress_bar("simulate", 3) as advance:
            advance(1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminal(**options: object) -> Console:
        return Console(**options, force_terminal=True, width=120)  # type: ignore[arg-type]

    monkeypatch.setattr(tomadapt.progress, "Console", terminal)
    with progress_bar("train", 4, unit="epochs") as advance:
        advance(2, "loss 0.5")
        advance(2, "loss 0.4")
    printed = capsys.readouterr().err
    assert "4/4" in printed
    assert "loss 0.4" in printed
    assert "train: 4 epochs in" in printed
