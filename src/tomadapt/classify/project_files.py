"""The joint files of a project's labelled tomograms: list of particles, table, summary, page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomadapt.classify.project_outliers import outliers
from tomadapt.errors import InputError
from tomadapt.io.star import StarDocument, StarTable, loop_of, read_star, write_star_document
from tomadapt.project import TomogramEntry
from tomadapt.report.project_page import write_project_report
from tomadapt.runs.atomic import write_json, write_rows

SUMMARY, LIST, TABLE, PAGE = "summary.json", "particles.star", "tomograms.csv", "report.html"
SET = "optimisation_set.star"
JOINT_FILES = (SUMMARY, LIST, SET, TABLE, PAGE)
TOMOGRAM, OPTICS_GROUP, OPTICS_NAME = "rlnTomoName", "rlnOpticsGroup", "rlnOpticsGroupName"
_NOTHING = "none"
"""What a joint list has where a tomogram's own list lacks a column."""
NEEDED = {"classes", "n_rejected", "measured_acquisition", "contrast", "seconds", "warnings"}
"""What is read of a tomogram's own summary."""
_COLUMNS = (
    *("volume", "defocus_um", "measured_defocus_um", "first_tilt_deg", "last_tilt_deg", "tilts"),
    *("contrast_sign", "hand_nats", "rejected", "seconds"),
)


def named_counts(summary: Mapping[str, Any]) -> dict[str, int]:
    """Class → labelled particles of one tomogram, of its ``summary.json``."""
    return {name: n for name, n in summary["classes"].items() if name != "null"}


