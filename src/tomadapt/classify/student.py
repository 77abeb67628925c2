"""Many cubes: the likelihood judges some of them, and a network that learns from it the others."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.classify.assumed import cubes_assumptions
from tomadapt.classify.cubes import CubesOptions, cubes_sign
from tomadapt.classify.judged_summary import (
    acquisition_warnings,
    hand_nats,
    label_warnings,
    measured_acquisition,
)
from tomadapt.classify.matched_source import choose_geometry, defoci_um
from tomadapt.classify.measured import MeasuredCubes
from tomadapt.classify.options import SourceOptions
from tomadapt.classify.student_labels import OTHER, JudgedCubes, StudentLabels
from tomadapt.errors import ConfigError
from tomadapt.heard import heard
from tomadapt.io.atomic import write_json
from tomadapt.io.volumes import inverted
from tomadapt.judge.groups import Some
from tomadapt.judge.judge import JudgeOptions, judge
from tomadapt.judge.noise import Noise
from tomadapt.judge.rivals import Hypothesis, wanted_structures
from tomadapt.judge.verdicts import Verdicts
from tomadapt.learn.calibration import calibration_error, fitted_temperature, tempered
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.recolouring import recoloured
from tomadapt.learn.student import (
    SoftLabelled,
    StudentTraining,
    snr_range_about,
    train_student,
)
from tomadapt.pipeline import StageClock, require_own
from tomadapt.prediction import predict
from tomadapt.progress import StageBars
from tomadapt.recover.labels import DIGEST_KEY, key_of
from tomadapt.simulate.dataset import SimulationConfig, versions
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.simulate.stream import stream
from tomadapt.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.tomograms.contrast import Sign

HELD_OUT = 0.2
"""Of the judged cubes: never seen in training, they say how well the student agrees."""
LEAST_AGREEMENT = 0.8
UNSURE_SHARE = 0.25
"""So many more cubes, of those that the judge was given first, are judged where the student is
least sure."""
STREAM_SEED = 2**41
"""Far from the small numbers that users give to targets."""
_FEWEST = 60


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
    require_own(out, wanted, needed_bytes=0)
    clock, fabric = StageClock(out / "stages.json"), make_fabric(device)
    opened: list[str] = []
    with clock.stage("cubes"), heard(opened):
        target = _Target.of(options, out, fabric.device)
    write_json(out / "config.json", wanted)
    rng = np.random.default_rng(options.seed)
    with clock.stage("judge"):
        first = target.judged(np.sort(rng.permutation(len(target.data))[: options.judged]))
    with clock.stage("source"):
        source = _source(options, target, first.verdicts)
    n_held = round(HELD_OUT * len(first.rows))
    places = rng.permutation(len(first.rows))
    seen, unseen = np.sort(places[n_held:]), np.sort(places[:n_held])
    with clock.stage("train"):
        student, _ = train_student(
            SoftLabelled(target.upright.subset(first.rows[seen]), first.probabilities[seen]),
            source.data,
            source.training,
            fabric=fabric,
            checkpoint=out / "student.pt",
        )
        student.save(out / "student.safetensors")
    with clock.stage("predict"):
        begun = time.perf_counter()
        raw = predict(student, target.upright, fabric=fabric).probabilities
        rate = len(raw) / (time.perf_counter() - begun)
        # Half of what was held out fits the temperature, the other half says how well it does.
        fitted = unseen[::2]
        temperature = fitted_temperature(raw[first.rows[fitted]], first.probabilities[fitted])
        found = tempered(raw, temperature)
    parts = [first]
    left = np.setdiff1d(np.arange(len(found)), first.rows)
    if len(left):
        with clock.stage("judge unsure"):
            more = max(_FEWEST, round(UNSURE_SHARE * len(first.rows)))
            unsure = left[np.argsort(found[left].max(axis=1), kind="stable")][:more]
            parts.append(target.judged(np.sort(unsure)))
    truth = first.probabilities[unseen].argmax(axis=1)
    says = found[first.rows[unseen]]
    agreement = float((says.argmax(axis=1) == truth).mean())
    told = [*opened, *_warnings(options, target, first.verdicts, agreement, n_held)]
    labels = StudentLabels.of(found, parts, source.data.class_names, options.fdr)
    files = target.data.names
    labels.write_csv(out / "labels.csv", parts, target.data.voxel_size_A, files)
    summary = {
        "cubes": str(options.cubes),
        "method": "student",
        DIGEST_KEY: key_of(target.data.source),
        "n_particles": len(found),
        "n_judged": sum(len(part.rows) for part in parts),
        "n_labelled": sum(labels.counts.values()),
        "classes": labels.counts,
        "student": {
            "agreement_with_likelihood": round(agreement, 4),
            "judged_cubes_never_seen": n_held,
            "calibration_error": round(
                calibration_error(says.max(axis=1)[1::2], (says.argmax(axis=1) == truth)[1::2]), 4
            ),
            "temperature": round(temperature, 3),
            "cubes_per_second": round(rate, 1),
            "snr_range": [float(f"{snr:.3g}") for snr in source.training.snr_range],
        },
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


@dataclass(frozen=True, eq=False)
class _Target:
    """The cubes, how they were recorded, and what they are compared with.

    Attributes
    ----------
    upright
        The cubes with density positive.
    judging, simulated
        How they are judged, and what is simulated like them.
    """

    measured: MeasuredCubes
    upright: Subtomograms
    sign: Sign
    structures: list[Hypothesis]
    judging: JudgeOptions
    simulated: SourceOptions

    @classmethod
    def of(cls, options: CubesOptions, out: Path, device: torch.device) -> _Target:
        if options.cubes.suffix == ".star":
            raise _not_for_students(options, "tilt stacks")
        measured = MeasuredCubes.of(
            options.cubes,
            options.recording,
            voxel_size_A=options.voxel_size_A,
            out=out,
            device=device,
        )
        data = measured.data
        if measured.recording.flat_transfer or options.source is None:
            raise _not_for_students(options, "no defocus")
        if len(data) < _FEWEST:
            raise _not_for_students(options, f"{len(data)} cubes")
        settings = options.source.model_copy(
            update={
                "acquisition": measured.recording.acquisition,
                "box": data.box,
                "voxel_size_A": data.voxel_size_A,
            }
        )
        choose_geometry(settings, data.voxel_size_A)  # refuses a box that is too small
        structures = wanted_structures(
            options.classes, box=data.box, voxel_size_A=data.voxel_size_A, folder=options.folder
        )
        judging = JudgeOptions(reach_voxels=options.reach_voxels, seed=options.seed)
        sign = cubes_sign(data, structures, measured.noise(), judging, options)
        upright: Subtomograms | None = data if sign.sign == 1 else inverted(data)
        if upright is None:
            raise ConfigError(
                f"the density of {options.cubes} is positive",
                expected="a simulated set as it is",
                got=sign.text,
                remedy="leave --contrast out",
            )
        return cls(measured, upright, sign, structures, judging, settings)

    @property
    def data(self) -> Subtomograms:
        return self.measured.data

    @property
    def acquisition(self) -> Acquisition:
        return self.measured.recording.acquisition

    def judged(self, rows: NDArray[np.int64]) -> JudgedCubes:
        """What the likelihood says of some cubes."""
        some = Some(self.upright, rows)
        verdicts = judge(
            some,
            self.structures,
            Noise.of(some, self.measured.points),
            acquisition=self.acquisition,
            voxel_size_A=self.data.voxel_size_A,
            options=self.judging,
            progress=StageBars(),
        )
        if verdicts.hand == -1:  # simulated particles would teach the other hand
            raise ConfigError(
                "the cubes fit the mirror images of the structures better",
                expected="cubes and structures of one hand",
                got=f"{-hand_nats(verdicts):.0f} nats for the mirror images",
                remedy="turn the sign of the tilt angles where they were reconstructed, or use "
                "--method likelihood",
            )
        return JudgedCubes.of(rows, verdicts)


def _warnings(
    options: CubesOptions, target: _Target, verdicts: Verdicts, agreement: float, n_held: int
) -> list[str]:
    contradiction = target.measured.contradiction(options.recording)
    told = [text for text in (target.sign.warning, contradiction) if text]
    told += acquisition_warnings(verdicts, target.acquisition, target.data.voxel_size_A)
    told += label_warnings(verdicts)
    if agreement < LEAST_AGREEMENT:
        told.append(
            f"the student names {agreement:.0%} of {n_held} judged cubes that it never saw as the "
            "likelihood does: judge more of them (--judged), or all (--method likelihood)"
        )
    return told


def _not_for_students(options: CubesOptions, got: str) -> ConfigError:
    """What the likelihood alone does better, or what no source can be simulated for."""
    return ConfigError(
        f"a student cannot be taught of {options.cubes}",
        expected=f"at least {_FEWEST} cubes whose CTF was not corrected, with --defocus",
        got=got,
        remedy="state --defocus where it is missing, or use --method likelihood",
    )


@dataclass(frozen=True, eq=False)
class _Source:
    """Simulated particles with the target's noise, and how they are used."""

    data: LabelledSubtomograms
    training: StudentTraining


