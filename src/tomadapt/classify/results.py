"""What a classification leaves for its user: labelled and rejected particles, summary, report."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.classify.assumed import tomogram_assumptions
from tomadapt.classify.matched_source import Geometry, MatchedSource
from tomadapt.classify.options import ClassifyOptions
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.data.tomogram import Tomogram
from tomadapt.io.extracted import CLASS_NAME, SUBTOMOGRAM
from tomadapt.io.label_zarr import write_label_zarr
from tomadapt.io.particle_lists import ParticleList, write_copick, write_csv, write_star
from tomadapt.learn.model import Model
from tomadapt.learn.prediction import Prediction
from tomadapt.report.collect import EXAMPLES, report_content
from tomadapt.report.content import Domain, Evaluation
from tomadapt.report.page import write_report
from tomadapt.report.style import method_title
from tomadapt.runs.atomic import write_json
from tomadapt.runs.versions import versions
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.tomograms.contrast import Sign
from tomadapt.tomograms.positions import REASON, Positions, write_rejected
from tomadapt.tomograms.wedge import WedgeEstimate

CLASS_NUMBER, SCORE = "rlnClassNumber", "tomadaptScore"
NO_CLASS = "none"
FDR, UNKNOWN, SECOND = "tomadaptFDR", "tomadaptUnknown", "tomadaptSecond"
WORTH_NAMING = 0.1
"""The second class is named in a particle's reason from this probability on."""
LEAST_PREFERENCE = 0.02
"""The source model prefers the inverted density when it is surer of it by this much."""


@dataclass(frozen=True, eq=False)
class Findings:
    """All that was found out about a tomogram.

    Attributes
    ----------
    options, tomogram, geometry, source, adapted, target
        What was worked with.
    contrast
        How the sign of the density was found.
    preference
        By how much the source model is surer of the particles than of them inverted.
    wedge, wedge_warning
        The tilts that the spectrum shows, and where they differ from the stated ones.
    positions
        Of the particles that have a cube, in its order.
    proportions
        (classes,) as estimated after adaptation; what ``ada`` predicts is corrected for them.
    predictions
        Method → what it predicts of them.
    told
        What was warned of when files were opened and cubes cut out.
    """

    options: ClassifyOptions
    tomogram: Tomogram
    geometry: Geometry
    contrast: Sign
    preference: float
    wedge: WedgeEstimate
    wedge_warning: str | None
    positions: Positions
    proportions: NDArray[np.float64]
    predictions: dict[str, Prediction]
    source: MatchedSource
    adapted: Model
    target: Subtomograms
    told: tuple[str, ...] = ()

    @property
    def prediction(self) -> Prediction:
        """That of the method that was asked for."""
        return self.predictions[self.options.method]

    @property
    def chosen(self) -> str:
        """The method whose model labels: with ``ada`` the one that the guard chose."""
        return self.guard["chosen"] if self.options.method == "ada" else self.options.method

    @property
    def guard(self) -> dict[str, Any]:
        """What :mod:`tomadapt.learn.guard` recorded."""
        record: dict[str, Any] = self.adapted.card.training["guard"]
        return record

    @property
    def warnings(self) -> list[str]:
        """Everything that the user should doubt."""
        found = [*self.told, self.contrast.warning, self.wedge_warning]
        found.append(self.adapted.card.training.get("adaptation_warning"))
        if self.preference < -LEAST_PREFERENCE:
            found.append(
                "the source model is surer of the particles with their density inverted "
                f"(by {-self.preference:.2f} of mean probability): check the contrast"
            )
        return [text for text in found if text] + list(self.positions.notes)


