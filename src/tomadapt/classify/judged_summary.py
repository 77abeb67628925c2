"""What is said of labels by likelihood, of tomograms and cubes alike: summary, warnings, report."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition, overfocus
from tomadapt.classify.results import CLASS_NUMBER, FDR, NO_CLASS, SCORE, SECOND, UNKNOWN
from tomadapt.data.cube_keys import CubeKeys
from tomadapt.io.extracted import CLASS_NAME, KIND
from tomadapt.io.particle_lists.model import relion_angles_deg
from tomadapt.judge.verdicts import JUNK_KINDS, Verdicts
from tomadapt.report.judged_content import Example, JudgedContent
from tomadapt.runs.atomic import atomic_path
from tomadapt.simulate.simulator import NULL_CLASS

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
WRONG_DEFOCUS_NATS = WRONG_HAND_NATS = 30.0
WRONG_DEFOCUS_UM = 0.75
"""A measured defocus contradicts the stated one from this difference and evidence on."""
WRONG_SCALE_NATS = 30.0
"""Particles of another size than the structures contradict the voxel size from here on."""
_EXAMPLES, _JUNK = 2, 6


def kind_counts(verdicts: Verdicts) -> dict[str, int]:
    """Kind → how many particles are no wanted structure."""
    none = verdicts.kind[verdicts.label < 0]
    return {str(kind): int(count) for kind, count in sorted(Counter(none.tolist()).items())}


def above_rate(verdicts: Verdicts, kept: NDArray[np.bool_], n_duplicates: int) -> int:
    """How many labelled particles are left out for their false-discovery rate."""
    return int((verdicts.label >= 0).sum()) - int(kept.sum()) - n_duplicates


def second_names(verdicts: Verdicts) -> list[str]:
    """(n,) name of the second most probable hypothesis of each particle."""
    names = verdicts.component_names
    return [names[i] for i in verdicts.second]


def hand_nats(verdicts: Verdicts) -> float:
    """Evidence of the structures' hand over that of their mirror images, summed over particles."""
    n = len(verdicts.wanted)
    rows = np.flatnonzero(verdicts.label >= 0)
    own = verdicts.evidence[rows, verdicts.label[rows]]
    mirror = verdicts.evidence[rows, n + verdicts.label[rows]]
    gaps = (own - mirror)[np.isfinite(mirror)]
    return verdicts.hand * float(gaps.sum())


def rejection_reasons(
    verdicts: Verdicts, fdr: float | None, duplicates: Mapping[int, int]
) -> dict[int, str]:
    """Place → why a particle is not among the labelled ones.

    Parameters
    ----------
    verdicts
        What is said of each.
    fdr
        The rate that was asked for, if any.
    duplicates
        Place of a particle → that of the better one it overlaps with.
    """
    found: dict[int, str] = {}
    for place, label in enumerate(verdicts.label):
        score = verdicts.score[place]
        if label < 0:
            best = verdicts.best[place]
            gain = verdicts.evidence[place, best]
            other, nats = verdicts.best_rival(place)
            found[place] = (
                f"{verdicts.kind[place]}: no wanted structure (probability {score:.2f}; "
                f"{verdicts.wanted[best]} has {gain:.0f} nats against noise, {other} {nats:.0f})"
            )
        elif place in duplicates:
            better = duplicates[place] + 1
            found[place] = f"duplicate: overlaps with the particle of subtomogram {better}"
        elif fdr is not None and verdicts.fdr[place] > fdr:
            found[place] = (
                f"{verdicts.wanted[label]} at a false-discovery rate of {verdicts.fdr[place]:.3f}, "
                f"above {fdr:g}"
            )
    return found


def labelled_reason(verdicts: Verdicts, place: int) -> str:
    """Why a particle has its label."""
    gain = verdicts.evidence[place, verdicts.label[place]]
    return f"named by likelihood, {gain:.0f} nats against noise"


