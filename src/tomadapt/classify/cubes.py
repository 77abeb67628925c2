"""A set of cubes, labelled by the likelihood: a row of a table for each."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tomadapt.classify.assumed import cubes_assumptions
from tomadapt.classify.find import sign_by_evidence
from tomadapt.classify.judged_summary import (
    cubes_warnings,
    judged_content,
    judged_summary,
    label_warnings,
    rejection_reasons,
    write_labels_csv,
)
from tomadapt.classify.matched_source import MEASURING_GRID, choose_geometry, matched_source
from tomadapt.classify.measured import MeasuredCubes, SignedCubes
from tomadapt.classify.measured_acquisition import acquisition_warnings
from tomadapt.classify.networks import predict_by_networks
from tomadapt.classify.options import (
    NETWORKS,
    Classes,
    InputPath,
    Method,
    SourceOptions,
    require_method,
)
from tomadapt.classify.run import FEWEST_PARTICLES
from tomadapt.classify.stacks import (
    series_counts,
    series_warnings,
    stack_names,
    write_stack_labels,
)
from tomadapt.data.cube_keys import DIGEST_KEY, CubeKeys, key_of
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import ConfigError, InputError
from tomadapt.inputs.particles import Contrast, open_target
from tomadapt.judge.judge import JudgeOptions
from tomadapt.judge.noise import Noise
from tomadapt.judge.rivals import Hypothesis, wanted_structures
from tomadapt.judge.rows import evenly_spaced
from tomadapt.judge.screen import Screen, min_search_shell, screen_all
from tomadapt.learn.adversarial import AdversarialOptions
from tomadapt.learn.engine import make_fabric
from tomadapt.recover.recording import StatedRecording, recording_of
from tomadapt.report.judged_page import write_judged_report
from tomadapt.runs.atomic import write_json
from tomadapt.runs.heard import heard
from tomadapt.runs.own_folder import make_own, require_own
from tomadapt.runs.progress import StageBars
from tomadapt.runs.stages import StageClock
from tomadapt.runs.versions import versions
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.tomograms.contrast import Sign
from tomadapt.tomograms.extracting import reconstruct_to_folder
from tomadapt.tomograms.positions import require_elsewhere
from tomadapt.tomograms.relion_stacks import particle_file
from tomadapt.tomograms.tilt_stacks import TiltStackExtraction

_SIGN_SAMPLE = 64
LARGEST_BOX = 80
"""Voxels: the search's matrices grow with the sixth power of the box."""


