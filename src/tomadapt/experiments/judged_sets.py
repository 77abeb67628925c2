"""Sets with a known truth, labelled by likelihood: what the experiments on them compare."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tomadapt.acquisition import Acquisition
from tomadapt.classify.cubes import CubesOptions, classify_cubes
from tomadapt.classify.judged import classify_by_likelihood
from tomadapt.classify.options import ClassifyOptions, SourceOptions
from tomadapt.classify.stacks import stacks_transfers
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import InputError
from tomadapt.experiments.decoys import phase_randomised
from tomadapt.experiments.records import Row
from tomadapt.inputs.particles import ArrayVolumes, open_target
from tomadapt.judge.judge import JudgeOptions, judge
from tomadapt.judge.noise import Noise
from tomadapt.judge.rivals import wanted_structures
from tomadapt.learn.calibration import calibration_error
from tomadapt.recover.recording import StatedRecording
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.tomograms.tilt_stacks import reconstruct_tilt_stacks

HOMOLOGUE = "5mrc"
"""In the independent tomogram: a mitochondrial ribosome, where a bacterial one is named."""
INDEPENDENT = {
    "ribosome": "../maps_10A/4v4r.mrc",
    "proteasome": "../models/3j9i.pdb.gz",
    "tric": "tric.mrc",
    "rubisco": "../models/1bxn.pdb.gz",
}
RIBOSOMES = "real_ribosomes/warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
STATED = StatedRecording(tilt_range_deg=(-60.0, 60.0), tilt_step_deg=3.0, defocus_um=5.0)
"""Of the cubes that ``scripts/third_party_cubes.py`` writes by default."""


def stated_of(folder: Path) -> StatedRecording:
    """What is stated of a set's recording: :data:`STATED`, but for its ``recording.json``."""
    path = folder / "recording.json"
    return replace(STATED, **json.loads(path.read_text())) if path.is_file() else STATED