def label_columns(verdicts: Verdicts, rows: NDArray[np.int64], n: int) -> dict[str, list[Any]]:
    """Columns of a STAR file with n rows that say what the particles of some rows are."""
    columns: dict[str, list[Any]] = {
        CLASS_NUMBER: [0] * n,
        CLASS_NAME: [NO_CLASS] * n,
        SCORE: [0.0] * n,
        FDR: [1.0] * n,
        UNKNOWN: [0.0] * n,
        SECOND: [NO_CLASS] * n,
        KIND: [NO_CLASS] * n,
    }
    second = second_names(verdicts)
    for place, row in enumerate(rows):
        label = int(verdicts.label[place])
        columns[CLASS_NUMBER][row] = label + 1
        columns[CLASS_NAME][row] = verdicts.wanted[label] if label >= 0 else NULL_CLASS
        columns[SCORE][row] = round(float(verdicts.score[place]), 4)
        columns[FDR][row] = round(float(verdicts.fdr[place]), 4)
        columns[UNKNOWN][row] = round(float(verdicts.unknown[place]), 4)
        columns[SECOND][row] = second[place]
        columns[KIND][row] = str(verdicts.kind[place])
    return columns


def measured_acquisition(
    verdicts: Verdicts, acquisition: Acquisition | None, contrast: str
) -> dict[str, Any]:
    """What the particles say of the acquisition, beside what was stated."""
    optics = verdicts.optics
    return {
        "stated_defocus_um": None if acquisition is None else acquisition.defocus_um,
        "defocus_um": (
            None if optics is None or optics.defocus_um is None else round(optics.defocus_um, 3)
        ),
        "defocus_nats": 0.0 if optics is None else round(optics.defocus_nats, 1),
        "b_factor_A2": None if optics is None else optics.b_factor_A2,
        "scale": None if optics is None else optics.scale,
        "scale_nats": 0.0 if optics is None else round(optics.scale_nats, 1),
        "snr": None if optics is None or optics.snr is None else _digits(optics.snr),
        "snr_before_ctf": (
            None
            if optics is None or optics.snr_before_ctf is None
            else _digits(optics.snr_before_ctf)
        ),
        "particles": 0 if optics is None else optics.particles,
        "hand_nats": round(hand_nats(verdicts), 1),
        "contrast": contrast,
    }


