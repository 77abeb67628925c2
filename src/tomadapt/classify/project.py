"""All tomograms of a project, each labelled by likelihood with its own tilts and defocus.

A tomogram has a folder of its own, as a run of its own would leave it. The joint files are written
again after every tomogram, so that an interrupted run leaves what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tomadapt.classify.judged import classify_by_likelihood
from tomadapt.classify.matched_source import choose_geometry
from tomadapt.classify.options import ClassifyOptions
from tomadapt.classify.project_files import (
    SUMMARY,
    joint_summary,
    named_counts,
    write_joint_files,
)
from tomadapt.classify.project_lists import OWN_LIST
from tomadapt.classify.project_plans import Plan, plans, shared_options
from tomadapt.errors import InputError, OutputError, TomadaptError
from tomadapt.io.star import StarDocument, write_star_document
from tomadapt.project import Project, TomogramEntry
from tomadapt.runs.atomic import output_folder
from tomadapt.runs.own_folder import make_own, read_own, require_own

_ANY_VOXEL_A = 10.0
"""To read structures with: any size does."""


def classify_project(
    project: Project,
    out: Path,
    options_of: Callable[[TomogramEntry], ClassifyOptions],
    *,
    listed: Mapping[str, StarDocument] | None = None,
    strict: bool = False,
    device: str = "auto",
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Label the particles of all tomograms; one that fails does not stop the others.

    Tomograms that the same run has labelled before are kept as they are.

    Parameters
    ----------
    project
        The table of tomograms.
    out
        Where :data:`~tomadapt.classify.project_files.JOINT_FILES` and a folder for each tomogram
        go.
    options_of
        How a tomogram is labelled.
    listed
        See :func:`~tomadapt.classify.project_plans.plans`.
    strict
        Stop at the first tomogram that fails: before any work where that is known.
    device
        See :func:`tomadapt.learn.engine.make_fabric`.
    tell
        Called with a sentence about each tomogram.

    Returns
    -------
    dict
        The content of ``summary.json``: ``tomograms`` by name, ``failed`` with the reason of each,
        and ``classes``, the labels of all.

    Raises
    ------
    ConfigError, OfflineError
        From the structures.
    InputError
        When the project has no tomograms, or none of them can be labelled.
    MismatchError
        When the folder holds another run.
    OutputError
        When something cannot be written, such as on a full disk.
    TomadaptError
        With ``strict``, the error of the first tomogram that fails.
    """
    todo = plans(project, out, options_of, listed=listed)
    failed = {plan.entry.name: str(plan.error) for plan in todo if plan.error is not None}
    shared = shared_options(todo)
    for plan in todo:
        if plan.error is None:
            continue
        if strict:
            raise plan.error
        tell(f"{plan.entry.name}: not labelled: {plan.error}")
    if shared is None:
        raise InputError(
            "no tomogram of the project can be labelled",
            expected="at least one",
            got="; ".join(failed.values()),
            remedy="mend what is named",
        )
    require_own(out, shared)
    require_structures(todo)
    make_own(out, shared)
    entries = {plan.entry.name: plan.entry for plan in todo}
    finished = {plan.entry.name: read_own(plan.folder / SUMMARY) for plan in todo if plan.done}
    for name, one in finished.items():
        tell(f"{name}: {_counted(one)}, as labelled before")
    summary = joint_summary(entries, finished, failed)
    write_joint_files(out, summary)
    for place, plan in enumerate(todo, start=1):
        if plan.options is None or plan.done:
            continue
        name = plan.entry.name
        tell(f"{name}: labelling it, {place} of {len(todo)}")
        try:
            if plan.listed is not None:
                write_star_document(output_folder(plan.folder) / OWN_LIST, plan.listed)
            finished[name] = classify_by_likelihood(plan.options, plan.folder, device=device)
            tell(f"{name}: {_counted(finished[name])}")
        except OutputError:  # the disk's fault, and so that of all
            raise
        except (TomadaptError, OSError) as error:
            if strict:
                raise
            failed[name] = str(error)
            tell(f"{name}: not labelled: {error}")
        summary = joint_summary(entries, finished, failed)
        write_joint_files(out, summary)
    return summary


def require_structures(todo: Sequence[Plan]) -> None:
    """Read the structures once before all, so that a fault of theirs is not every tomogram's.

    Raises
    ------
    ConfigError, OfflineError
        When one cannot be read.
    """
    waiting = [plan.options.source for plan in todo if plan.options is not None and not plan.done]
    if waiting:
        source = waiting[0].model_copy(update={"box": None})
        choose_geometry(source, _ANY_VOXEL_A)


def _counted(summary: dict[str, Any]) -> str:
    return ", ".join(f"{label} {n}" for label, n in named_counts(summary).items())
