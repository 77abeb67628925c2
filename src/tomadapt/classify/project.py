"""All tomograms of a project, each labelled by likelihood with its own tilts and defocus.

A tomogram has a folder of its own, as a run of its own would leave it. The joint files are written
again after every tomogram, so that an interrupted run leaves what it has.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomadapt.classify.judged import classify_by_likelihood
from tomadapt.classify.options import ClassifyOptions
from tomadapt.errors import InputError, TomadaptError
from tomadapt.io.star import StarDocument, StarTable, loop_of, read_star, write_star_document
from tomadapt.project import Project, TomogramEntry
from tomadapt.runs.atomic import atomic_path, output_folder, write_json
from tomadapt.runs.own_folder import description

TOMOGRAM, OPTICS_GROUP = "rlnTomoName", "rlnOpticsGroup"
_NOTHING = "none"
"""What a joint list has where a tomogram's own list lacks a column."""


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
    reason
        Why it cannot be; empty elsewhere.
    """

    entry: TomogramEntry
    folder: Path
    options: ClassifyOptions | None
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether the same run was finished before."""
        if self.options is None or not (self.folder / "summary.json").is_file():
            return False
        wanted = self.options.model_dump(mode="json", exclude={"also", "fdr"})
        try:
            asked = json.loads((self.folder / "summary.json").read_text())["fdr"]["asked"]
        except (ValueError, KeyError, TypeError):
            return False  # damaged: it is labelled again
        return description(self.folder) == wanted and asked == self.options.fdr


def plans(
    project: Project, out: Path, options_of: Callable[[TomogramEntry], ClassifyOptions]
) -> list[Plan]:
    """What is done with each tomogram, before anything is.

    Parameters
    ----------
    project
        The table of tomograms.
    out
        Where a folder is made for each.
    options_of
        How a tomogram is labelled; a :class:`~tomadapt.errors.TomadaptError` where it cannot be.
    """
    found = []
    for entry in project.tomograms:
        folder = out / entry.name
        try:
            found.append(Plan(entry, folder, options_of(_usable(entry))))
        except TomadaptError as error:
            found.append(Plan(entry, folder, None, str(error)))
    return found


