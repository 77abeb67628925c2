"""What a classification by likelihood leaves: labelled and rejected particles, summary, report."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition
from tomadapt.classify.judged import JudgedTomogram
from tomadapt.io.atomic import atomic_path, write_json
from tomadapt.io.extracted import CLASS_NAME, SUBTOMOGRAM
from tomadapt.io.label_zarr import write_label_zarr
from tomadapt.io.particle_lists import ParticleList, write_copick, write_csv, write_star
from tomadapt.io.particle_lists.model import relion_angles_deg
from tomadapt.judge.judge import JUNK_KINDS, Verdicts
from tomadapt.report.judged_content import Example, JudgedContent, Marker, Slice
from tomadapt.report.judged_page import write_judged_report
from tomadapt.simulate.dataset import versions
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.tomograms.positions import REASON, write_rejected

CLASS_NUMBER, SCORE = "rlnClassNumber", "tomadaptScore"
FDR, UNKNOWN, SECOND, KIND = "tomadaptFDR", "tomadaptUnknown", "tomadaptSecond", "tomadaptKind"
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
REFINED = ("tomadaptRefinedXAngst", "tomadaptRefinedYAngst", "tomadaptRefinedZAngst")
NO_CLASS = "none"
WRONG_DEFOCUS_NATS = WRONG_HAND_NATS = 30.0
WRONG_DEFOCUS_UM = 0.75
"""A measured defocus contradicts the stated one from this difference and evidence on."""
_EXAMPLES, _JUNK, _SLICES = 2, 6, 3


def kind_counts(verdicts: Verdicts) -> dict[str, int]:
    """Kind → how many particles are no wanted structure."""
    none = verdicts.kind[verdicts.label < 0]
    return {str(kind): int(count) for kind, count in sorted(Counter(none.tolist()).items())}


def second_names(verdicts: Verdicts) -> list[str]:
    """(n,) name of the second most probable hypothesis of each particle."""
    names = [h.name for h in verdicts.hypotheses if h.kind != "mirror"] + [NULL_CLASS]
    return [names[i] for i in verdicts.second]


def hand_nats(verdicts: Verdicts) -> float:
    """Evidence of the structures' hand over that of their mirror images, summed over particles."""
    n = len(verdicts.wanted)
    rows = np.flatnonzero(verdicts.label >= 0)
    own = verdicts.evidence[rows, verdicts.label[rows]]
    mirror = verdicts.evidence[rows, n + verdicts.label[rows]]
    gaps = (own - mirror)[np.isfinite(mirror)]
    return verdicts.hand * float(gaps.sum())


def measured_acquisition(
    verdicts: Verdicts, acquisition: Acquisition | None, contrast: str
) -> dict[str, Any]:
    """What the particles say of the acquisition, beside what was stated."""
    optics = verdicts.optics
    return {
        "stated_defocus_um": None if acquisition is None else acquisition.defocus_um,
        "defocus_um": None if optics is None else optics.defocus_um,
        "defocus_nats": 0.0 if optics is None else round(optics.defocus_nats, 1),
        "b_factor_A2": None if optics is None else optics.b_factor_A2,
        "particles": 0 if optics is None else optics.particles,
        "hand_nats": round(hand_nats(verdicts), 1),
        "contrast": contrast,
    }


def acquisition_warnings(verdicts: Verdicts, acquisition: Acquisition | None) -> list[str]:
    """Where the particles contradict what was stated, with the evidence."""
    found = []
    optics = verdicts.optics
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


