"""All tomograms of a project, each labelled by likelihood with its own tilts and defocus.

A tomogram has a folder of its own, as a run of its own would leave it. The joint files are written
again after every tomogram, so that an interrupted run leaves what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tomadapt.classify.judged import classify_by_likelihood
from tomadapt.classify.matched_source import choose_geometry
from tomadapt.classify.options import ClassifyOptions, SourceOptions
from tomadapt.classify.project_files import (
    JOINT_FILES,
    SUMMARY,
    joint_summary,
    named_counts,
    write_joint_files,
)
from tomadapt.errors import InputError, OutputError, TomadaptError
from tomadapt.project import Project, TomogramEntry
from tomadapt.runs.own_folder import (
    CONFIG,
    description,
    make_own,
    read_own,
    require_own,
    require_same,
)

_ALSO = {"csv": "particles.csv", "copick": "copick", "ome-zarr": "particles.zarr"}
_CHANGEABLE = {"also", "fdr"}
"""Options that may be changed in a folder with results."""
_OWN = {"tomogram", "voxel_size_A", "tilt_series_pixel_size_A"}
"""Options that each tomogram has of its own, beside the acquisition."""
_ANY_VOXEL_A = 10.0
"""To read structures with: any size does."""


@dataclass(frozen=True)
class Plan:
    """What is done with one tomogram of a project.

    Attributes
    ----------
    entry
        The tomogram.
    folder
        Where its files go.
    options
        How it is labelled; None where it cannot be.
    error
        Why it cannot be.
    done
        Whether the same run was finished before.
    """

    entry: TomogramEntry
    folder: Path
    options: ClassifyOptions | None = None
    error: TomadaptError | None = None
    done: bool = False


def plans(
    project: Project, out: Path, options_of: Callable[[TomogramEntry], ClassifyOptions]
) -> list[Plan]:
    """What is done with each tomogram, before anything is; nothing is written.

    Parameters
    ----------
    project
        The table of tomograms.
    out
        Where a folder is made for each.
    options_of
        How a tomogram is labelled; a :class:`~tomadapt.errors.TomadaptError` where it cannot be.

    Raises
    ------
    InputError
        When the project has no tomograms, or the folder's description is damaged.
    MismatchError
        When the folder holds another run.
    """
    if not project.tomograms:
        raise InputError(
            "the project has no tomograms",
            expected="at least one [[tomograms]] in the project file",
            got="none",
            remedy="import it again, or write them into the project file",
        )
    found = [_planned(entry, out / entry.name, options_of) for entry in project.tomograms]
    before, now = description(out), _shared(found)
    if before is not None and now is not None:
        require_same(out, before, now)
    return [_with_what_is_there(plan) for plan in found]


def _planned(
    entry: TomogramEntry, folder: Path, options_of: Callable[[TomogramEntry], ClassifyOptions]
) -> Plan:
    try:
        return Plan(entry, folder, options_of(_usable(entry)))
    except TomadaptError as error:
        return Plan(entry, folder, error=error)


def _with_what_is_there(plan: Plan) -> Plan:
    if plan.options is None:
        return plan
    volume = plan.options.tomogram
    try:
        if _is_done(plan.folder, plan.options):
            return replace(plan, done=True)
        if not volume.exists():
            raise _without_volume(plan.entry.name, f"no file {volume}")
        return plan
    except TomadaptError as error:  # another run, or no volume
        return replace(plan, options=None, error=error)


def _usable(entry: TomogramEntry) -> TomogramEntry:
    name = entry.name
    plain = Path(name).name == name and name not in (".", "..") and name.isprintable()
    if not plain or name in (*JOINT_FILES, CONFIG):
        raise InputError(
            f"the tomogram {name} cannot have a folder of its name",
            expected="a printable name without slashes, which is none of the joint files",
            got=name,
            remedy="rename it in the project file",
        )
    if entry.volume is None:
        raise _without_volume(name, "none in the project file")
    return entry


def _without_volume(name: str, got: str) -> InputError:
    return InputError(
        f"the tomogram {name} has no volume",
        expected="a reconstructed tomogram",
        got=got,
        remedy="write its path into the project file",
    )


def _is_done(folder: Path, options: ClassifyOptions) -> bool:
    """Whether the same run was finished in a folder; another one is refused."""
    found = description(folder)
    if found is None:
        return False
    wanted = options.model_dump(mode="json", exclude=_CHANGEABLE)
    remedy = "delete that folder to label it anew, or undo the change in the project file"
    require_same(folder, found, wanted, remedy=remedy)
    if not (folder / SUMMARY).is_file():
        return False
    try:
        asked = read_own(folder / SUMMARY)["fdr"]["asked"]
    except (InputError, KeyError, TypeError):
        return False  # damaged: it is labelled again
    return bool(asked == options.fdr) and all(
        (folder / _ALSO[form]).exists() for form in options.also
    )


def _shared(todo: Sequence[Plan]) -> dict[str, Any] | None:
    """What all tomograms are labelled with; None where none can be."""
    options = next((plan.options for plan in todo if plan.options is not None), None)
    if options is None:
        return None
    shared = options.model_dump(mode="json", exclude=_CHANGEABLE | _OWN)
    del shared["source"]["acquisition"]
    return {"kind": "project", **shared}


def classify_project(
    project: Project,
    out: Path,
    options_of: Callable[[TomogramEntry], ClassifyOptions],
    *,
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
    todo = plans(project, out, options_of)
    failed = {plan.entry.name: str(plan.error) for plan in todo if plan.error is not None}
    shared = _shared(todo)
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
    _require_structures(todo)
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


def _require_structures(todo: Sequence[Plan]) -> None:
    """Read the structures once before all, so that a fault of theirs is not every tomogram's."""
    waiting = [plan.options.source for plan in todo if plan.options is not None and not plan.done]
    if waiting:
        source: SourceOptions = waiting[0].model_copy(update={"box": None})
        choose_geometry(source, _ANY_VOXEL_A)


def _counted(summary: dict[str, Any]) -> str:
    return ", ".join(f"{label} {n}" for label, n in named_counts(summary).items())
