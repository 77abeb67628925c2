"""The judge's student on cubes that others made: names of cubes that the judge was not given.

Every second cube is judged. What ``classify --method student`` would label by likelihood
afterwards, because the student is unsure of it, is the student's own here. Not in the paper.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from tomadapt.acquisition import Acquisition
from tomadapt.classify.cubes import CubesOptions
from tomadapt.classify.options import SourceOptions
from tomadapt.classify.student_labels import OTHER, StudentLabels
from tomadapt.classify.teaching import JudgedTarget, taught
from tomadapt.experiments.grid import commit
from tomadapt.experiments.judged_sets import read_table, stated_of, structures_of
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import titled_table
from tomadapt.experiments.third_party import LEFT_OUT, SETS, require_sets
from tomadapt.learn.calibration import calibration_error
from tomadapt.learn.engine import make_fabric
from tomadapt.runs.atomic import output_folder
from tomadapt.runs.stages import StageClock
from tomadapt.simulate.simulator import NULL_CLASS

MANY: tuple[str, ...] = ("cryojax_many_snr0.05", "cryojax_many_snr0.1", "relion_many_snr0.1")
MANY += ("tomogram_dose3", "tomogram_dose0.8")
COLUMNS: tuple[str, ...] = ("set", "left out", "judged", "n", "likelihood", "accuracy", "ece")
COLUMNS += ("null right", "other_auroc", "cubes_per_second", "minutes")


def run(setting: Setting) -> list[Path]:
    """Teach a student on every set that is at hand.

    Sets whose rows are in the file of records are kept as they are: delete a row to run it anew.
    """
    unequal_first = sorted(SETS, key=lambda name: "imbalanced" not in name)
    data, there = require_sets(setting, (*MANY, *unequal_first))
    title = "Students of the judge on cubes that others made"
    table = partial(titled_table, title, COLUMNS, form=".3f")
    results = Results.of(setting, "third_party_students", table)
    results.rows.extend(results.earlier())
    wanted = [(folder, "") for folder in there]
    held = {row["label"] for row in read_table(there[0] / "truth.csv")}
    wanted += [(there[0], left_out) for left_out in LEFT_OUT if left_out in held]
    for folder, left_out in wanted[: 1 if setting.scale.name == "smoke" else None]:
        if (folder.name, left_out) not in {(row["set"], row["left out"]) for row in results.rows}:
            results.add(_row(folder, left_out, data, setting))
    results.add()  # the table, where all was there
    return results.files


def _row(folder: Path, left_out: str, structures: Path, setting: Setting) -> Row:
    named = structures_of(folder, structures, (left_out,))
    # Acquisition, box and voxels of what is simulated are those of the cubes.
    smoke, recording = setting.scale.name == "smoke", stated_of(folder)
    source = SourceOptions(
        classes=named,
        acquisition=Acquisition(name="stated", defocus_um=recording.defocus_um or 0.0),
        per_class=6 if smoke else 40,
        epochs=2 if smoke else 20,
    )
    options = CubesOptions(
        cubes=folder / "cubes.mrc",
        classes=named,
        recording=recording,
        contrast="positive",
        method="student",
        source=source,
    )
    out = output_folder(
        setting.store / f"student-{setting.scale.name}-{folder.name}-{left_out or 'all'}"
    )
    fabric, clock = make_fabric(), StageClock(out / "stages.json")
    target = JudgedTarget.of(options, out, fabric.device)
    judged = np.arange(0, len(target.data), 2)
    student = taught(options, target, judged, out=out, fabric=fabric, clock=clock)
    truth = np.array([row["label"] for row in read_table(folder / "truth.csv")])
    rest = np.arange(1, len(truth), 2)
    wanted = np.where(truth == left_out, NULL_CLASS, truth)
    names = np.array([*student.names[:-2], NULL_CLASS])
    of_judge = StudentLabels.of(student.first.probabilities, [], student.names, None)
    found = StudentLabels.of(student.probabilities[rest], [], student.names, None)
    right = names[found.label] == wanted[rest]
    named_p = found.probabilities[:, :-2].max(axis=1)
    sure = np.where(found.label >= 0, named_p, found.probabilities[:, -2:].sum(axis=1))
    other, absent = found.probabilities[:, student.names.index(OTHER)], truth[rest] == left_out
    return {
        "set": folder.name,
        "left out": left_out,
        "judged": len(judged),
        "n": len(rest),
        "likelihood": float((names[of_judge.label] == wanted[judged]).mean()),
        "accuracy": float(right.mean()),
        "ece": calibration_error(sure, right),
        "null right": float(right[truth[rest] == NULL_CLASS].mean()),
        "other_auroc": float(roc_auc_score(absent, other)) if left_out else None,
        "minutes": sum(record["seconds"] for record in clock.records.values()) / 60,
        **student.summary(),
        "commit": commit(),
    }
