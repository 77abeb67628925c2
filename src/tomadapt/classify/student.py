"""Many cubes: the likelihood judges some of them, and a network that learns from it the others."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tomadapt.classify.assumed import cubes_assumptions
from tomadapt.classify.cubes import CubesOptions
from tomadapt.classify.judged_summary import cubes_warnings, label_warnings
from tomadapt.classify.measured_acquisition import acquisition_warnings, measured_acquisition
from tomadapt.classify.student_labels import StudentLabels
from tomadapt.classify.teaching import FEWEST, JudgedTarget, Taught, taught
from tomadapt.data.cube_keys import DIGEST_KEY, CubeKeys, key_of
from tomadapt.learn.engine import make_fabric
from tomadapt.runs.atomic import write_json
from tomadapt.runs.heard import heard
from tomadapt.runs.own_folder import make_own, require_own
from tomadapt.runs.stages import StageClock
from tomadapt.runs.versions import versions

LEAST_AGREEMENT = 0.8
FEWEST_UNSEEN = 50
"""Judged cubes, unseen by the student, on which its probabilities are calibrated. With 54 their
calibration error was 0.02 to 0.05 on others' data, with 10 to 20 it was 0.05 to 0.14."""
UNSURE_SHARE = 0.25
"""So many more cubes, of those that the judge was given first, are judged where the student is
least sure."""


def classify_cubes_by_student(
    options: CubesOptions, out: Path, *, device: str = "auto"
) -> dict[str, Any]:
    """Label many cubes: judge a sample, teach a network, and judge where it is unsure.

    Parameters
    ----------
    options
        What is asked for; it must have a ``source``.
    out
        Where ``labels.csv``, ``student.safetensors`` and ``summary.json`` go. The table has a last
        column ``by``: ``likelihood`` for what was judged, with pose and kind, or ``student``.
    device
        See :func:`tomadapt.learn.engine.make_fabric`.

    Returns
    -------
    dict
        The content of ``summary.json``; ``student`` says how it agrees with the judge on judged
        cubes that it never saw.

    Raises
    ------
    ConfigError
        When the cubes are too few, or what they need is not stated.
    InputError
        When a file is missing or damaged.
    MismatchError
        When voxel sizes differ, or the folder holds another run.
    """
    wanted = options.model_dump(mode="json", exclude={"fdr", "adapt"})
    require_own(out, wanted)
    clock, fabric = StageClock(out / "stages.json"), make_fabric(device)
    opened: list[str] = []
    with clock.stage("cubes"), heard(opened):
        target = JudgedTarget.of(options, out, fabric.device)
    make_own(out, wanted)
    rng = np.random.default_rng(options.seed)
    sample = np.sort(rng.permutation(len(target.data))[: options.judged])
    student = taught(options, target, sample, out=out, fabric=fabric, clock=clock)
    first, found = student.first, student.probabilities
    parts = [first]
    left = np.setdiff1d(np.arange(len(found)), first.rows)
    if len(left):
        with clock.stage("judge unsure"):
            more = max(FEWEST, round(UNSURE_SHARE * len(first.rows)))
            unsure = left[np.argsort(found[left].max(axis=1), kind="stable")][:more]
            parts.append(target.judged(np.sort(unsure)))
    told = [*opened, *_warnings(options, target, student)]
    labels = StudentLabels.of(found, parts, student.names, options.fdr)
    files = target.data.names
    labels.write_csv(
        out / "labels.csv",
        parts,
        target.data.voxel_size_A,
        CubeKeys(key_of(target.data.source), files),
    )
    summary = {
        "cubes": str(options.cubes),
        "method": "student",
        DIGEST_KEY: key_of(target.data.source),
        "n_particles": len(found),
        "n_judged": sum(len(part.rows) for part in parts),
        "n_labelled": sum(labels.counts.values()),
        "classes": labels.counts,
        "student": student.summary(),
        "measured_acquisition": measured_acquisition(
            first.verdicts, target.acquisition, target.sign.text
        ),
        "contrast": {"sign": target.sign.sign, "text": target.sign.text},
        "assumed": cubes_assumptions(
            target.data.voxel_size_A,
            target.measured.recording,
            target.measured.summary,
            stated_voxel_size_A=options.voxel_size_A,
            contrast=target.sign.text,
            files=bool(files),
            told=opened,
        ),
        "warnings": told,
        "seconds": {name: record["seconds"] for name, record in clock.records.items()},
        "peak_memory_mb": max(r["peak_memory_mb"] for r in clock.records.values()),
        "versions": versions(),
    }
    write_json(out / "summary.json", summary)
    for text in told[len(opened) :]:
        warnings.warn(text, stacklevel=2)
    return summary


def _warnings(options: CubesOptions, target: JudgedTarget, student: Taught) -> list[str]:
    verdicts, agreement = student.first.verdicts, float(student.agrees.mean())
    contradiction = target.measured.contradiction(options.recording)
    told = [text for text in (target.sign.warning, contradiction) if text]
    told += acquisition_warnings(verdicts, target.acquisition, target.data.voxel_size_A)
    told += label_warnings(verdicts, verdicts.label >= 0) + cubes_warnings(verdicts)
    if agreement < LEAST_AGREEMENT:
        told.append(
            f"the student names {agreement:.0%} of {len(student.unseen)} judged cubes that it "
            "never saw as the likelihood does: judge more of them (--judged), or all (--method "
            "likelihood)"
        )
    if len(student.unseen) < FEWEST_UNSEEN:
        told.append(
            f"the student's probabilities were calibrated on {len(student.unseen)} judged cubes "
            "alone, and may be off by more than 0.1: judge more cubes (--judged), or all "
            "(--method likelihood)"
        )
    return told