def structures_of(folder: Path, data: Path, left_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Class → file of its structure, by a set's ``classes.json``; NULL has none.

    Parameters
    ----------
    folder
        Of the set.
    data
        What the paths there are relative to.
    left_out
        Classes that are passed over.
    """
    classes = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    return {
        name: str(data / path)
        for name, path in classes.items()
        if path and name not in (NULL_CLASS, *left_out)
    }


@dataclass(frozen=True, eq=False)
class Judged:
    """Cubes as labelled, beside their true classes.

    Attributes
    ----------
    truth, label
        (n,) class names.
    probability, unknown, fdr
        (n,) as written.
    homologue
        (n,) whether it is :data:`HOMOLOGUE`, where the set's truth says that.
    left_out
        Classes that were not named; their particles are right where they have no label.
    seconds
        CPU seconds.
    templates
        How many structures, mirror images and rivals each was compared with.
    snr
        Measured, before the CTF; None where it could not be.
    """

    truth: NDArray[np.str_]
    label: NDArray[np.str_]
    probability: NDArray[np.float64]
    unknown: NDArray[np.float64]
    fdr: NDArray[np.float64]
    homologue: NDArray[np.bool_]
    left_out: tuple[str, ...]
    seconds: float
    templates: int
    snr: float | None

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) whether the label is the true one."""
        wanted = np.where(np.isin(self.truth, self.left_out), NULL_CLASS, self.truth)
        return np.asarray(self.label == wanted)

    def at_rate(self, rate: float) -> Row:
        """Recall and precision of labels of at most this false-discovery rate.

        Homologues of a named structure are counted apart, as in the tomogram they come from.
        """
        named = (self.label != NULL_CLASS) & (self.fdr <= rate)
        right, counted = named & self.right, named & ~self.homologue
        precision = float(right.sum() / max(counted.sum(), 1))
        return {
            "fdr": rate,
            "recall": float(right.sum() / (self.truth != NULL_CLASS).sum()),
            "precision": float(right.sum() / max(named.sum(), 1)),
            "precision_without_homologue": precision,
            "fdr_stated": float(1 - self.probability[named].mean()) if named.any() else 0.0,
            "fdr_true": 1 - precision,
        }

    def calibration_error(self) -> float:
        """Of the probabilities, see :func:`~tomadapt.learn.calibration.calibration_error`."""
        return calibration_error(self.probability, self.right)

    def unknown_auroc(self) -> float | None:
        """Area under the ROC curve of ``unknown`` for the classes left out; None without one."""
        if not self.left_out:
            return None
        return float(roc_auc_score(np.isin(self.truth, self.left_out), self.unknown))


def judge_set(
    folder: Path,
    data: Path,
    *,
    left_out: tuple[str, ...] = (),
    recording: StatedRecording = STATED,
    cubes: Path | None = None,
    instead: dict[str, str] | None = None,
    rivals: bool = True,
) -> Judged:
    """Label a set of cubes that has a ``truth.csv`` and a ``classes.json``.

    Parameters
    ----------
    folder
        Of the set.
    data
        What ``classes.json`` names structures relative to.
    left_out
        Classes that are not named.
    recording
        What is stated.
    cubes
        Other cubes of the same particles.
    instead
        Class → another structure that is named in its place.
    rivals
        Whether anything but noise competes with the named structures.
    """
    structures = structures_of(folder, data, left_out)
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    started = time.process_time()
    summary = classify_cubes(
        CubesOptions(
            cubes=cubes or folder / "cubes.mrc",
            classes=structures | (instead or {}),
            recording=recording,
            voxel_size_A=None if cubes is None else open_target(folder / "cubes.mrc").voxel_size_A,
            rivals=rivals,
        ),
        out,
    )
    seconds = time.process_time() - started
    truth, rows = read_table(folder / "truth.csv"), read_table(out / "labels.csv")
    return Judged(
        np.array([row["label"] for row in truth]),
        np.array([row["label"] for row in rows]),
        np.array([float(row["probability"]) for row in rows]),
        np.array([float(row["unknown"]) for row in rows]),
        np.array([float(row["fdr"]) for row in rows]),
        np.array([row.get("planted") == HOMOLOGUE for row in truth]),
        left_out,
        seconds,
        summary["judge"]["hypotheses"],
        summary["measured_acquisition"]["snr_before_ctf"],
    )


def judge_tomogram(folder: Path, dose: str, rate: float | None, store: Path) -> Row:
    """Label the independent tomogram and let its own script count.

    Parameters
    ----------
    folder
        With ``tomogram_dose*.mrc``, ``truth.csv`` and ``evaluate.py``.
    dose
        Of the file's name.
    rate
        False-discovery rate to cut at, if any.
    store
        Where the run goes.
    """
    if not (folder / "evaluate.py").is_file():
        raise InputError(
            "the independent tomogram is not at hand",
            expected=folder / "evaluate.py",
            got="nothing there",
            remedy="give --data with the folder independent",
        )
    out = store / f"tomogram_dose{dose}-{rate}"
    shutil.rmtree(out, ignore_errors=True)
    structures = {name: str((folder / path).resolve()) for name, path in INDEPENDENT.items()}
    source = SourceOptions(
        classes=structures, acquisition=Acquisition(name="stated", defocus_um=4.0)
    )
    options = ClassifyOptions(
        tomogram=folder / f"tomogram_dose{dose}.mrc", source=source, method="likelihood", fdr=rate
    )
    started = time.process_time()
    summary = classify_by_likelihood(options, out)
    seconds = time.process_time() - started
    found = evaluated(out, folder, folder / "evaluate.py")
    named, right = found["named"], found["right"]
    homologues = found["junk"][HOMOLOGUE]
    junk = sum(found["junk"][k] for k in ("gold", "gold streak", "membrane", "ice"))
    return {
        "kind": "tomogram",
        "dose": dose,
        "fdr": rate,
        "detected": found["found"] / found["n"],
        "recall": right / found["n"],
        "precision": right / max(named, 1),
        "precision_without_homologue": right / max(named - homologues, 1),
        "label_accuracy": right / max(found["labelled"], 1),
        "junk_named": junk,
        "fdr_stated": summary["fdr"]["expected"],
        "fdr_true": 1 - right / max(named - homologues, 1),
        "classes": {c: found[c] for c in ("4v4r", "3j9i", "tric", "1bxn")},
        "measured": summary["measured_acquisition"],
        "templates": summary["judge"]["hypotheses"],
        "warnings": summary["warnings"],
        "cpu_seconds": seconds,
    }


def evaluated(out: Path, truth: Path, script: Path) -> dict[str, Any]:
    """What the independent tomogram's script counts in a run.

    Parameters
    ----------
    out
        Folder of the run.
    truth
        Folder with ``truth.csv`` and ``label.npz``.
    script
        ``evaluate.py``; it keeps distances to junk in the folder for temporary files, which must
        be another one for each tomogram.
    """
    command: list[str | Path] = [sys.executable, script, "--truth", truth]
    command += ["--picks", out / "particles.star", "--rejected", out / "rejected.star"]
    command += ["--json", out / "evaluation.json"]
    own = os.environ | {"TMPDIR": str(out)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=own)
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    return found


def judge_ribosomes(data: Path, store: Path) -> list[Row]:
    """Real ribosomes, and the same with randomised phases: what is called 70S.

    Once with other ribosomes named beside them, once alone: others are rivals then.
    """
    path = data / RIBOSOMES
    if not path.is_file():
        return []
    rows: list[Row] = []
    for names in (("ribosome_70s", "ribosome_80s", "ribosome_50s"), ("ribosome_70s",)):
        out = store / "third_party" / f"run-ribosomes{len(names)}"
        shutil.rmtree(out, ignore_errors=True)
        classes = {name: name for name in names}
        summary = classify_cubes(CubesOptions(cubes=path, classes=classes), out)
        labels = [row["label"] for row in read_table(out / "labels.csv")]
        others = {k: v for k, v in summary["classes"].items() if k != names[0]}
        others |= {k: v for k, v in summary["junk"].items() if v}
        hand = summary["measured_acquisition"]["hand_nats"]
        decoys = _randomised_labels(path, classes)
        found = {str(name): int(np.sum(decoys == name)) for name in np.unique(decoys)}
        sets = {"real": (labels.count(names[0]), others, hand)}
        sets["phases randomised"] = (found.pop(names[0], 0), found, None)
        for kind, (called, else_, nats) in sets.items():
            row: Row = {"kind": "ribosomes", "named": len(names), "n": len(labels), "set": kind}
            rows.append(row | {"called 70S": called, "others": else_, "hand, nats": nats})
    return rows


def _randomised_labels(path: Path, classes: dict[str, str]) -> NDArray[np.str_]:
    """What tilt stacks are called whose cubes have the spectrum that they have, and no structure.

    The series' tilt angles were inverted on import; that matters to nothing here.
    """
    made = reconstruct_tilt_stacks(path, contrast="positive", whitened=True)
    points, transfers = stacks_transfers(made)
    real = Subtomograms(ArrayVolumes(made.volumes, made.voxel_size_A))
    decoys = phase_randomised(real, seed=0)
    structures = wanted_structures(classes, box=real.box, voxel_size_A=made.voxel_size_A)
    found = judge(
        decoys,
        structures,
        Noise.of(decoys, points, measured=transfers.measured),
        acquisition=None,
        voxel_size_A=made.voxel_size_A,
        transfers=transfers,
        options=JudgeOptions(reach_voxels=real.box / 12),
    )
    names = np.array([*found.wanted, NULL_CLASS])
    return names[found.label]


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with names."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
