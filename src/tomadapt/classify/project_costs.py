"""What the tomograms that wait will cost, from what those that are done have cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tomadapt.classify.project_files import SUMMARY
from tomadapt.classify.project_plans import Plan
from tomadapt.runs.own_folder import read_own


@dataclass(frozen=True)
class Costs:
    """Of the tomograms that wait, or of those that are done.

    Attributes
    ----------
    tomograms
        How many.
    seconds
        Of one process for all.
    disk_mb
        What is written.
    peak_memory_mb
        The largest of a process so far.
    """

    tomograms: int
    seconds: float
    disk_mb: float
    peak_memory_mb: float

    def text(self, workers: int) -> str:
        """A sentence, for so many processes."""
        rounds = math.ceil(self.tomograms / workers)
        minutes = self.seconds / 60 * rounds / max(1, self.tomograms)
        each = "one process" if workers == 1 else f"each of {workers} processes"
        return (
            f"{self.tomograms} to be labelled: about {minutes:.0f} min in {each} and "
            f"{self.disk_mb:.0f} MB of disk, by the volumes of those that are done; none of these "
            f"took more than {self.peak_memory_mb:.0f} MB of memory"
        )


def expected_costs(todo: Sequence[Plan]) -> Costs | None:
    """Costs of the tomograms that wait, in proportion to their volumes; None before one is done.

    Parameters
    ----------
    todo
        From :func:`~tomadapt.classify.project_plans.plans`.

    Raises
    ------
    InputError
        When the summary of one that is done is damaged.
    """
    done = [plan for plan in todo if plan.done]
    waiting = [plan for plan in todo if plan.options is not None and not plan.done]
    size = sum(_volume_mb(plan) for plan in done)
    if not size:
        return None
    summaries = [read_own(plan.folder / SUMMARY) for plan in done]
    part = sum(_volume_mb(plan) for plan in waiting) / size
    files = [file for plan in done for file in plan.folder.rglob("*") if file.is_file()]
    return Costs(
        tomograms=len(waiting),
        seconds=part * sum(sum(one["seconds"].values()) for one in summaries),
        disk_mb=part * sum(file.stat().st_size for file in files) / 1e6,
        peak_memory_mb=max(one["peak_memory_mb"] for one in summaries),
    )


def _volume_mb(plan: Plan) -> float:
    if plan.options is None:
        return 0.0
    volume = plan.options.tomogram
    files = [volume] if volume.is_file() else [f for f in volume.rglob("*") if f.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6
