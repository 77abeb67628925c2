"""Labels by likelihood on data that this package did not simulate; the paper has nothing like it.

A tomogram by other code with its own script of evaluation (in the data folder), cubes that cryoJAX
and RELION made (``scripts/third_party_cubes.py`` and ``third_party_relion.py`` write them into
``STORE/third_party``), real ribosomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from tomadapt.errors import InputError
from tomadapt.experiments.judged_sets import (
    Judged,
    judge_ribosomes,
    judge_set,
    judge_tomogram,
    stated_of,
)
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import row_table, select
from tomadapt.runs.atomic import output_folder

KINDS = ("", "imbalanced_", "unequal_")
SETS = tuple(f"cryojax_{kind}snr{snr}" for kind in KINDS for snr in ("0.1", "0.05"))
SETS += tuple(f"relion_snr{snr}" for snr in ("0.1", "0.05"))
TOMOGRAM_SETS = ("tomogram_dose3", "tomogram_dose0.8")
"""What was cut out of these tomograms, judged as cubes; ``scripts/third_party_tomogram.py``."""
LEFT_OUT = ("groel", "hsp90")
DOSES, RATE = ("3", "0.8"), 0.05
TOMOGRAM: tuple[str, ...] = ("dose", "fdr", "detected", "recall", "precision")
TOMOGRAM += ("precision_without_homologue", "label_accuracy", "junk_named")
TOMOGRAM += ("fdr_stated", "fdr_true", "cpu_seconds")
CUBES: tuple[str, ...] = ("set", "left out", "n", "accuracy", "null right", "ece")
CUBES += ("unknown_auroc", "cpu_seconds", "templates", "cpu_seconds_each", "snr_before_ctf")
CUT_OUT: tuple[str, ...] = ("set", "n", "fdr", "recall", "precision")
CUT_OUT += ("precision_without_homologue", "fdr_stated", "fdr_true", "ece", "cpu_seconds")
RIBOSOMES = ("set", "named", "n", "called 70S", "others", "hand, nats")


def run(setting: Setting) -> list[Path]:
    """Label everything that is at hand, and compare with the truth."""
    if setting.data is None:
        raise InputError(
            "the data that others made are not at hand",
            expected="--data with the folders independent and real_ribosomes",
            got="no --data",
            remedy="name the folder that holds them",
        )
    smoke, data = setting.scale.name == "smoke", setting.data
    store = output_folder(setting.store / "third_party")
    there = [name for name in SETS if (store / name / "truth.csv").is_file()]
    results = Results.of(setting, "third_party", partial(_table, there), "scale", "commit")
    for dose in () if smoke else DOSES:
        results.add(judge_tomogram(data / "independent", dose, RATE, store))
    results.add(*judge_ribosomes(data, setting.store))
    for name in there[: 1 if smoke else None]:
        results.add(_cubes_row(judge_set(store / name, data), name))
    for name in () if smoke else TOMOGRAM_SETS:
        if (store / name / "truth.csv").is_file():
            results.add(_cut_out_row(store / name, data))
    for left_out in LEFT_OUT if there and not smoke else ():
        results.add(_cubes_row(judge_set(store / there[0], data, left_out=(left_out,)), there[0]))
    return results.files


def require_sets(setting: Setting, names: tuple[str, ...]) -> tuple[Path, list[Path]]:
    """The folder of structures, and those of the sets of cubes at hand, in this order.

    Raises
    ------
    InputError
        When none is, or the folder of structures is not stated.
    """
    places = [setting.store / "third_party" / name for name in names]
    there = [folder for folder in places if (folder / "truth.csv").is_file()]
    if setting.data is None or not there:
        raise InputError(
            f"no cubes that others made in {setting.store / 'third_party'}",
            expected="--data, and sets that scripts/third_party_*.py wrote",
            got="nothing" if setting.data else "no --data",
            remedy="write them: see docs/experiments.md",
        )
    return setting.data, there


def _cubes_row(found: Judged, name: str) -> Row:
    null = found.truth == "null"
    return {
        "kind": "cubes",
        "set": name,
        "left out": " and ".join(found.left_out),
        "n": len(found.truth),
        "accuracy": float(np.mean(found.right)),
        "null right": float(np.mean(found.right[null])),
        "ece": found.calibration_error(),
        "unknown_auroc": found.unknown_auroc(),
        "cpu_seconds": found.seconds,
        "templates": found.templates,
        "cpu_seconds_each": found.seconds / len(found.truth) / found.templates,
        "snr_before_ctf": found.snr,
    }


def _cut_out_row(folder: Path, data: Path) -> Row:
    found = judge_set(folder, data, recording=stated_of(folder))
    return {
        "kind": "cut out",
        "set": folder.name,
        "n": len(found.truth),
        **found.at_rate(RATE),
        "ece": found.calibration_error(),
        "cpu_seconds": found.seconds,
    }


def _table(there: Sequence[str], rows: Sequence[Row]) -> str:
    parts = [
        "# Labels by likelihood on data that others made\n",
        row_table(TOMOGRAM, select(rows, kind="tomogram")),
        row_table(CUBES, select(rows, kind="cubes")),
        "Cubes cut out of the tomograms, judged without the tomogram's noise:\n",
        row_table(CUT_OUT, select(rows, kind="cut out")),
        "Real ribosomes; with three named these are 70S, 80S and 50S.\n",
        row_table(RIBOSOMES, select(rows, kind="ribosomes")),
    ]
    missing = [name for name in SETS if name not in there]
    if missing:
        parts.append(f"Not at hand: {', '.join(missing)} (scripts/third_party_*.py).\n")
    return "\n".join(parts)
