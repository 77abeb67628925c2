"""Where labels by likelihood end, on cubes that cryoJAX made. The paper has no such experiment.

One thing is wrong or missing at a time: rivals, the CTF, the stated defocus, a structure, the
particles' centres, the SNR; and spheres are planted where proteins are named.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tomadapt.errors import InputError
from tomadapt.experiments.grid import commit
from tomadapt.experiments.judged_sets import STATED, Judged, judge_set
from tomadapt.experiments.records import Row, write_rows
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import markdown
from tomadapt.io.atomic import output_folder, write_text
from tomadapt.io.volumes import open_target

SET = "cryojax_snr0.05"
FAINTER = ("cryojax_snr0.02", "cryojax_snr0.01")
DEFOCI_UM = (-5.0, -2.0, -1.0, 1.0, 2.0, 5.0)
SHIFTS = (1, 2, 3)
HOMOLOGUES = {
    "80S for 70S": {"ribosome_70s": "ribosome_80s"},
    "50S for 70S": {"ribosome_70s": "ribosome_50s"},
}
COLUMNS = ("case", "n", "accuracy", "null right", "ece", "worst class", "worst recall")


def run(setting: Setting) -> list[Path]:
    """Label the set anew for each case."""
    store = setting.store / "third_party"
    if setting.data is None or not (store / SET / "truth.csv").is_file():
        raise InputError(
            f"no set {SET} in {store}",
            expected="--data, and cubes that scripts/third_party_cubes.py wrote",
            got="nothing" if setting.data else "no --data",
            remedy=f"write them: see the script; its --out is {store / SET}",
        )
    data, folder = setting.data, store / SET
    output_folder(setting.out)
    stated = STATED.defocus_um or 0.0
    rows = [_row("as it is", judge_set(folder, data))]
    if setting.scale.name != "smoke":
        rows.append(_row("without rivals", judge_set(folder, data, rivals=False)))
        flat = replace(STATED, defocus_um=None)
        rows.append(_row("without CTF", judge_set(folder, data, recording=flat)))
        for change in DEFOCI_UM:
            if stated + change > 0:
                wrong = replace(STATED, defocus_um=stated + change)
                found = judge_set(folder, data, recording=wrong)
                rows.append(_row(f"defocus stated {change:+g} µm", found))
        for title, instead in HOMOLOGUES.items():
            rows.append(_row(title, judge_set(folder, data, instead=instead)))
        for shift in SHIFTS:
            moved = _shifted(folder, shift)
            rows.append(_row(f"{shift} voxels off", judge_set(folder, data, cubes=moved)))
        for name in FAINTER:
            if (store / name / "truth.csv").is_file():
                rows.append(_row(name, judge_set(store / name, data)))
    about = {"experiment": "limits", "scale": setting.scale.name, "commit": commit()}
    records, table = setting.file("limits.jsonl"), setting.file("limits.md")
    write_rows(records, [about | row for row in rows])
    lines = [[_text(row[c]) for c in COLUMNS] for row in rows]
    write_text(table, f"# Limits, on {SET}\n\n" + markdown(COLUMNS, lines))
    return [records, table]


def _row(case: str, found: Judged) -> Row:
    recalls = {
        str(name): float(found.right[found.truth == name].mean()) for name in np.unique(found.truth)
    }
    worst = min(recalls, key=lambda name: recalls[name])
    return {
        "case": case,
        "n": len(found.truth),
        "accuracy": float(found.right.mean()),
        "null right": recalls["null"],
        "ece": found.calibration_error(),
        "worst class": worst,
        "worst recall": recalls[worst],
        "recalls": recalls,
        "cpu_seconds": found.seconds,
    }


def _shifted(folder: Path, voxels: int) -> Path:
    """The set's cubes rolled by so many voxels along a random axis each."""
    data = open_target(folder / "cubes.mrc")
    cubes = data.source.read(range(len(data)))
    rng = np.random.default_rng(voxels)
    moved = [
        np.roll(cube, int(rng.choice((-1, 1))) * voxels, axis=int(rng.integers(3)))
        for cube in cubes.numpy()
    ]
    path = folder / f"shifted_{voxels}.npy"
    np.save(path, np.stack(moved))
    return path


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
