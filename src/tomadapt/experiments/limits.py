"""Where labels by likelihood end, on cubes that cryoJAX made. The paper has no such experiment.

One thing is wrong or missing at a time: rivals, the CTF, the stated defocus, a structure, its
conformation, the particles' centres, the SNR.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tomadapt.experiments.altered import bent_maps, shifted_cubes
from tomadapt.experiments.judged_sets import STATED, Judged, judge_set, structures_of
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import markdown, row_table, text
from tomadapt.experiments.third_party import require_sets
from tomadapt.structures import read_atomic_model

SET = "cryojax_snr0.05"
FAINTER = ("cryojax_snr0.02", "cryojax_snr0.01")
DEFOCI_UM = (-2.0, 1.0, 2.0, 5.0)
SHIFTS = (1, 2, 3)
HOMOLOGUES = {
    "80S for 70S": {"ribosome_70s": "ribosome_80s"},
    "50S for 70S": {"ribosome_70s": "ribosome_50s"},
}
BENDS_DEG = (10, 20, 30)
BOTH_STATES_DEG = 20
OTHER_STATE = "maps_10A/4v4r.mrc"
COLUMNS = ("case", "n", "accuracy", "null right", "ece", "worst class", "worst recall")


def run(setting: Setting) -> list[Path]:
    """Label the set anew for each case."""
    data, (folder,) = require_sets(setting, (SET,))
    structures = {name: Path(path) for name, path in structures_of(folder, data).items()}
    by_mass = sorted((read_atomic_model(p).mass_kda, name) for name, p in structures.items())
    masses = {name: kda for kda, name in by_mass}
    cases = _cases(folder, data, structures)
    results = Results.of(setting, "limits", partial(_table, masses), "scale", "commit")
    for title, label in cases[: 1 if setting.scale.name == "smoke" else None]:
        results.add(_row(title, label()))
    return results.files


def _table(masses: dict[str, float], rows: Sequence[Row]) -> str:
    recalls = [
        [name, f"{kda:.0f}", *(text(row["recalls"].get(name)) for row in rows)]
        for name, kda in masses.items()
    ]
    return (
        f"# Limits, on {SET}\n\n{row_table(COLUMNS, rows)}\nRecall of each class:\n\n"
        + markdown(("class", "kDa", *(row["case"] for row in rows)), recalls)
    )


def _cases(
    folder: Path, data: Path, structures: dict[str, Path]
) -> list[tuple[str, Callable[[], Judged]]]:
    """What is wrong or missing, and how the set is labelled then; nothing is made before that."""
    store = folder.parent

    def in_other_states(degrees: int, suffix: str = "") -> Judged:
        states = bent_maps(structures, degrees, store / "bent")
        named = {f"{name}{suffix}": path for name, path in states.items()}
        return judge_set(folder, data, instead=named)

    def off_centre(voxels: int) -> Judged:
        return judge_set(folder, data, cubes=shifted_cubes(folder, voxels))

    def case(title: str, **options: Any) -> tuple[str, Callable[[], Judged]]:
        return title, lambda: judge_set(folder, data, **options)

    stated = STATED.defocus_um or 0.0
    found = [
        case("as it is"),
        case("without rivals", rivals=False),
        case("without CTF", recording=replace(STATED, defocus_um=None)),
    ]
    found += [case(title, instead=instead) for title, instead in HOMOLOGUES.items()]
    other = {"ribosome_70s": str(data / OTHER_STATE)}
    found.append(case("another 70S state (4v4r for 4v5d)", instead=other))
    for degrees in BENDS_DEG:
        found.append((f"all bent by {degrees}°", partial(in_other_states, degrees)))
        if degrees == BOTH_STATES_DEG:
            both = partial(in_other_states, degrees, "_bent")
            found.append((f"also named: all bent by {degrees}°", both))
    for name in FAINTER:
        if (store / name / "truth.csv").is_file():
            found.append((name, partial(judge_set, store / name, data)))
    for change in DEFOCI_UM:
        wrong = replace(STATED, defocus_um=stated + change)
        found.append(case(f"defocus stated {change:+g} µm", recording=wrong))
    for shift in SHIFTS:
        found.append((f"{shift} voxels off", partial(off_centre, shift)))
    return found


def _row(case: str, found: Judged) -> Row:
    recalls = {
        str(name): float(found.right[found.truth == name].mean()) for name in np.unique(found.truth)
    }
    worst = min(recalls, key=lambda name: recalls[name])
    return {
        "case": case,
        "n": len(found.truth),
        "accuracy": float(found.right.mean()),
        "null right": recalls.get("null"),
        "ece": found.calibration_error(),
        "worst class": worst,
        "worst recall": recalls[worst],
        "recalls": recalls,
        "cpu_seconds": found.seconds,
    }
