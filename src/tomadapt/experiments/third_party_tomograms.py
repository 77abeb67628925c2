"""Whole tomograms that RELION projected, labelled by likelihood; the paper has nothing like it.

``scripts/third_party_relion_tomogram.py`` writes them into ``STORE/third_party``. Each is labelled
several times. Other structures are named each time; some of these are absent, and whatever is not
named is an unlisted protein.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tomadapt.acquisition import Acquisition
from tomadapt.classify.judged import classify_by_likelihood
from tomadapt.classify.options import ClassifyOptions, SourceOptions
from tomadapt.experiments.judged_sets import evaluated, read_table
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import titled_table
from tomadapt.experiments.third_party import RATE, require_sets
from tomadapt.runs.atomic import output_folder

TOMOGRAMS = ("relion_tomogram", "relion_tomogram_fainter")
CASES = {
    "large and small": ("6qzp", "2uv8", "1f4a", "3cf3"),
    "others": ("4v4r", "3j9i", "7n4y", "1qvr"),
    "one of 200 kDa": ("2uv8", "2cg9", "3j9i", "1f4a"),
    "three absent": ("6qzp", "1u6g", "4cr2", "3gl1"),
    "all absent": ("1u6g", "3d2f", "1bxn"),
}
"""Structures that are named, by their entries."""
COLUMNS: tuple[str, ...] = (
    "tomogram",
    "named structures",
    "particles of them",
    "detected",
    "recall",
    "labelled",
)
COLUMNS += ("wrong", "fdr_stated", "label_accuracy", "cpu_seconds")


def run(setting: Setting) -> list[Path]:
    """Label every tomogram at hand in every case; rows as they come."""
    data, folders = require_sets(setting, TOMOGRAMS)
    table = partial(titled_table, "Labels in tomograms that RELION projected", COLUMNS, form=".3f")
    results = Results.of(setting, "third_party_tomograms", table, "scale", "commit")
    smoke = setting.scale.name == "smoke"
    for folder in folders[: 1 if smoke else None]:
        for case in list(CASES)[: 1 if smoke else None]:
            results.add(_row(folder, data, case))
    return results.files


def _row(folder: Path, data: Path, case: str) -> Row:
    out = folder / "runs" / case.replace(" ", "_")
    shutil.rmtree(out, ignore_errors=True)
    stated = json.loads((folder / "acquisition.json").read_text(encoding="utf-8"))
    # The map of 1bxn holds half of it.
    files = {name: data / f"maps_10A/{name}.mrc" for name in CASES[case]}
    files |= {name: data / f"models/{name}.pdb.gz" for name in CASES[case] if name == "1bxn"}
    source = SourceOptions(
        classes={name: str(path.resolve()) for name, path in files.items()},
        acquisition=Acquisition(**stated),
    )
    options = ClassifyOptions(tomogram=folder / "tomogram.mrc", source=source, fdr=RATE)
    started = time.process_time()
    summary = classify_by_likelihood(options, out)
    seconds = time.process_time() - started
    there = named_truth(folder, CASES[case], output_folder(out / "truth"))
    row: Row = {
        "tomogram": folder.name,
        "named structures": f"{case}: {', '.join(CASES[case])}",
        "particles of them": there,
        "labelled": summary["n_labelled"],
        "wrong": summary["n_labelled"],
        "labels": summary["classes"],
        "fdr_stated": summary["fdr"]["expected"],
        "cpu_seconds": seconds,
        "warnings": summary["warnings"],
    }
    if there:
        found = evaluated(out, out / "truth", data / "independent" / "evaluate.py")
        row["wrong"] -= found["right"]
        row["detected"] = found["found"] / there
        row["recall"] = found["right"] / there
        row["label_accuracy"] = found["right"] / max(found["labelled"], 1)
        row["called a structure that is there"] = found["junk"]
    return row


def named_truth(folder: Path, named: Sequence[str], out: Path) -> int:
    """Write a tomogram's truth for named structures, and count their particles.

    Parameters
    ----------
    folder
        With ``truth.csv`` and ``label.npz``.
    named
        The names of particles that are wanted; others are distractors, and junk stays junk.
    out
        An existing folder.
    """
    rows = read_table(folder / "truth.csv")
    for row in rows:
        if row["kind"] in ("wanted", "distractor"):
            row["kind"] = "wanted" if row["name"] in named else "distractor"
    with (out / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    shutil.copyfile(folder / "label.npz", out / "label.npz")
    return sum(row["kind"] == "wanted" for row in rows)
