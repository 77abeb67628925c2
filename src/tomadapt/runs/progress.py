"""Progress on the terminal: a bar with rate and time left; plain lines where there is none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Advance(Protocol):
    """Tells a bar that some more is done."""

    def __call__(self, n: int, note: str = "") -> None:
        """Advance by ``n``; ``note`` is shown beside the bar."""


class RateColumn(ProgressColumn):
    """Things finished a second."""

    def render(self, task: Task) -> Text:
        """Give the rate, or nothing before there is one."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s", style="cyan")


_SILENT: ContextVar[bool] = ContextVar("silent", default=False)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """No bars and no lines within a block, as in one of several workers that share a terminal."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)


@contextlib.contextmanager
def progress_bar(title: str, total: int, *, unit: str = "") -> Iterator[Advance]:
    """A bar on standard error for the length of a block.

    Parameters
    ----------
    title
        What is being done.
    total
        How many things there are.
    unit
        What they are, for the line that is left behind.
    """
    if _SILENT.get():
        yield lambda _n, note="": None
        return
    console = Console(stderr=True, highlight=False)
    started = time.perf_counter()
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    # Without a terminal there is nothing to draw on, and nothing but the last line is written.
    drawn = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not drawn) as progress:
        task = progress.add_task(title, total=total, note="")

        def advance(n: int, note: str = "") -> None:
            progress.update(task, advance=n, note=note)

        yield advance
    seconds = time.perf_counter() - started
    console.print(f"[green]✓[/] {title}: {total} {unit} in {seconds:.1f} s")


class StageBars:
    """Bars of stages whose work is told as (stage, done, total), one after another."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._done = 0
        self._bar: contextlib.AbstractContextManager[Advance] | None = None
        self._advance: Advance | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell how far a stage is; its bar ends when all is done."""
        if stage != self._stage:
            if self._bar is not None:  # a stage that was left before its end
                self._bar.__exit__(None, None, None)
            self._stage, self._done = stage, 0
            self._bar = progress_bar(stage, total, unit="comparisons")
            self._advance = self._bar.__enter__()
        if self._advance is not None:
            self._advance(done - self._done)
        self._done = done
        if done >= total and self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = self._advance = None
