"""What is said of labels by likelihood, of tomograms and cubes alike: summary, warnings, report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition
from tomadapt.classify.measured_acquisition import defocus_text, measured_acquisition
from tomadapt.classify.results import CLASS_NUMBER, FDR, NO_CLASS, SCORE, SECOND, UNKNOWN
from tomadapt.data.cube_keys import CubeKeys
from tomadapt.io.extracted import CLASS_NAME, KIND
from tomadapt.io.particle_lists.model import relion_angles_deg
from tomadapt.judge.verdicts import JUNK_KINDS, Verdicts
from tomadapt.report.judged_content import Example, JudgedContent
from tomadapt.runs.atomic import write_rows
from tomadapt.simulate.simulator import NULL_CLASS

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_EXAMPLES, _JUNK = 2, 6


SMALL_LEAD, FEWEST_LEADS = 0.5, 5
"""A class whose median lead is below this part of the expected one is warned of, from so many
particles on."""
MAX_JUNK_SHARE = 0.2
"""Of cubes. Of two sets that were cut out of a tomogram, a third to a half of them junk, one has a
stated rate that is two to three times too low; sets with a few unnamed proteins have right ones."""


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
        if label < 0:
            found[place] = _not_wanted_because(verdicts, place)
        elif place in duplicates:
            better = duplicates[place] + 1
            found[place] = f"duplicate: overlaps with the particle of subtomogram {better}"
        elif fdr is not None and verdicts.fdr[place] > fdr:
            found[place] = above_the_rate(verdicts.wanted[label], verdicts.fdr[place], fdr)
    return found


def above_the_rate(wanted: str, rate: float, asked: float) -> str:
    """Why a particle that is most probably a structure has no label."""
    return f"{wanted} at a false-discovery rate of {rate:.3f}, above {asked:g}"


def _not_wanted_because(verdicts: Verdicts, place: int) -> str:
    """The kind of a particle without a label, and what decided."""
    kind, best = str(verdicts.kind[place]), verdicts.best[place]
    wanted, nats = verdicts.wanted[best], verdicts.evidence[place, best]
    by_evidence = kind in ("gold", "unknown")
    find = verdicts.best_rival if by_evidence else verdicts.likeliest_other
    other, others = find(place)
    against = f"{wanted} has {nats:.0f} nats against noise, {other} {others:.0f}"
    if kind == "gold":
        why = f"voxels at its centre are far stronger than those of particles; {against}"
    elif kind == NULL_CLASS:
        why = f"noise, or nothing that noise does not explain; {against}"
    elif kind == "unknown":
        misfit = "its contrast, its residual or its lead over other structures does not fit"
        why = f"{wanted} explains it in part, or resembles it by chance: {misfit}; {against}"
    elif others > nats:
        why = f"{other} explains it better; {against}"
    else:
        why = (
            f"{other} is more probable than {wanted}, whose lead over other structures does not "
            f"fit, or which is less frequent here; {against}"
        )
    return f"{kind} (probability {verdicts.score[place]:.2f}): {why}"


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


def label_warnings(verdicts: Verdicts, kept: NDArray[np.bool_]) -> list[str]:
    """What should be doubted of the labels as a whole; (n,) particles are kept with theirs."""
    found = [
        f"{rival} looks like {structure} here (correlation above what can be told apart) and does "
        "not compete with it"
        for rival, structure in verdicts.dropped
        if not rival.startswith("protein")
    ]
    n, labelled = len(verdicts.label), int((verdicts.label >= 0).sum())
    if n and labelled == 0:
        found.append("no particle is one of the named structures")
    elif n and not kept.any():
        found.append(
            f"none of {labelled} labels is sure enough for the false-discovery rate asked for"
        )
    counts = np.bincount(verdicts.label[verdicts.label >= 0], minlength=len(verdicts.wanted))
    if labelled >= 20 and counts.max() > 0.95 * n:
        found.append(f"nearly everything is labelled {verdicts.wanted[int(counts.argmax())]}")
    for i, (name, expected) in enumerate(
        zip(verdicts.wanted, verdicts.expected_leads, strict=True)
    ):
        leads = verdicts.lead[kept & (verdicts.label == i)]
        if len(leads) >= FEWEST_LEADS and np.median(leads) < SMALL_LEAD * expected:
            found.append(
                f"{len(leads)} particles are labelled {name}, which leads the next best "
                f"explanation by {100 * np.median(leads):.0f} % of its evidence, where its own "
                f"particles would have {100 * expected:.0f} %: they may be a relative of {name} "
                "or a protein that was not named. Look at them, or average them"
            )
    return found


def _rounded_median(values: NDArray[np.float64]) -> float | None:
    return round(float(np.median(values)), 3) if len(values) else None


def cubes_warnings(verdicts: Verdicts) -> list[str]:
    """What should be doubted of the rates of cubes, whose noise was measured in them."""
    of_other_things = (verdicts.label < 0) & (verdicts.kind != NULL_CLASS)
    count, n = int(of_other_things.sum()), len(verdicts.label)
    if count <= MAX_JUNK_SHARE * n or not (verdicts.label >= 0).any():
        return []
    return [
        f"{count} of {n} cubes hold contaminants or what nobody named, and noise can only be "
        "measured in the cubes themselves: in a faint set of this kind false-discovery rates were "
        "stated two to three times too low. Where you have the tomogram, label it, with these "
        "places as --particles"
    ]


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
            "lead": {
                name: {
                    "expected": round(float(verdicts.expected_leads[i]), 3),
                    "measured": _rounded_median(verdicts.lead[kept & (verdicts.label == i)]),
                }
                for i, name in enumerate(verdicts.wanted)
            },
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

    def cells(i: int) -> list[Any]:
        label = verdicts.label[i]
        name = verdicts.wanted[label] if label >= 0 else NULL_CLASS
        numbers = (verdicts.score[i], verdicts.fdr[i], verdicts.unknown[i])
        return [
            *(i, name, *(f"{v:.4f}" for v in numbers), verdicts.kind[i], second[i]),
            *(f"{a:.3f}" for a in angles[i]),
            *(f"{s * voxel_size_A:.3f}" for s in verdicts.shifts[i]),
            reasons.get(i) or labelled_reason(verdicts, i),
            *(f"{p:.4f}" for p in verdicts.probabilities[i]),
            *keys.of(i),
        ]

    columns = (*LABEL_COLUMNS, *(f"p_{name}" for name in classes), *keys.columns)
    write_rows(path, columns, map(cells, range(len(verdicts.label))))


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
    duplicates = summary.get("n_duplicates", 0)
    without_cube = summary.get("n_rejected", 0) - sum(rejected.values()) - duplicates
    if without_cube > 0:
        rejected["no cube"] = without_cube
    b_factor = measured["b_factor_A2"]
    return JudgedContent(
        title=title,
        warnings=list(summary["warnings"]),
        counts={name: len(rows) for name, rows in by_class.items()},
        rejected=rejected,
        duplicates=duplicates,
        acquisition={
            "defocus": (
                recording.get("CTF", "none applies")
                if acquisition is None
                else f"{acquisition.defocus_um:g} µm",
                defocus_text(measured),
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
        leads={
            name: (lead["expected"], lead["measured"])
            for name, lead in summary["judge"]["lead"].items()
        },
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