def _source(options: CubesOptions, target: _Target, verdicts: Verdicts) -> _Source:
    """Simulated like the cubes: their acquisition, the noise's spectrum, the SNR as measured.

    As many as a stored set would have are drawn anew in every epoch.
    """
    settings = target.simulated
    measured = None if verdicts.optics is None else verdicts.optics.snr
    snr_range = settings.snr_range if measured is None else snr_range_about(measured)
    snr = math.sqrt(snr_range[0] * snr_range[1])
    names = (*options.classes_without_null, NULL_CLASS, OTHER)
    simulated = {name: settings.all_classes[name] for name in names[:-1]}
    per_epoch = 3 * settings.per_class
    config = SimulationConfig(
        classes=simulated,
        folder=settings.folder,
        acquisition=settings.acquisition,
        per_class=per_epoch * settings.epochs,
        snr=snr,
        seed=STREAM_SEED + settings.seed,
        box=target.data.box,
        voxel_size_A=target.data.voxel_size_A,
        resolution_A=max(target.data.voxel_size_A, 8.0),
        neighbours=settings.neighbours,
        even_noise=True,
    )
    made, _ = recoloured(stream(config, defoci_um=defoci_um(settings)), target.upright, snr=snr)
    # No particle is simulated of the last class.
    data = LabelledSubtomograms(made.source, made.rows, labels=made.labels, class_names=names)
    training = StudentTraining(
        epochs=settings.epochs,
        particles_per_epoch=per_epoch * len(simulated),
        snr_range=snr_range,
        seed=options.seed,
    )
    return _Source(data, training)