def joint_summary(
    entries: Mapping[str, TomogramEntry],
    finished: Mapping[str, Mapping[str, Any]],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    """What is known of all tomograms, in the order of the project.

    Parameters
    ----------
    entries
        Name → what the project says of it.
    finished
        Name → its own ``summary.json``.
    failed
        Name → why it was not labelled.
    """
    rows, totals = dict[str, dict[str, Any]](), dict[str, int]()
    for name, entry in entries.items():
        if name not in finished:
            continue
        one = finished[name]
        measured = one["measured_acquisition"] or {}
        angles = entry.tilt_angles_deg or ()
        for label, n in named_counts(one).items():
            totals[label] = totals.get(label, 0) + n
        rows[name] = {
            "volume": str(entry.volume),
            "classes": named_counts(one),
            "rejected": one["n_rejected"],
            "defocus_um": entry.defocus_um,
            "measured_defocus_um": _rounded(measured.get("defocus_um")),
            "first_tilt_deg": angles[0] if angles else None,
            "last_tilt_deg": angles[-1] if angles else None,
            "tilts": len(angles),
            "contrast": one["contrast"]["text"],
            "contrast_sign": one["contrast"]["sign"],
            "hand_nats": measured.get("hand_nats"),
            "seconds": round(sum(one["seconds"].values()), 1),
            "contradictions": list(entry.contradictions),
            "notes": [*entry.unreadable, *entry.notes, *entry.assumed, *_not_measured(entry)],
            "warnings": one["warnings"],
            "outlier": [],
            "report": f"{name}/{PAGE}",
        }
    for name, texts in outliers(rows).items():
        rows[name]["outlier"] = texts
    return {
        "n_tomograms": len(entries),
        "n_labelled": sum(totals.values()),
        "classes": totals,
        "failed": {name: failed[name] for name in entries if name in failed},
        "waiting": [name for name in entries if name not in (*finished, *failed)],
        "tomograms": rows,
    }


def _rounded(value: float | None) -> float | None:
    """To nm; runs of older versions have more digits, which mean nothing."""
    return None if value is None else round(value, 3)


def _not_measured(entry: TomogramEntry) -> list[str]:
    if not entry.defocus_is_target:
        return []
    return [f"the defocus is from {entry.sources['defocus_um']}"]


def write_joint_files(
    out: Path, summary: Mapping[str, Any], tomograms_star: Path | None = None
) -> None:
    """Write :data:`JOINT_FILES` again, each whole or not at all.

    Parameters
    ----------
    out
        The folder, in which each tomogram has one of its name.
    summary
        See :func:`joint_summary`.
    tomograms_star
        Of a project of RELION: then an optimisation set is written, which names both lists.

    Raises
    ------
    InputError
        When a tomogram's own list is damaged.
    OutputError
        When they cannot be written.
    """
    labelled = summary["tomograms"]
    if labelled:
        write_star_document(out / LIST, joined({name: out / name / LIST for name in labelled}))
        if tomograms_star is None:
            (out / SET).unlink(missing_ok=True)
        else:
            _write_optimisation_set(out, tomograms_star)
    else:
        for name in (LIST, SET):
            (out / name).unlink(missing_ok=True)  # of tomograms that the project no longer has
    _write_table(out / TABLE, summary)
    write_project_report(summary, out / PAGE)
    write_json(out / SUMMARY, dict(summary))


def _write_optimisation_set(out: Path, tomograms_star: Path) -> None:
    """Whole paths, as RELION reads them whatever the folder that it is run in."""
    columns = {
        "rlnTomoParticlesFile": [str((out / LIST).resolve())],
        "rlnTomoTomogramsFile": [str(tomograms_star.resolve())],
    }
    write_star_document(out / SET, StarDocument(("data_", "", loop_of("", columns), "")))


def _write_table(path: Path, summary: Mapping[str, Any]) -> None:
    labels = list(summary["classes"])
    rows: list[list[object]] = []
    for name, row in summary["tomograms"].items():
        counts = [row["classes"].get(label, 0) for label in labels]
        cells = [row[column] for column in _COLUMNS]
        rows.append([name, *counts, *cells, len(row["warnings"]), ""])
    for name, reason in summary["failed"].items():
        rows.append([name, *([""] * (len(labels) + len(_COLUMNS) + 1)), reason])
    write_rows(path, ["tomogram", *labels, *_COLUMNS, "warnings", "failure"], rows)


def joined(lists: Mapping[str, Path]) -> StarDocument:
    """One list of the particles of several tomograms.

    Each particle has the name of its tomogram in the project, and each tomogram optics groups of
    its own, since coordinates count in its voxels.

    Parameters
    ----------
    lists
        Tomogram → its ``particles.star``.

    Raises
    ------
    InputError
        When one has no table of particles, or cannot be read.
    """
    optics: dict[str, list[str]] = {}
    particles: dict[str, list[str]] = {}
    n_optics = n_particles = 0
    for name, path in lists.items():
        document = read_star(path)
        mine, rows = document.table("optics"), document.table("particles")
        if rows is None:  # lists of RELION 3 have blocks of other names
            rows = next((table for table in document.tables if TOMOGRAM in table), None)
        if rows is None:
            raise InputError(
                f"{path} is damaged",
                expected="a table of particles",
                got="none",
                remedy="delete that folder and run it again",
            )
        own = {TOMOGRAM: [name] * len(rows)}
        if mine is not None and OPTICS_GROUP in mine and OPTICS_GROUP in rows:
            used = set(rows.column(OPTICS_GROUP))
            mine = mine.take([i for i, g in enumerate(mine.column(OPTICS_GROUP)) if g in used])
            groups = mine.column(OPTICS_GROUP)
            numbers = [str(n_optics + n) for n in range(1, len(groups) + 1)]
            of = dict(zip(groups, numbers, strict=True))
            several = len(mine) > 1
            named = [f"{name}_optics{n}" if several else name for n in range(1, len(mine) + 1)]
            _append(optics, mine, {OPTICS_GROUP: numbers, OPTICS_NAME: named}, n_optics)
            n_optics += len(mine)
            own[OPTICS_GROUP] = [of.get(group, group) for group in rows.column(OPTICS_GROUP)]
        _append(particles, rows, own, n_particles)
        n_particles += len(rows)
    parts: list[str | StarTable] = ["# written by tomadapt", ""]
    for block, columns in (("optics", optics), ("particles", particles)):
        if columns:  # no list may have optics
            parts += [f"data_{block}", "", loop_of(block, columns), ""]
    return StarDocument(tuple(parts))


def _append(
    columns: dict[str, list[str]], table: StarTable, own: Mapping[str, list[str]], before: int
) -> None:
    """Add a table's rows below those that are there; what either lacks is filled."""
    for label in dict.fromkeys((*table.labels, *own)):
        columns.setdefault(label, [_NOTHING] * before)
    for label, values in columns.items():
        filled = [_NOTHING] * len(table)
        there = table.column(label) if label in table else filled
        values.extend(own.get(label, list(there)))
