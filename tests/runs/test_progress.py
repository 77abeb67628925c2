"""Progress: a bar where there is a terminal, and one line at the end wherever."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from rich.console import Console

import tomadapt.runs.progress
from tomadapt.runs.progress import Advance, StageBars, progress_bar


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

    monkeypatch.setattr(tomadapt.runs.progress, "Console", terminal)
    with progress_bar("train", 4, unit="epochs") as advance:
        advance(2, "loss 0.5")
        advance(2, "loss 0.4")
    printed = capsys.readouterr().err
    assert "4/4" in printed
    assert "loss 0.4" in printed
    assert "train: 4 epochs in" in printed


class TestStageBars:
    def test_a_line_for_each_stage(self, capsys: pytest.CaptureFixture[str]) -> None:
        bars = StageBars()
        for done in (2, 4, 5):
            bars("screen", done, 5)
        bars("refine", 3, 3)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith("✓ screen: 5 comparisons in ")
        assert lines[1].startswith("✓ refine: 3 comparisons in ")

    def test_nothing_before_a_stage_is_done(self, capsys: pytest.CaptureFixture[str]) -> None:
        bars = StageBars()
        bars("screen", 1, 3)
        bars("screen", 2, 3)
        assert capsys.readouterr().err == ""
        bars("screen", 3, 3)
        assert capsys.readouterr().err.count("\n") == 1

    def test_what_is_told_is_how_much_is_done(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The bar is told of what came since, from zero in each stage."""
        steps: dict[str, list[int]] = {}
        ended: list[str] = []

        @contextlib.contextmanager
        def recorded(title: str, total: int, *, unit: str = "") -> Iterator[Advance]:
            steps[title] = []

            def advance(n: int, note: str = "") -> None:
                steps[title].append(n)

            yield advance
            ended.append(title)

        monkeypatch.setattr(tomadapt.runs.progress, "progress_bar", recorded)
        bars = StageBars()
        for stage, done, total in (
            ("screen", 8, 20),
            ("screen", 16, 20),
            ("screen", 20, 20),
            ("refine", 5, 6),
            ("refine", 6, 6),
        ):
            bars(stage, done, total)
            assert (stage in ended) == (done == total)
        assert steps == {"screen": [8, 8, 4], "refine": [5, 1]}

    def test_stages_may_return(self, capsys: pytest.CaptureFixture[str]) -> None:
        bars = StageBars()
        for stage in ("screen", "refine", "screen"):
            bars(stage, 2, 2)
        assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == [
            "screen:",
            "refine:",
            "screen:",
        ]
