"""A protein that nobody named: averaged from the particles called ``other``, then named itself.

The set is labelled without one of its classes. The particles that have no label but look like a
protein are averaged from random poses, and the map takes part as a structure when all are labelled
again. With two classes left out the average is one of a mixture. The paper has no such experiment.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from tomadapt.experiments.judged_sets import STATED, Judged, judge_set
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import titled_table
from tomadapt.experiments.third_party import require_sets
from tomadapt.inputs.particles import open_target
from tomadapt.recover.average import AveragingOptions
from tomadapt.recover.averages import average_classes
from tomadapt.recover.labels import read_labels
from tomadapt.recover.recording import recording_of
from tomadapt.simulate.simulator import NULL_CLASS

SETS = ("cryojax_many_snr0.1", "cryojax_many_snr0.05")
LEFT_OUT = (("groel",), ("hsp90",), ("groel", "hsp90"))
NEW = "unlisted"
COLUMNS: tuple[str, ...] = ("set", "left out", "n", "other", "of these left out", "resolution, nm")
COLUMNS += ("right before", "left out, named after", "others right after")


def run(setting: Setting) -> list[Path]:
    """Label, average and label again, for each set that is at hand and each choice of classes."""
    smoke = setting.scale.name == "smoke"
    data, folders = require_sets(setting, SETS)
    table = partial(titled_table, "A class that was not named", COLUMNS, form=".3f")
    results = Results.of(setting, "second_round", table, "scale", "commit")
    for folder in folders[: 1 if smoke else None]:
        for left_out in LEFT_OUT[: 1 if smoke else None]:
            out = setting.store / "second_round" / f"{folder.name}-{'-'.join(left_out)}"
            results.add(_row(folder, left_out, data, out))
    return results.files


def _row(folder: Path, left_out: tuple[str, ...], structures: Path, out: Path) -> Row:
    first = judge_set(folder, structures, left_out=left_out)
    absent = np.isin(first.truth, left_out)
    data = open_target(folder / "cubes.mrc", contrast="positive")
    names = np.array(read_labels(folder / "run" / "labels.csv", data))
    shutil.rmtree(out, ignore_errors=True)
    found = np.flatnonzero(names == "other")
    points = recording_of(data, STATED).points(data)
    averaged = None
    if len(found):
        averaged = average_classes(
            data.subset(found), [NEW] * len(found), points, AveragingOptions(starts=2), out
        )[0]
    again: Judged | None = None
    if averaged is not None and averaged.result is not None:
        new = {NEW: str(out / f"{NEW}.mrc")}
        again = judge_set(folder, structures, left_out=left_out, instead=new)
    return {
        "set": folder.name,
        "left out": " and ".join(left_out),
        "n": len(first.truth),
        "other": len(found),
        "of these left out": float(absent[found].mean()) if len(found) else None,
        "resolution, nm": None if averaged is None else averaged.record.get("resolution_0.5_nm"),
        "right before": float(first.right.mean()),
        "left out, named after": float((again.label[absent] == NEW).mean()) if again else None,
        "others right after": float(again.right[~absent].mean()) if again else None,
        "null right after": None
        if again is None
        else float(again.right[again.truth == NULL_CLASS].mean()),
    }