class CubesOptions(BaseModel):
    """What is done with a set of cubes.

    Parameters
    ----------
    cubes
        What :func:`~tomadapt.inputs.particles.open_target` opens, or a STAR file of
        CTF-premultiplied 2D tilt stacks.
    classes
        Label → structure; ``null`` needs none.
    folder
        A local folder where PDB IDs are looked up first.
    recording
        What is stated of tilts and optics; without a defocus no CTF is applied.
    voxel_size_A
        Where the file does not say it.
    contrast
        Sign of the density: ``measure``, or stated.
    reach_voxels
        How far particles may lie from their cubes' centres; a twelfth of the box when None.
    fdr
        See :class:`~tomadapt.classify.options.ClassifyOptions`: beyond it the label is ``null``.
    seed
        Of everything random.
    method
        See :class:`~tomadapt.classify.options.ClassifyOptions`.
    rivals
        Whether anything but noise competes with the structures; without, for experiments.
    judged
        Of a ``student``: how many cubes the likelihood labels first.
    source, adapt
        Of networks: what is simulated and trained, and how it is adapted. Acquisition, box and
        voxels are those of the cubes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cubes: InputPath
    classes: Classes
    folder: Path | None = None
    recording: StatedRecording = StatedRecording()
    voxel_size_A: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    contrast: Contrast = "measure"
    reach_voxels: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    fdr: Annotated[float | None, Field(gt=0, lt=1)] = None
    seed: Annotated[int, Field(ge=0, lt=2**30)] = 0
    method: Method = "likelihood"
    rivals: bool = True
    judged: Annotated[int, Field(ge=60, le=1_000_000)] = 1500
    source: SourceOptions | None = None
    adapt: AdversarialOptions = AdversarialOptions(batch_size=32)

    @property
    def classes_without_null(self) -> tuple[str, ...]:
        """The named structures, in their order."""
        return tuple(name for name in self.classes if name != NULL_CLASS)


def classify_cubes(options: CubesOptions, out: Path, *, device: str = "auto") -> dict[str, Any]:
    """Label cubes by what explains them best.

    Parameters
    ----------
    options
        What is asked for.
    out
        Where ``labels.csv``, ``report.html`` and ``summary.json`` go; of tilt stacks also
        ``particles.star`` and ``rejected.star``, the rows of the file that was given.
    device
        See :func:`tomadapt.learn.engine.make_fabric`.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    ConfigError
        When the sign of the density can neither be measured nor is stated, tilts are not known, or
        a structure does not fit into the cubes.
    InputError
        When a file is missing or damaged.
    MismatchError
        When voxel sizes differ, or the folder holds another run.
    """
    # What may be changed afterwards, or concerns networks, tells no runs apart.
    wanted = options.model_dump(mode="json", exclude={"fdr", "source", "adapt", "judged"})
    _require_options(options, out)
    require_own(out, wanted)
    clock = StageClock(out / "stages.json")
    where = make_fabric(device).device
    opened: list[str] = []
    with clock.stage("cubes"), heard(opened):
        measured = MeasuredCubes.of(
            options.cubes,
            options.recording,
            voxel_size_A=options.voxel_size_A,
            out=out,
            device=where,
        )
        data, recording = measured.data, measured.recording
        if data.box > LARGEST_BOX:
            raise ConfigError(
                f"the cubes of {options.cubes} are too large for the likelihood",
                expected=f"at most {LARGEST_BOX} voxels",
                got=data.box,
                remedy="bin them: classes differ at 20 to 50 Å",
            )
        structures = wanted_structures(
            options.classes,
            box=data.box,
            voxel_size_A=data.voxel_size_A,
            folder=options.folder,
        )
        noise = measured.noise()
    settings = JudgeOptions(
        reach_voxels=data.box / 12 if options.reach_voxels is None else options.reach_voxels,
        rivals=options.rivals,
        seed=options.seed,
    )
    with clock.stage("contrast"):
        sign = cubes_sign(data, structures, noise, settings, options)
    make_own(out, wanted)
    contradiction = measured.contradiction(options.recording)
    told = [text for text in (*opened, sign.warning, contradiction) if text]
    acquisition = None if recording.ctf_corrected else recording.acquisition
    with clock.stage("judge"):
        verdicts = measured.judged(sign.sign, structures, noise, settings, StageBars())
    kept = verdicts.label >= 0
    if options.fdr is not None:
        kept &= verdicts.fdr <= options.fdr
    told += acquisition_warnings(verdicts, acquisition, data.voxel_size_A)
    told += label_warnings(verdicts, kept)
    if measured.stacks is None:
        told += cubes_warnings(verdicts)
    else:
        told += series_warnings(measured.stacks, verdicts)
    shown = replace(verdicts, label=np.where(kept, verdicts.label, -1))
    with clock.stage("report"):
        files = data.names if measured.stacks is None else stack_names(measured.stacks)
        # Cubes of tilt stacks are made anew by `tomadapt reconstruct`: their files are keys.
        cubes = "" if measured.stacks else key_of(data.source)
        reasons = rejection_reasons(verdicts, options.fdr, {})
        keys = CubeKeys(cubes, files)
        write_labels_csv(out / "labels.csv", shown, data.voxel_size_A, keys, reasons)
        if measured.stacks is not None:
            write_stack_labels(out, measured.stacks, verdicts, options.fdr)
        summary = {
            "cubes": str(options.cubes),
            DIGEST_KEY: cubes,
            "n_particles": len(data),
            "n_labelled": int(kept.sum()),
            "n_without_cube": len(measured.stacks.dropped) if measured.stacks else 0,
            "box": data.box,
            "cube_voxel_size_A": data.voxel_size_A,
            **judged_summary(verdicts, acquisition, sign.text, kept, asked=options.fdr),
            "contrast": {"sign": sign.sign, "text": sign.text},
            "recording": measured.summary,
            "assumed": cubes_assumptions(
                data.voxel_size_A,
                recording,
                measured.summary,
                # Tilt stacks have their own: a stated one is not used, and told.
                stated_voxel_size_A=None if measured.stacks else options.voxel_size_A,
                contrast=sign.text,
                files=bool(files),
                told=opened,
            ),
            "tilt_series": series_counts(measured.stacks, kept) if measured.stacks else {},
            "warnings": told,
            "seconds": {name: record["seconds"] for name, record in clock.records.items()},
            "peak_memory_mb": max(r["peak_memory_mb"] for r in clock.records.values()),
            "versions": versions(),
        }
        content = judged_content(
            verdicts,
            summary,
            kept,
            acquisition=acquisition,
            read=lambda rows: sign.sign * data.read(rows).numpy(),
            title=f"tomadapt: {options.cubes.name}",
            recording={
                "file": str(options.cubes),
                "cubes": f"{len(data)} of {data.box}³ voxels of {data.voxel_size_A:g} Å",
                **measured.summary,
            },
            configuration=options.model_dump(mode="json"),
        )
        write_judged_report(content, out / "report.html")
        write_json(out / "summary.json", summary)
    for text in told[len(opened) :]:
        warnings.warn(text, stacklevel=2)
    return summary


def _require_options(options: CubesOptions, out: Path) -> None:
    """Refuse what is wrong whatever the cubes are, before any is opened."""
    require_method(options.method, ("likelihood",))
    if not options.classes_without_null:
        raise ConfigError(
            "no structure is named besides null",
            expected="at least one",
            remedy="name it: --structures NAME or NAME=FILE",
        )
    if options.cubes.suffix == ".star":
        require_elsewhere(particle_file(options.cubes), out)
        # Tilt stacks take minutes to reconstruct.
        wanted_structures(options.classes, **MEASURING_GRID, folder=options.folder)


def classify_cubes_by_network(
    options: CubesOptions, out: Path, *, cache: Path, device: str = "auto"
) -> dict[str, Any]:
    """Label cubes by a network that is trained on a source simulated for them.

    Parameters
    ----------
    options
        What is asked for; it must have a ``source``.
    out
        Where ``labels.csv``, the adapted model and ``summary.json`` go.
    cache
        Where source models are kept between runs.
    device
        See :func:`tomadapt.learn.engine.make_fabric`.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    ConfigError
        When the density seems inverted and no contrast is stated, or options do not fit.
    InputError
        When a file is missing or damaged, or there are too few cubes.
    MismatchError
        When voxel sizes differ, or the folder holds another run.
    """
    require_method(options.method, NETWORKS)
    wanted = options.model_dump(mode="json", exclude={"fdr"})
    require_own(out, wanted)
    clock = StageClock(out / "stages.json")
    fabric = make_fabric(device)
    opened: list[str] = []
    with clock.stage("cubes"), heard(opened):
        data, stated = _opened(options, out, contrast=options.contrast)
        recording = recording_of(data, stated)
        if options.source is None or recording.ctf_corrected:
            raise ConfigError(
                f"a network cannot be trained for {options.cubes}",
                expected="the acquisition that its source is simulated with",
                got="no defocus: the CTF of these cubes is taken as corrected",
                remedy="state --defocus, or use --method likelihood",
            )
        if len(data) < FEWEST_PARTICLES:
            raise InputError(
                f"too few cubes in {options.cubes} for a network",
                expected=f"at least {FEWEST_PARTICLES}",
                got=len(data),
                remedy="use --method likelihood",
            )
        settings = options.source.model_copy(
            update={
                "acquisition": recording.acquisition,
                "box": data.box,
                "voxel_size_A": data.voxel_size_A,
            }
        )
        geometry = choose_geometry(settings, data.voxel_size_A)
    make_own(out, wanted)
    with clock.stage("source"):
        source = matched_source(settings, geometry, cache, fabric=fabric)
    adapt = options.adapt.model_copy(update={"seed": settings.seed})
    labelled = predict_by_networks(source, data, adapt, out, fabric=fabric, clock=clock)
    prediction = labelled.predictions[options.method]
    prediction.write_csv(out / "labels.csv")
    counts = np.bincount(prediction.labels, minlength=len(prediction.class_names))
    guard = labelled.adapted.card.training["guard"]
    adaptation = labelled.adapted.card.training.get("adaptation_warning")
    told = [text for text in (*opened, adaptation) if text]
    summary = {
        "cubes": str(options.cubes),
        "method": options.method,
        "n_particles": len(data),
        "n_labelled": int(counts.sum() - counts[prediction.class_names.index(NULL_CLASS)]),
        "classes": dict(zip(prediction.class_names, counts.tolist(), strict=True)),
        "guard": guard,
        DIGEST_KEY: key_of(data.source),
        "assumed": cubes_assumptions(
            data.voxel_size_A,
            recording,
            recording.summary,
            stated_voxel_size_A=options.voxel_size_A,
            contrast="stated " + options.contrast
            if options.contrast != "measure"
            else "measured: particles are not darker than their surroundings",
            files=bool(prediction.names),
            told=opened,
        ),
        "warnings": told,
        "seconds": {name: record["seconds"] for name, record in clock.records.items()},
        "versions": versions(),
    }
    write_json(out / "summary.json", summary)
    for text in told[len(opened) :]:
        warnings.warn(text, stacklevel=2)
    return summary


def _opened(
    options: CubesOptions, out: Path, *, contrast: Contrast
) -> tuple[Subtomograms, StatedRecording]:
    """The cubes as networks see them, and what is stated of them."""
    path, recording = options.cubes, options.recording
    if path.suffix == ".star":
        path = out / "subtomograms"
        made = reconstruct_to_folder(options.cubes, path, contrast="positive")
        recording = _with_tilts(recording, made)
    return open_target(path, voxel_size_A=options.voxel_size_A, contrast=contrast), recording


def _with_tilts(recording: StatedRecording, made: TiltStackExtraction) -> StatedRecording:
    if recording.tilt_range_deg is not None:
        return recording
    tilts = made.acquisition.tilt_angles_deg
    step = (tilts[-1] - tilts[0]) / (len(tilts) - 1)
    return replace(recording, tilt_range_deg=(tilts[0], tilts[-1]), tilt_step_deg=step)


def cubes_sign(
    data: Subtomograms,
    structures: list[Hypothesis],
    noise: Noise,
    settings: JudgeOptions,
    options: CubesOptions,
) -> Sign:
    """The density's sign and how it was found."""
    screen = Screen(
        structures,
        noise,
        shell=min_search_shell(data.box),
        reach_voxels=settings.reach(data.box),
    )
    rows = evenly_spaced(len(data), _SIGN_SAMPLE)
    sums = {}
    for sign in (1, -1):
        found = screen_all(SignedCubes(data.subset(rows), sign), screen, noise)
        evidence = found.evidence(screen.freedom).max(axis=1)
        sums[sign] = float(np.clip(evidence, 0, None).sum())
    return sign_by_evidence(sums, options.contrast, options.cubes, of=f"{len(rows)} cubes")