def _digits(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")


def acquisition_warnings(
    verdicts: Verdicts, acquisition: Acquisition | None, voxel_size_A: float
) -> list[str]:
    """Where the particles contradict what was stated, with the evidence."""
    found = []
    optics = verdicts.optics
    if acquisition is not None and (told := overfocus(acquisition.defocus_um)):
        found.append(
            f"{told}; if the sign is wrong, the measured contrast is the opposite of the true one"
        )
    if optics is not None and optics.scale_nats > WRONG_SCALE_NATS:
        smaller = "smaller" if optics.scale > 1 else "larger"
        found.append(
            f"the surest {optics.particles} particles fit the structures better by "
            f"{optics.scale_nats:.0f} nats if they are {optics.scale:.2f} times as large, and "
            f"may differ more: either voxels are {smaller} than the {voxel_size_A:g} Å that "
            "is stated or in the file, or the structures' maps have another voxel size than their "
            "files say; labels rest on both, so mend it and classify again"
        )
    if optics is not None and acquisition is not None and optics.defocus_um is not None:
        apart = abs(optics.defocus_um - acquisition.defocus_um)
        if apart >= WRONG_DEFOCUS_UM and optics.defocus_nats > WRONG_DEFOCUS_NATS:
            found.append(
                f"the defocus was stated to be {acquisition.defocus_um:g} µm, but the surest "
                f"{optics.particles} particles fit {optics.defocus_um:g} µm better by "
                f"{optics.defocus_nats:.0f} nats"
            )
    hand = hand_nats(verdicts)
    if verdicts.hand < 0 or hand < -WRONG_HAND_NATS:
        found.append(
            "the particles fit the mirror images of the structures better by "
            f"{-hand:.0f} nats: the hand of the data, or the sign of the tilt angles, is inverted"
            + (" (labels are by the mirror images)" if verdicts.hand < 0 else "")
            + "; maps of these particles would be mirror images too, unless the tilt angles' sign "
            "is turned before they are reconstructed"
        )
    if optics is None:
        found.append(
            "fewer than eight particles are clearly a named structure: nothing could be measured "
            "of the optics, and probabilities rest on few particles"
        )
    return found


def label_warnings(verdicts: Verdicts) -> list[str]:
    """What should be doubted of the labels as a whole."""
    found = [
        f"{rival} looks like {structure} here (correlation above what can be told apart) and does "
        "not compete with it"
        for rival, structure in verdicts.dropped
        if not rival.startswith("protein")
    ]
    n, labelled = len(verdicts.label), int((verdicts.label >= 0).sum())
    if n and labelled == 0:
        found.append("no particle is one of the named structures")
    counts = np.bincount(verdicts.label[verdicts.label >= 0], minlength=len(verdicts.wanted))
    if labelled >= 20 and counts.max() > 0.95 * n:
        found.append(f"nearly everything is labelled {verdicts.wanted[int(counts.argmax())]}")
    return found


def judged_summary(
    verdicts: Verdicts,
    acquisition: Acquisition | None,
    contrast: str,
    kept: NDArray[np.bool_],
    *,
    asked: float | None,
    n_duplicates: int = 0,
) -> dict[str, Any]:
    """What ``summary.json`` says of the labels, for tomograms and cubes alike."""
    counts = np.bincount(verdicts.label[kept], minlength=len(verdicts.wanted))
    stated = float(np.mean(1 - verdicts.score[kept])) if kept.any() else 0.0
    junk = kind_counts(verdicts)
    names = verdicts.component_names
    proportions = verdicts.mixture.proportions
    return {
        "method": "likelihood",
        "judge": {
            "temper": round(verdicts.temper, 3),
            "hypotheses": len(verdicts.hypotheses),
            "does_not_compete": [list(pair) for pair in verdicts.dropped],
        },
        "classes": dict(zip(verdicts.wanted, counts.tolist(), strict=True)),
        "estimated_proportions": {
            name: round(float(p), 4)
            for name, p in zip(names, proportions, strict=True)
            if p >= 0.005 or name in verdicts.wanted
        },
        "fdr": {
            "asked": asked,
            "expected": round(stated, 4),
            "above": above_rate(verdicts, kept, n_duplicates),
            "by_class": {
                name: round(float(np.mean(1 - verdicts.score[kept & (verdicts.label == i)])), 4)
                for i, name in enumerate(verdicts.wanted)
                if (kept & (verdicts.label == i)).any()
            },
        },
        "junk": {k: junk.get(k, 0) for k in (*JUNK_KINDS, "other", "unknown", NULL_CLASS)},
        "measured_acquisition": measured_acquisition(verdicts, acquisition, contrast),
    }


LABEL_COLUMNS = (
    "index", "label", "probability", "fdr", "unknown", "kind", "second",
    *ANGLES, "shift_x_A", "shift_y_A", "shift_z_A", "reason",
)  # fmt: skip


def write_labels_csv(
    path: Path,
    verdicts: Verdicts,
    voxel_size_A: float,
    keys: CubeKeys,
    reasons: Mapping[int, str],
) -> None:
    """One row a cube, in order: label, its probability, rate, kind, pose and what else it may be.

    ``reason`` says why it has the label, or, by ``reasons``, why it has none.

    Further columns: the probability of each structure and of none; ``cubes_digest``, which cubes
    these are, where it is known; ``file``, the last, the names of cubes that came from files of
    their own.
    """
    angles = relion_angles_deg(Rotation.from_matrix(verdicts.rotations.astype(np.float64)))
    second = second_names(verdicts)
    classes = (*verdicts.wanted, NULL_CLASS)
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([*LABEL_COLUMNS, *(f"p_{name}" for name in classes), *keys.columns])
        for i, label in enumerate(verdicts.label):
            name = verdicts.wanted[label] if label >= 0 else NULL_CLASS
            numbers = (verdicts.score[i], verdicts.fdr[i], verdicts.unknown[i])
            cells = [i, name, *(f"{v:.4f}" for v in numbers), verdicts.kind[i], second[i]]
            cells += [f"{a:.3f}" for a in angles[i]]
            cells += [f"{s * voxel_size_A:.3f}" for s in verdicts.shifts[i]]
            cells.append(reasons.get(i) or labelled_reason(verdicts, i))
            cells += [f"{p:.4f}" for p in verdicts.probabilities[i]]
            writer.writerow([*cells, *keys.of(i)])


def judged_content(
    verdicts: Verdicts,
    summary: dict[str, Any],
    kept: NDArray[np.bool_],
    *,
    acquisition: Acquisition | None,
    read: Any,
    title: str,
    recording: dict[str, str],
    configuration: dict[str, Any],
) -> JudgedContent:
    """The report of any set of verdicts.

    Parameters
    ----------
    verdicts, summary
        What to show.
    kept
        (n,) the labelled particles that were written as such.
    acquisition
        As stated.
    read
        From rows (m,) to their cubes (m, d, d, d).
    title, recording, configuration
        As in :class:`~tomadapt.report.judged_content.JudgedContent`.
    """
    by_class = {
        name: np.flatnonzero(kept & (verdicts.label == i)) for i, name in enumerate(verdicts.wanted)
    }
    ordered = {
        name: rows[np.argsort(-verdicts.score[rows], kind="stable")]
        for name, rows in by_class.items()
    }

    def examples(rows: NDArray[np.integer]) -> list[Example]:
        if not len(rows):
            return []
        cubes = np.asarray(read(rows))
        middle = cubes[:, cubes.shape[1] // 2]
        return [
            Example(np.asarray(image, dtype=np.float32), float(verdicts.score[row]))
            for image, row in zip(middle, rows.tolist(), strict=True)
        ]

    measured = summary["measured_acquisition"]
    none = np.flatnonzero(verdicts.label < 0)
    kinds = sorted(set(verdicts.kind[none].tolist()))
    rejected = kind_counts(verdicts)
    if summary["fdr"]["above"]:
        rejected["above the rate"] = summary["fdr"]["above"]
    b_factor = measured["b_factor_A2"]
    defocus = measured["defocus_um"]
    return JudgedContent(
        title=title,
        warnings=list(summary["warnings"]),
        counts={name: len(rows) for name, rows in by_class.items()},
        rejected=rejected,
        duplicates=summary.get("n_duplicates", 0),
        acquisition={
            "defocus": (
                recording.get("CTF", "none applies")
                if acquisition is None
                else f"{acquisition.defocus_um:g} µm",
                "not measured"
                if defocus is None
                else f"{defocus:g} µm ({measured['defocus_nats']:.0f} nats better than stated)",
            ),
            "B-factor beyond the stated": (
                "0 Å²",
                "not measured" if b_factor is None else f"{b_factor:g} Å²",
            ),
            "size of the particles": (
                "as in the structures",
                "not measured"
                if measured["scale"] is None
                else f"{measured['scale']:.2f} times that ({measured['scale_nats']:.0f} nats "
                "better than 1)",
            ),
            "SNR of the cubes, after the CTF": (
                "not stated",
                "not measured"
                if measured["snr"] is None
                else f"{measured['snr']:g} ({measured['snr_before_ctf']:g} before the CTF)",
            ),
            "hand": ("as in the structures", f"{measured['hand_nats']:+.0f} nats for it"),
            "contrast": (str(configuration.get("contrast", "")), str(measured["contrast"])),
        },
        recording=recording,
        assumed=dict(summary["assumed"]),
        scores={name: verdicts.score[rows] for name, rows in ordered.items()},
        fdr={name: verdicts.fdr[rows] for name, rows in ordered.items()},
        evidence={
            name: verdicts.evidence[rows, i] for i, (name, rows) in enumerate(ordered.items())
        },
        surest={name: examples(rows[:_EXAMPLES]) for name, rows in ordered.items()},
        least_sure={
            name: examples(rows[_EXAMPLES:][-_EXAMPLES:]) for name, rows in ordered.items()
        },
        junk={kind: examples(none[verdicts.kind[none] == kind][:_JUNK]) for kind in kinds},
        seconds=dict(summary["seconds"]),
        provenance={"versions": summary["versions"], "configuration": configuration},
    )
