"""What is done with each tomogram of a project: labelled, kept as it is, or told why not."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tomadapt.classify.options import ClassifyOptions
from tomadapt.classify.project_files import JOINT_FILES, LIST, NEEDED, SUMMARY
from tomadapt.classify.project_lists import OWN_LIST
from tomadapt.errors import InputError, MismatchError, TomadaptError
from tomadapt.inputs.tomogram import MRC_SUFFIXES, open_tomogram
from tomadapt.io.mrc import read_header
from tomadapt.io.star import StarDocument, read_star
from tomadapt.project import Project, TomogramEntry
from tomadapt.runs.atomic import write_json
from tomadapt.runs.digest import file_sample
from tomadapt.runs.own_folder import CONFIG, description, read_own, require_same

PACKED = tuple(f"{suffix}.gz" for suffix in MRC_SUFFIXES)
_ALSO = {"csv": "particles.csv", "copick": "copick", "ome-zarr": "particles.zarr"}
INPUTS = "inputs.json"
_CHANGEABLE = {"also", "fdr"}
"""Options that may be changed in a folder with results."""
_OWN = {"tomogram", "particles", "voxel_size_A", "tilt_series_pixel_size_A"}
"""Options that each tomogram has of its own, beside the acquisition."""


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
    listed
        Its own list of particles; None where they are to be found.
    done
        Whether the same run was finished before.
    """

    entry: TomogramEntry
    folder: Path
    options: ClassifyOptions | None = None
    error: TomadaptError | None = None
    listed: StarDocument | None = None
    done: bool = False


def plans(
    project: Project,
    out: Path,
    options_of: Callable[[TomogramEntry], ClassifyOptions],
    *,
    listed: Mapping[str, StarDocument] | None = None,
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
    listed
        Tomogram → its particles; found in all tomograms where None.

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
    found = []
    for entry in project.tomograms:
        plan = _planned(Plan(entry, out / entry.name), options_of)
        if listed is not None and plan.options is not None:
            plan = _with_list(plan, plan.options, listed.get(entry.name))
        found.append(plan)
    before, now = description(out), shared_options(found)
    if before is not None and now is not None:
        require_same(out, before, now)
    return [_with_what_is_there(plan) for plan in found]


def _planned(plan: Plan, options_of: Callable[[TomogramEntry], ClassifyOptions]) -> Plan:
    try:
        return replace(plan, options=options_of(_usable(plan.entry)))
    except TomadaptError as error:
        return replace(plan, error=error)


def _with_list(plan: Plan, options: ClassifyOptions, listed: StarDocument | None) -> Plan:
    if listed is None:
        error = InputError(
            f"the list has no particles of the tomogram {plan.entry.name}",
            expected="its name in the project",
            got="other names",
            remedy="rename one of them, or leave the tomogram out of the project file",
        )
        return replace(plan, options=None, error=error)
    own = options.model_copy(update={"particles": plan.folder / OWN_LIST})
    return replace(plan, options=own, listed=listed)


def _with_what_is_there(plan: Plan) -> Plan:
    if plan.options is None:
        return plan
    volume = plan.options.tomogram
    try:
        done = is_done(plan.folder, plan.options)
        _require_same_list(plan)
        if done:
            return replace(plan, done=True)
        if not volume.exists():
            raise _without_volume(plan.entry.name, f"no file {volume}")
        _require_whole(volume, plan.options.voxel_size_A)
        return plan
    except TomadaptError as error:  # another run, or no volume, or half of one
        return replace(plan, options=None, error=error)


def _require_whole(volume: Path, voxel_size_A: float | None) -> None:
    """Refuse a volume whose header, size or length says that it cannot be labelled.

    Of packed files the header alone is read: how long they are is seen when they are unpacked.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # told when it is labelled
        if volume.name.lower().endswith(PACKED):
            read_header(volume)
        elif volume.suffix.lower() != ".gz":
            open_tomogram(volume, contrast="positive", voxel_size_A=voxel_size_A)


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


def is_done(folder: Path, options: ClassifyOptions) -> bool:
    """Whether the same run was finished in a folder; another one is refused.

    So is one of other inputs of the same names; inputs that are gone are not missed.
    """
    found = description(folder)
    if found is None:
        return False
    wanted = options.model_dump(mode="json", exclude=_CHANGEABLE)
    remedy = "delete that folder to label it anew, or undo the change in the project"
    require_same(folder, found, wanted, remedy=remedy)
    _require_same_inputs(folder, options, remedy)
    try:
        summary = read_own(folder / SUMMARY)
        read_star(folder / LIST)
        asked = summary["fdr"]["asked"]
    except (InputError, KeyError, TypeError):
        return False  # missing or damaged: it is labelled again
    return bool(
        asked == options.fdr
        and summary.keys() >= NEEDED
        and all((folder / _ALSO[form]).exists() for form in options.also)
    )


def keep_inputs(folder: Path, options: ClassifyOptions) -> None:
    """Write down what the inputs hold that a tomogram is labelled from."""
    write_json(folder / INPUTS, _samples(options))


def _require_same_inputs(folder: Path, options: ClassifyOptions, remedy: str) -> None:
    if not (folder / INPUTS).is_file():
        return
    before, now = read_own(folder / INPUTS), _samples(options)
    there = {name: sample for name, sample in before.items() if now.get(name) is not None}
    if replaced := [name for name, sample in there.items() if sample != now[name]]:
        raise MismatchError(
            f"{folder} holds labels of another {' and '.join(replaced)}",
            expected="the files that it was labelled from",
            got="other content under the same name",
            remedy=remedy,
        )


def _samples(options: ClassifyOptions) -> dict[str, str | None]:
    """Input → a digest of its content; None where it is no file, as of structures by name."""
    folder = options.source.folder or Path()
    files = {"volume": options.tomogram}
    files |= {f"structure {name}": folder / s for name, s in options.source.classes.items()}
    return {name: file_sample(path) for name, path in files.items()}


def forget_results(folder: Path) -> None:
    """Before a tomogram is labelled again: no file of another rate may stay beside new ones.

    The summary goes first: without it a folder is not done, wherever a kill comes.
    """
    for name in (SUMMARY, "stages.json"):  # times of another run are none of this one
        (folder / name).unlink(missing_ok=True)
    for name in _ALSO.values():
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def _require_same_list(plan: Plan) -> None:
    own = plan.folder / OWN_LIST
    if plan.listed is None or not (plan.folder / CONFIG).exists() or not own.exists():
        return
    if read_star(own).text() == plan.listed.text():
        return
    raise MismatchError(
        f"{plan.folder} holds labels of another list",
        expected=f"the particles in its {OWN_LIST}",
        got="other rows or values of this tomogram in the list",
        remedy="delete that folder to label it anew",
    )


def shared_options(todo: Sequence[Plan]) -> dict[str, Any] | None:
    """What all tomograms are labelled with; None where none can be."""
    options = next((plan.options for plan in todo if plan.options is not None), None)
    if options is None:
        return None
    shared = options.model_dump(mode="json", exclude=_CHANGEABLE | _OWN)
    del shared["source"]["acquisition"]
    listed = None if options.particles is None else "of a list"
    # Classes have the numbers of their order.
    order = list(options.source.classes)
    return {"kind": "project", "particles": listed, "order_of_classes": order, **shared}
