"""What a classification by likelihood leaves: labelled and rejected particles, summary, report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.classify.assumed import tomogram_assumptions
from tomadapt.classify.judged import JudgedTomogram
from tomadapt.classify.judged_summary import (
    ANGLES,
    judged_content,
    judged_summary,
    label_columns,
    label_warnings,
    labelled_reason,
    rejection_reasons,
)
from tomadapt.classify.measured_acquisition import acquisition_warnings
from tomadapt.classify.results import (
    write_also,
)
from tomadapt.io.extracted import SUBTOMOGRAM
from tomadapt.io.particle_lists import ParticleList, write_star
from tomadapt.io.particle_lists.model import relion_angles_deg
from tomadapt.io.particle_lists.relion import box_rotations
from tomadapt.report.judged_content import JudgedContent, Marker, Slice
from tomadapt.report.judged_page import write_judged_report
from tomadapt.runs.atomic import write_json
from tomadapt.runs.versions import versions
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.tomograms.positions import REASON, write_rejected

REFINED = ("tomadaptRefinedXAngst", "tomadaptRefinedYAngst", "tomadaptRefinedZAngst")
_SLICES = 3
FEW_PARTICLES = 50


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
    reasons = rejection_reasons(verdicts, result.options.fdr, result.duplicates)
    columns = _columns(result)
    for place, row in enumerate(positions.rows):
        named = reasons.get(place)
        columns[REASON][row] = labelled_reason(verdicts, place) if named is None else named
    labelled = positions.without(reasons)
    particles = _where_found(result)
    write_star(
        out / "particles.star",
        particles,
        columns=columns,
        rows=labelled.rows.tolist(),
        cubes=labelled.cubes,
    )
    shared = {name: values for name, values in columns.items() if name != REASON}
    write_rejected(out / "rejected.star", replace(labelled, particles=particles), shared)
    write_also(
        out,
        particles,
        labelled.rows.tolist(),
        columns,
        options=result.options,
        tomogram=result.tomogram,
        radii_A=result.geometry.radii_A,
        classes=(*verdicts.wanted, NULL_CLASS),
    )
    warnings = [t for t in (*result.told, result.contrast.warning, result.wedge_warning) if t]
    acquisition = result.options.source.acquisition
    voxel_size_A = result.tomogram.voxel_size_A
    warnings += acquisition_warnings(verdicts, acquisition, voxel_size_A)
    kept = np.array([place not in reasons for place in range(len(verdicts.label))], dtype=bool)
    warnings += label_warnings(verdicts, kept)
    warnings += positions.notes
    if result.options.particles is not None and len(positions.rows) < FEW_PARTICLES:
        warnings.append(
            f"{len(positions.rows)} particles teach little of what their classes look like: "
            "relatives of a named structure are turned away less often, and probabilities are less "
            "sure, than in a whole list"
        )
    summary = {
        "tomogram": str(result.options.tomogram),
        "voxel_size_A": result.tomogram.voxel_size_A,
        "box": result.geometry.box,
        "cube_voxel_size_A": result.geometry.voxel_size_A,
        "n_particles": len(particles),
        "n_labelled": len(labelled.rows),
        "n_rejected": len(labelled.rejected),
        "n_duplicates": len(result.duplicates),
        **judged_summary(
            verdicts,
            acquisition,
            result.contrast.text,
            kept,
            asked=result.options.fdr,
            n_duplicates=len(result.duplicates),
        ),
        "wedge": result.wedge.record,
        "contrast": {"sign": result.contrast.sign, "text": result.contrast.text},
        "assumed": tomogram_assumptions(
            result.options,
            result.tomogram,
            result.contrast,
            result.wedge,
            positions,
            result.told,
        ),
        "warnings": warnings,
        "seconds": {name: record["seconds"] for name, record in seconds.items()},
        "peak_memory_mb": max((r["peak_memory_mb"] for r in seconds.values()), default=0.0),
        "versions": versions(),
    }
    write_judged_report(_content(result, summary, kept), out / "report.html")
    write_json(out / "summary.json", summary)
    return summary


def _where_found(result: JudgedTomogram) -> ParticleList:
    """The particles; picks that have a label where the alignment found them."""
    particles = result.positions.particles
    if result.options.particles is not None:
        return particles
    coordinates = particles.coordinates_A.copy()
    labelled = result.verdicts.label >= 0
    coordinates[result.positions.rows[labelled]] = result.refined_A[labelled]
    return replace(particles, coordinates_A=coordinates)


def _columns(result: JudgedTomogram) -> dict[str, list[Any]]:
    """A value of each column for each particle of the list."""
    positions = result.positions
    n = len(positions.particles)
    columns: dict[str, list[Any]] = {
        **label_columns(result.verdicts, positions.rows, n),
        REASON: [""] * n,
        SUBTOMOGRAM: [0] * n,
        **pose_columns(result),
    }
    for place, row in enumerate(positions.rows):
        columns[SUBTOMOGRAM][row] = place + 1
    return columns


def pose_columns(result: JudgedTomogram) -> dict[str, list[Any]]:
    """RELION's angles of labelled particles, and where a list's particles were found to lie.

    Picks have their refined coordinates already. Of a list from a file the coordinates stay as they
    are; what the alignment found is in columns of its own, in Å from the first voxel's centre.
    """
    verdicts, positions = result.verdicts, result.positions
    turned = Rotation.from_matrix(verdicts.rotations.astype(np.float64))
    boxes = box_rotations(positions.particles)
    if boxes is not None:  # RELION turns the pose in the box by that of the box
        turned = boxes[positions.rows].inv() * turned
    angles = np.round(relion_angles_deg(turned), 3)
    columns = _angles_before(positions.particles)
    for place in np.flatnonzero(verdicts.label >= 0).tolist():
        for i, name in enumerate(ANGLES):
            columns[name][positions.rows[place]] = float(angles[place, i])
    if result.options.particles is not None:
        refined = positions.particles.coordinates_A.copy()
        refined[positions.rows] = result.refined_A
        columns |= {name: np.round(refined[:, i], 2).tolist() for i, name in enumerate(REFINED)}
    return columns


def _angles_before(particles: ParticleList) -> dict[str, list[Any]]:
    """The angles that a list has, to the letter where it is a STAR file; 0 where it has none."""
    table, known = particles.table, particles.rotations
    if table is not None and all(name in table for name in ANGLES):
        return {name: list(table.column(name)) for name in ANGLES}
    alone = known is not None and box_rotations(particles) is None
    angles = relion_angles_deg(known) if alone else np.zeros((len(particles), 3))
    return {name: np.round(angles[:, i], 3).tolist() for i, name in enumerate(ANGLES)}


def _content(
    result: JudgedTomogram, summary: dict[str, Any], kept: NDArray[np.bool_]
) -> JudgedContent:
    stated = result.options.source.acquisition.tilt_angles_deg
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
    content.acquisition["tilts"] = (
        f"{stated[0]:+.0f}° … {stated[-1]:+.0f}°",
        result.wedge.text,
    )
    content.slices.extend(_slices(result, kept))
    return content


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