def _usable(entry: TomogramEntry) -> TomogramEntry:
    if Path(entry.name).name != entry.name or entry.name in (".", ".."):
        raise InputError(
            f"the tomogram {entry.name} cannot have a folder of its name",
            expected="a name without slashes",
            got=entry.name,
            remedy="rename it in the project file",
        )
    if entry.volume is None:
        raise InputError(
            f"the tomogram {entry.name} has no volume",
            expected="a reconstructed tomogram",
            got="none in the project file",
            remedy="write its path into the project file",
        )
    return entry


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
        Where ``summary.json``, ``tomograms.csv``, ``particles.star`` and a folder for each tomogram
        go.
    options_of
        How a tomogram is labelled.
    strict
        Stop at the first tomogram that fails.
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
    TomadaptError
        With ``strict``, the error of the first tomogram that fails.
    """
    output_folder(out)
    finished: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    todo = plans(project, out, options_of)
    summary = _summary(finished, failed, todo)
    for plan in todo:
        name = plan.entry.name
        try:
            if plan.options is None:
                if strict:
                    options_of(_usable(plan.entry))  # raises its error again
                raise InputError(plan.reason)
            before = plan.done
            if not before:
                classify_by_likelihood(plan.options, plan.folder, device=device)
            finished[name] = json.loads((plan.folder / "summary.json").read_text(encoding="utf-8"))
            counts = ", ".join(f"{c} {n}" for c, n in _named(finished[name]).items())
            tell(f"{name}: {counts}{', as labelled before' if before else ''}")
        except TomadaptError as error:
            if strict:
                raise
            failed[name] = str(error)
            tell(f"{name}: not labelled: {error}")
        summary = _summary(finished, failed, todo)
        _write(out, summary, [p for p in todo if p.entry.name in finished])
    return summary


def _named(summary: Mapping[str, Any]) -> dict[str, int]:
    return {name: n for name, n in summary["classes"].items() if name != "null"}


def _summary(
    finished: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], todo: Sequence[Plan]
) -> dict[str, Any]:
    rows, totals = {}, dict[str, int]()
    for plan in todo:
        name, entry = plan.entry.name, plan.entry
        if name not in finished:
            continue
        one = finished[name]
        angles = entry.tilt_angles_deg or ()
        for label, n in _named(one).items():
            totals[label] = totals.get(label, 0) + n
        rows[name] = {
            "volume": str(entry.volume),
            "classes": _named(one),
            "rejected": one["n_rejected"],
            "defocus_um": entry.defocus_um,
            "measured_defocus_um": (one["measured_acquisition"] or {}).get("defocus_um"),
            "first_tilt_deg": angles[0] if angles else None,
            "last_tilt_deg": angles[-1] if angles else None,
            "tilts": len(angles),
            "contrast": one["contrast"]["text"],
            "hand_nats": (one["measured_acquisition"] or {}).get("hand_nats"),
            "seconds": round(sum(one["seconds"].values()), 1),
            "contradictions": list(entry.contradictions),
            "warnings": one["warnings"],
            "report": f"{name}/report.html",
        }
    return {
        "n_tomograms": len(todo),
        "n_labelled": sum(totals.values()),
        "classes": totals,
        "failed": dict(failed),
        "waiting": [p.entry.name for p in todo if p.entry.name not in (*finished, *failed)],
        "tomograms": rows,
    }


def _write(out: Path, summary: Mapping[str, Any], finished: Sequence[Plan]) -> None:
    """The joint files: list of particles, table of tomograms, summary."""
    if finished:
        joint = joined({p.entry.name: p.folder / "particles.star" for p in finished})
        write_star_document(out / "particles.star", joint)
    labels = sorted(summary["classes"])
    columns = ("volume", "defocus_um", "measured_defocus_um", "tilts", "rejected", "seconds")
    with (
        atomic_path(out / "tomograms.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["tomogram", *labels, *columns, "warnings", "failure"])
        for name, row in summary["tomograms"].items():
            counts = [row["classes"].get(label, 0) for label in labels]
            cells = [row[column] for column in columns]
            writer.writerow([name, *counts, *cells, len(row["warnings"]), ""])
        for name, reason in summary["failed"].items():
            writer.writerow([name, *([""] * (len(labels) + len(columns) + 1)), reason])
    write_json(out / "summary.json", dict(summary))


def joined(lists: Mapping[str, Path]) -> StarDocument:
    """One list of the particles of several tomograms.

    Each particle has the name of its tomogram in the project, and each tomogram an optics group of
    its own, since coordinates count in its voxels.

    Parameters
    ----------
    lists
        Tomogram → its ``particles.star``.
    """
    optics: dict[str, list[str]] = {}
    particles: dict[str, list[str]] = {}
    n_optics = n_particles = 0
    for group, (name, path) in enumerate(lists.items(), start=1):
        document = read_star(path)
        mine, rows = document.table("optics"), document.table("particles")
        if mine is not None:
            own = {OPTICS_GROUP: [str(group)] * len(mine)}
            _append(optics, mine, own, n_optics)
            n_optics += len(mine)
        if rows is not None:
            own = {TOMOGRAM: [name] * len(rows), OPTICS_GROUP: [str(group)] * len(rows)}
            _append(particles, rows, own, n_particles)
            n_particles += len(rows)
    parts: list[str | StarTable] = ["# written by tomadapt", ""]
    for block, columns in (("optics", optics), ("particles", particles)):
        parts += [f"data_{block}", "", loop_of(block, columns), ""]
    return StarDocument(tuple(parts))


def _append(
    columns: dict[str, list[str]], table: StarTable, own: Mapping[str, list[str]], before: int
) -> None:
    """Add a table's rows below those that are there; what either lacks is filled."""
    for label in table.labels:
        columns.setdefault(label, [_NOTHING] * before)
    for label, values in columns.items():
        filled = [_NOTHING] * len(table)
        there = table.column(label) if label in table else filled
        values.extend(own.get(label, list(there)))
