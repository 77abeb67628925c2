"""All tomograms of a project, each labelled by likelihood with its own tilts and defocus.

A tomogram has a folder of its own, as a run of its own would leave it. The joint files are written
again after every tomogram, so that an interrupted run leaves what it has.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from tomadapt.classify.project_plans import (
    Plan,
    forget_results,
    is_done,
    keep_inputs,
    plans,
    shared_options,
)
from tomadapt.errors import InputError, OutputError, TomadaptError
from tomadapt.io.star import StarDocument, write_star_document
from tomadapt.project import Project, TomogramEntry
from tomadapt.runs.atomic import NO_SPACE, locked, output_error, output_folder
from tomadapt.runs.own_folder import make_own, read_own, require_own
from tomadapt.runs.progress import silent

if TYPE_CHECKING:
    from distributed import Client

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
    client: Client | None = None,
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
    client
        A Dask client, whose workers see all files under the same paths; tomograms are labelled one
        after another in this process when None. Labels are the same.
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
    write_joint_files(out, summary, project.tomograms_star)
    waiting = [plan for plan in todo if plan.options is not None and not plan.done]
    for plan, result in _labelled(waiting, device, client, tell):
        name = plan.entry.name
        if isinstance(result, dict):
            finished[name] = result
            tell(f"{name}: {_counted(result)}")
        elif strict or isinstance(result, OutputError):  # a full disk is the fault of none of them
            raise result
        else:
            failed[name] = str(result)
            tell(f"{name}: not labelled: {result}")
        summary = joint_summary(entries, finished, failed)
        write_joint_files(out, summary, project.tomograms_star)
    return summary


def _labelled(
    waiting: Sequence[Plan], device: str, client: Client | None, tell: Callable[[str], None]
) -> Iterator[tuple[Plan, dict[str, Any] | TomadaptError]]:
    """Each tomogram with its summary, or why it failed, as they are finished."""
    if client is None:
        for place, plan in enumerate(waiting, start=1):
            tell(f"{plan.entry.name}: labelling it, {place} of {len(waiting)}")
            yield plan, label_tomogram(plan, device)
        return
    tell(f"labelling {len(waiting)} tomograms on {len(client.ncores())} workers")
    again = []
    for plan, result in _on_workers(waiting, device, client):
        if result is None:
            again.append(plan)
        else:
            yield plan, result
    for plan in again:  # alone: workers may have died of what they did beside it
        name = plan.entry.name
        tell(f"{name}: its workers died; labelling it again, alone")
        for _, result in _on_workers([plan], device, client):
            yield plan, _killed(name) if result is None else result


def _on_workers(
    waiting: Sequence[Plan], device: str, client: Client
) -> Iterator[tuple[Plan, dict[str, Any] | TomadaptError | None]]:
    """Each tomogram as it is finished; None where its workers died again and again."""
    from distributed import KilledWorker, as_completed

    # Never taken from the scheduler's memory: the folder says what is done.
    futures = {
        client.submit(_in_worker, plan, device, pure=False, priority=-place): plan
        for place, plan in enumerate(waiting)
    }
    try:
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except KilledWorker:
                yield futures[future], None
    finally:
        client.cancel(list(futures))


def _killed(name: str) -> InputError:
    return InputError(
        f"the worker that labelled the tomogram {name} died, several times",
        expected="a worker that lives",
        got="most often too little memory",
        remedy="give workers more memory, or label this tomogram without --workers",
    )


def _in_worker(plan: Plan, device: str) -> dict[str, Any] | TomadaptError:
    """Label a tomogram without a word: its warnings are in its summary."""
    with silent(), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _not_shown
        return label_tomogram(plan, device)


def _not_shown(*_warning: object, **_where: object) -> None:
    """In place of the printing of a warning; a filter would keep it from the summary, too."""


def label_tomogram(plan: Plan, device: str) -> dict[str, Any] | TomadaptError:
    """Label one tomogram in its own folder; what is wrong with it is given back, not raised.

    Two processes may be given the same one when a worker was thought to be dead: the second waits,
    and finds it done.
    """
    assert plan.options is not None
    try:
        folder = output_folder(plan.folder)
        with locked(folder / ".lock"):
            if is_done(folder, plan.options):
                return read_own(folder / SUMMARY)
            forget_results(folder)
            keep_inputs(folder, plan.options)
            if plan.listed is not None:
                write_star_document(folder / OWN_LIST, plan.listed)
            return classify_by_likelihood(plan.options, folder, device=device)
    except TomadaptError as error:
        return error
    except OSError as error:
        return output_error(plan.folder, error) if error.errno in NO_SPACE else _system(error)
    except MemoryError:
        return InputError(
            f"not enough memory for the tomogram {plan.entry.name}",
            expected="memory for some sections of it, and for its particles",
            got="a refusal by the system",
            remedy="label it where there is more, or with fewer --workers",
        )


def _system(error: OSError) -> InputError:
    return InputError(
        "the system refused to read or write a file",
        expected="files that can be read and written",
        got=str(error),
        remedy="check the file and the disk, and run it again",
    )


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