def write_judged(
    result: JudgedTomogram, out: Path, *, seconds: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Write ``particles.star``, ``rejected.star``, ``report.html`` and ``summary.json``.

    Parameters
    ----------
    result
        What to write.
    out
        The folder.
    seconds
        Stage → its record, of the run's clock.

    Returns
    -------
    dict
        The content of ``summary.json``.
    """
    verdicts, positions = result.verdicts, result.positions
    reasons = _reasons(result)
    columns = _columns(result)
    for place, row in enumerate(positions.rows):
        columns[REASON][row] = reasons.get(place, _labelled_reason(verdicts, place))
    labelled = positions.without(reasons)
    particles = _where_found(result)
    write_star(out / "particles.star", particles, columns=columns, rows=labelled.rows.tolist())
    shared = {name: values for name, values in columns.items() if name not in (REASON, SUBTOMOGRAM)}
    write_rejected(out / "rejected.star", replace(labelled, particles=particles), shared)
    _write_also(result, particles, labelled.rows.tolist(), columns, out)
    warnings = [t for t in (result.contrast.warning, result.wedge_warning) if t]
    acquisition = result.options.source.acquisition
    warnings += acquisition_warnings(verdicts, acquisition) + label_warnings(verdicts)
    warnings += positions.notes
    kept = np.array([place not in reasons for place in range(len(verdicts.label))], dtype=bool)
    summary = {
        "tomogram": str(result.options.tomogram),
        "voxel_size_A": result.tomogram.voxel_size_A,
        "box": result.geometry.box,
        "cube_voxel_size_A": result.geometry.voxel_size_A,
        "n_particles": len(particles),
        "n_labelled": len(labelled.rows),
        "n_rejected": len(labelled.rejected),
        "n_duplicates": len(result.duplicates),
        **judged_summary(verdicts, acquisition, result.contrast.text, kept),
        "wedge": {
            "first_deg": result.wedge.first_deg,
            "last_deg": result.wedge.last_deg,
            "axis": result.wedge.axis,
            "clarity": round(result.wedge.clarity, 3),
        },
        "contrast": {"sign": result.contrast.sign, "text": result.contrast.text},
        "warnings": warnings,
        "seconds": {name: record["seconds"] for name, record in seconds.items()},
        "peak_memory_mb": max((r["peak_memory_mb"] for r in seconds.values()), default=0.0),
        "versions": versions(),
    }
    write_judged_report(_content(result, summary, kept), out / "report.html")
    write_json(out / "summary.json", summary)
    return summary


def judged_summary(
    verdicts: Verdicts,
    acquisition: Acquisition | None,
    contrast: str,
    kept: NDArray[np.bool_],
) -> dict[str, Any]:
    """What ``summary.json`` says of the labels, for tomograms and cubes alike."""
    counts = np.bincount(verdicts.label[kept], minlength=len(verdicts.wanted))
    stated = float(np.mean(1 - verdicts.score[kept])) if kept.any() else 0.0
    junk = kind_counts(verdicts)
    names = [h.name for h in verdicts.hypotheses if h.kind != "mirror"] + [NULL_CLASS]
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
            "expected": round(stated, 4),
            "by_class": {
                name: round(float(np.mean(1 - verdicts.score[kept & (verdicts.label == i)])), 4)
                for i, name in enumerate(verdicts.wanted)
                if (kept & (verdicts.label == i)).any()
            },
        },
        "junk": {k: junk.get(k, 0) for k in (*JUNK_KINDS, "other", "unknown", NULL_CLASS)},
        "measured_acquisition": measured_acquisition(verdicts, acquisition, contrast),
    }


def _where_found(result: JudgedTomogram) -> ParticleList:
    """The particles; picks that have a label where the alignment found them."""
    particles = result.positions.particles
    if result.options.particles is not None:
        return particles
    coordinates = particles.coordinates_A.copy()
    labelled = result.verdicts.label >= 0
    coordinates[result.positions.rows[labelled]] = result.refined_A[labelled]
    return replace(particles, coordinates_A=coordinates)


def _reasons(result: JudgedTomogram) -> dict[int, str]:
    """Place → why a particle is not among the labelled ones."""
    verdicts, fdr = result.verdicts, result.options.fdr
    rows = result.positions.rows
    found: dict[int, str] = {}
    for place, label in enumerate(verdicts.label):
        score = verdicts.score[place]
        if label < 0:
            found[place] = f"{verdicts.kind[place]}: no wanted structure (probability {score:.2f})"
        elif place in result.duplicates:
            better = int(rows[result.duplicates[place]]) + 1
            found[place] = f"duplicate: overlaps with the particle of row {better}"
        elif fdr is not None and verdicts.fdr[place] > fdr:
            found[place] = (
                f"{verdicts.wanted[label]} at a false-discovery rate of {verdicts.fdr[place]:.3f}, "
                f"above {fdr:g}"
            )
    return found


def _labelled_reason(verdicts: Verdicts, place: int) -> str:
    gain = verdicts.evidence[place, verdicts.label[place]]
    return f"named by likelihood, {gain:.0f} nats against noise"


def _columns(result: JudgedTomogram) -> dict[str, list[Any]]:
    """A value of each column for each particle of the list."""
    verdicts, positions = result.verdicts, result.positions
    particles = positions.particles
    n = len(particles)
    columns: dict[str, list[Any]] = {
        CLASS_NUMBER: [0] * n,
        CLASS_NAME: [NO_CLASS] * n,
        SCORE: [0.0] * n,
        FDR: [1.0] * n,
        UNKNOWN: [0.0] * n,
        SECOND: [NO_CLASS] * n,
        KIND: [NO_CLASS] * n,
        REASON: [""] * n,
        SUBTOMOGRAM: [0] * n,
    }
    columns |= pose_columns(result)
    second = second_names(verdicts)
    for place, row in enumerate(positions.rows):
        label = int(verdicts.label[place])
        columns[CLASS_NUMBER][row] = label + 1
        columns[CLASS_NAME][row] = verdicts.wanted[label] if label >= 0 else NULL_CLASS
        columns[SCORE][row] = round(float(verdicts.score[place]), 4)
        columns[FDR][row] = round(float(verdicts.fdr[place]), 4)
        columns[UNKNOWN][row] = round(float(verdicts.unknown[place]), 4)
        columns[SECOND][row] = second[place]
        columns[KIND][row] = str(verdicts.kind[place])
        columns[SUBTOMOGRAM][row] = place + 1
    return columns


def pose_columns(result: JudgedTomogram) -> dict[str, list[Any]]:
    """RELION's angles of every particle, and where a list's particles were found to lie.

    Picks have their refined coordinates already. Of a list from a file the coordinates stay as they
    are; what the alignment found is in columns of its own, in Å from the first voxel's centre.
    """
    verdicts, positions = result.verdicts, result.positions
    n = len(positions.particles)
    angles = np.zeros((n, 3))
    turned = Rotation.from_matrix(verdicts.rotations.astype(np.float64))
    angles[positions.rows] = relion_angles_deg(turned)
    columns: dict[str, list[Any]] = {
        name: np.round(angles[:, i], 3).tolist() for i, name in enumerate(ANGLES)
    }
    if result.options.particles is not None:
        refined = positions.particles.coordinates_A.copy()
        refined[positions.rows] = result.refined_A
        columns |= {name: np.round(refined[:, i], 2).tolist() for i, name in enumerate(REFINED)}
    return columns


def _write_also(
    result: JudgedTomogram,
    particles: ParticleList,
    rows: list[int],
    columns: dict[str, list[Any]],
    out: Path,
) -> None:
    """The labelled particles in the other formats that were asked for."""
    also = result.options.also
    names = [str(name) for name in columns[CLASS_NAME]]
    size_A = result.tomogram.voxel_size_A
    if "csv" in also:
        write_csv(out / "particles.csv", particles, columns=columns, rows=rows)
    if "copick" in also:
        scores = np.array(columns[SCORE], dtype=np.float64).tolist()
        write_copick(
            out / "copick", particles, names, scores=scores, rows=rows, voxel_size_A=size_A
        )
    if "ome-zarr" in also:
        classes = (*result.verdicts.wanted, NULL_CLASS)
        radii_A = result.geometry.radii_A
        # A run that goes on has written it before.
        shutil.rmtree(out / "particles.zarr", ignore_errors=True)
        write_label_zarr(
            out / "particles.zarr",
            result.tomogram.shape,
            size_A,
            particles.coordinates_A[rows],
            np.array([classes.index(names[row]) for row in rows]),
            np.array([radii_A[names[row]] for row in rows]),
            classes,
        )


LABEL_COLUMNS = (
    "index", "label", "probability", "fdr", "unknown", "kind", "second",
    *ANGLES, "shift_x_A", "shift_y_A", "shift_z_A",
)  # fmt: skip


def write_labels_csv(
    path: Path, verdicts: Verdicts, voxel_size_A: float, names: tuple[str, ...] = ()
) -> None:
    """One row a cube, in order: label, its probability, rate, kind, pose and what else it may be.

    Further columns hold the probability of each structure and of none; a last column ``file`` the
    names of cubes that came from files of their own.
    """
    angles = relion_angles_deg(Rotation.from_matrix(verdicts.rotations.astype(np.float64)))
    second = second_names(verdicts)
    classes = (*verdicts.wanted, NULL_CLASS)
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        last = ["file"] if names else []
        writer.writerow([*LABEL_COLUMNS, *(f"p_{name}" for name in classes), *last])
        for i, label in enumerate(verdicts.label):
            name = verdicts.wanted[label] if label >= 0 else NULL_CLASS
            numbers = (verdicts.score[i], verdicts.fdr[i], verdicts.unknown[i])
            cells = [i, name, *(f"{v:.4f}" for v in numbers), verdicts.kind[i], second[i]]
            cells += [f"{a:.3f}" for a in angles[i]]
            cells += [f"{s * voxel_size_A:.3f}" for s in verdicts.shifts[i]]
            cells += [f"{p:.4f}" for p in verdicts.probabilities[i]]
            writer.writerow([*cells, *names[i : i + 1]])


def _content(
    result: JudgedTomogram, summary: dict[str, Any], kept: NDArray[np.bool_]
) -> JudgedContent:
    stated = result.options.source.acquisition.tilt_angles_deg
    wedge = result.wedge
    tilts = "unclear in the spectrum"
    if wedge.first_deg is not None and wedge.last_deg is not None:
        tilts = f"{wedge.first_deg:+.0f}° … {wedge.last_deg:+.0f}° about {wedge.axis}"
    shape = " × ".join(map(str, result.tomogram.shape[::-1]))
    recording = {
        "file": str(result.options.tomogram),
        "voxels": f"{shape} (x, y, z) of {result.tomogram.voxel_size_A:g} Å",
        "contrast": result.contrast.text,
        "particles": f"{summary['n_particles']} "
        + (f"picked of {result.n_maxima} maxima" if result.n_maxima else "listed")
        + f", {summary['n_labelled']} labelled, "
        + f"{summary['n_rejected']} rejected with a reason each",
        "cubes": f"{result.geometry.box}³ voxels of {result.geometry.voxel_size_A:g} Å",
    }
    content = judged_content(
        result.verdicts,
        summary,
        kept,
        acquisition=result.options.source.acquisition,
        read=lambda rows: result.volumes[rows],
        title=f"tomadapt: {result.tomogram.name}",
        recording=recording,
        configuration=result.options.model_dump(mode="json"),
    )
    content.acquisition["tilts"] = (f"{stated[0]:+.0f}° … {stated[-1]:+.0f}°", tilts)
    content.slices.extend(_slices(result, kept))
    return content


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
    b_factor = measured["b_factor_A2"]
    defocus = measured["defocus_um"]
    return JudgedContent(
        title=title,
        warnings=list(summary["warnings"]),
        counts={name: len(rows) for name, rows in by_class.items()},
        rejected=kind_counts(verdicts),
        duplicates=summary.get("n_duplicates", 0),
        acquisition={
            "defocus": (
                "none applies" if acquisition is None else f"{acquisition.defocus_um:g} µm",
                "not measured"
                if defocus is None
                else f"{defocus:g} µm ({measured['defocus_nats']:.0f} nats better than stated)",
            ),
            "B-factor beyond the stated": (
                "0 Å²",
                "not measured" if b_factor is None else f"{b_factor:g} Å²",
            ),
            "hand": ("as in the structures", f"{measured['hand_nats']:+.0f} nats for it"),
            "contrast": (str(configuration.get("contrast", "")), str(measured["contrast"])),
        },
        recording=recording,
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


def _slices(result: JudgedTomogram, kept: NDArray[np.bool_]) -> list[Slice]:
    """Slices through the tomogram where most labelled particles are."""
    nz, ny, nx = result.tomogram.shape
    size = result.tomogram.voxel_size_A
    places = result.refined_A[kept] / size
    labels = result.verdicts.label[kept]
    radii = np.array([result.geometry.radii_A[n] for n in result.verdicts.wanted]) / size
    found = []
    for fraction in np.linspace(0.3, 0.7, _SLICES):
        z = round(fraction * (nz - 1))
        slab = result.tomogram.block((max(z - 1, 0), 0, 0), (min(z + 2, nz), ny, nx))
        image = slab.mean(axis=0)
        cut = np.flatnonzero(np.abs(places[:, 2] - z) <= radii[labels] / 2)
        markers = tuple(
            Marker(float(places[i, 0]), float(places[i, 1]), result.verdicts.wanted[labels[i]])
            for i in cut
        )
        found.append(Slice(z, image, markers))
    return found