def write_results(
    findings: Findings, out: Path, *, seconds: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Write ``particles.star``, ``rejected.star``, ``report.html`` and ``summary.json``.

    Parameters
    ----------
    findings
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
    prediction = findings.prediction
    names = [prediction.class_names[label] for label in prediction.labels]
    score = prediction.confidence
    empty = {
        place: f"{NULL_CLASS}: no macromolecule (score {score[place]:.2f})"
        for place, name in enumerate(names)
        if name == NULL_CLASS
    }
    labelled = findings.positions.without(empty)
    particles = findings.positions.particles
    columns: dict[str, list[object]] = {
        # What has no cube has no class, whatever an earlier run wrote there.
        CLASS_NUMBER: [0] * len(particles),
        CLASS_NAME: [NO_CLASS] * len(particles),
        SCORE: [0.0] * len(particles),
        REASON: [""] * len(particles),
        SUBTOMOGRAM: [0] * len(particles),
    }
    for place, row in enumerate(findings.positions.rows):
        columns[CLASS_NUMBER][row] = int(prediction.labels[place]) + 1
        columns[CLASS_NAME][row] = names[place]
        columns[SCORE][row] = round(float(score[place]), 4)
        columns[SUBTOMOGRAM][row] = place + 1
        columns[REASON][row] = _reason(prediction, place, findings.chosen)
    write_star(
        out / "particles.star",
        particles,
        columns=columns,
        rows=labelled.rows.tolist(),
        cubes=labelled.cubes,
    )
    shared = {name: columns[name] for name in (CLASS_NUMBER, CLASS_NAME, SCORE, SUBTOMOGRAM)}
    write_rejected(out / "rejected.star", labelled, shared)
    write_also(
        out,
        particles,
        labelled.rows.tolist(),
        columns,
        options=findings.options,
        tomogram=findings.tomogram,
        radii_A=findings.geometry.radii_A,
        classes=findings.adapted.card.class_names,
    )
    summary = _summary(findings, labelled, seconds)
    content = report_content(
        findings.source.model,
        findings.adapted,
        source=findings.source.data,
        target=findings.target,
        evaluations=(Evaluation(findings.predictions, None), None),
        title=f"tomadapt: {findings.tomogram.name}",
        provenance={
            "seconds": summary["seconds"],
            "configuration": findings.options.model_dump(mode="json"),
        },
    )
    further = [text for text in findings.warnings if text != content.warning]
    examples = _examples(content.target, findings.target, prediction)
    content = replace(content, target=examples)
    content = replace(
        content,
        recording=_recording(findings, labelled),
        assumed=summary["assumed"],
        further_warnings=further,
    )
    write_report(content, out / "report.html")
    write_json(out / "summary.json", summary)
    return summary


def _examples(domain: Domain, data: Subtomograms, prediction: Prediction) -> Domain:
    """Slices of the particles that the model is surest of, by the class it names."""
    examples = {}
    for label, name in enumerate(prediction.class_names):
        rows = np.flatnonzero(prediction.labels == label)
        surest = rows[np.argsort(-prediction.confidence[rows], kind="stable")][:EXAMPLES]
        if len(surest):
            examples[name] = data.read(surest)[:, data.box // 2].numpy()
    return replace(domain, examples=examples, named_by_model=True)


def write_also(
    out: Path,
    particles: ParticleList,
    rows: list[int],
    columns: Mapping[str, Sequence[object]],
    *,
    options: ClassifyOptions,
    tomogram: Tomogram,
    radii_A: Mapping[str, float],
    classes: Sequence[str],
) -> None:
    """Write labelled particles in the other formats that were asked for.

    Parameters
    ----------
    out
        The folder.
    particles, rows, columns
        The list, which of its rows have a label, and a value of each column for each of its rows.
    options
        Which formats.
    tomogram
        The particles' own.
    radii_A
        Class → radius in Å.
    classes
        In the order of their numbers in an OME-Zarr label volume.
    """
    # Labels may have changed since an earlier run in this folder.
    (out / "particles.csv").unlink(missing_ok=True)
    for name in ("copick", "particles.zarr"):
        shutil.rmtree(out / name, ignore_errors=True)
    names = [str(name) for name in columns[CLASS_NAME]]
    if "csv" in options.also:
        write_csv(out / "particles.csv", particles, columns=columns, rows=rows)
    if "copick" in options.also:
        scores = np.array(columns[SCORE], dtype=np.float64).tolist()
        size_A = tomogram.voxel_size_A
        write_copick(
            out / "copick", particles, names, scores=scores, rows=rows, voxel_size_A=size_A
        )
    if "ome-zarr" in options.also:
        write_label_zarr(
            out / "particles.zarr",
            tomogram.shape,
            tomogram.voxel_size_A,
            particles.coordinates_A[rows],
            np.array([classes.index(names[row]) for row in rows]),
            np.array([radii_A[names[row]] for row in rows]),
            classes,
        )


def _reason(prediction: Prediction, place: int, chosen: str) -> str:
    """Why a particle has its label: by which model, and what else it might be."""
    probabilities = prediction.probabilities[place]
    _, second = np.argsort(-probabilities, kind="stable")[:2]
    text = f"named by {method_title(chosen)}"
    if probabilities[second] >= WORTH_NAMING:
        text += f"; {prediction.class_names[second]} has {probabilities[second]:.2f}"
    return text


def _recording(findings: Findings, labelled: Positions) -> dict[str, str]:
    """Rows of the report's section on the tomogram."""
    stated = findings.options.source.acquisition.tilt_angles_deg
    shape = " × ".join(map(str, findings.tomogram.shape[::-1]))
    choice = findings.guard
    against = "; ".join(t for texts in choice["objections"].values() for t in texts)
    return {
        "file": str(findings.options.tomogram),
        "voxels": f"{shape} (x, y, z) of {findings.tomogram.voxel_size_A:g} Å",
        "contrast": findings.contrast.text,
        "contrast, as the source model sees it": (
            f"mean probability {findings.preference:+.3f} higher than with inverted density"
        ),
        "tilts": f"stated {stated[0]:+.0f}° … {stated[-1]:+.0f}°; measured: {findings.wedge.text}",
        "particles": f"{len(findings.positions.particles)} "
        + ("picked" if findings.options.particles is None else "listed")
        + f", {len(labelled.rows)} labelled, {len(labelled.rejected)} rejected with a reason each",
        "cubes": f"{findings.geometry.box}³ voxels of {findings.geometry.voxel_size_A:g} Å",
        "model that labels": method_title(findings.chosen)
        + (f" (against the adapted one: {against})" if against else ""),
        "source model": "from the cache" if findings.source.reused else "trained in this run",
    }


def _summary(
    findings: Findings, labelled: Positions, seconds: dict[str, dict[str, float]]
) -> dict[str, Any]:
    prediction = findings.prediction
    counts = np.bincount(prediction.labels, minlength=len(prediction.class_names))
    return {
        "tomogram": str(findings.options.tomogram),
        "voxel_size_A": findings.tomogram.voxel_size_A,
        "box": findings.geometry.box,
        "cube_voxel_size_A": findings.geometry.voxel_size_A,
        "n_particles": len(findings.positions.particles),
        "n_labelled": len(labelled.rows),
        "n_rejected": len(labelled.rejected),
        "classes": dict(zip(prediction.class_names, counts.tolist(), strict=True)),
        "estimated_proportions": dict(
            zip(prediction.class_names, findings.proportions.round(4).tolist(), strict=True)
        ),
        "contrast": {
            "sign": findings.contrast.sign,
            "text": findings.contrast.text,
            "source_model_preference": round(findings.preference, 4),
        },
        "wedge": findings.wedge.record,
        "method": findings.options.method,
        "assumed": tomogram_assumptions(
            findings.options,
            findings.tomogram,
            findings.contrast,
            findings.wedge,
            findings.positions,
            findings.told,
        ),
        "guard": findings.guard,
        "warnings": findings.warnings,
        "source_model": {"reused": findings.source.reused, "file": findings.source.path.name},
        "seconds": {name: record["seconds"] for name, record in seconds.items()},
        "peak_memory_mb": max((r["peak_memory_mb"] for r in seconds.values()), default=0.0),
        "versions": versions(),
    }
