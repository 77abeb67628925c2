"""Teach a student: the likelihood judges some cubes, and a network learns from them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.classify.cubes import CubesOptions, cubes_sign
from tomadapt.classify.matched_source import choose_geometry, defoci_um
from tomadapt.classify.measured import MeasuredCubes
from tomadapt.classify.measured_acquisition import hand_nats
from tomadapt.classify.options import SourceOptions
from tomadapt.classify.student_labels import OTHER, JudgedCubes
from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.errors import ConfigError
from tomadapt.inputs.particles import inverted
from tomadapt.judge.groups import Some
from tomadapt.judge.judge import JudgeOptions, judge
from tomadapt.judge.noise import Noise
from tomadapt.judge.particles import noise_share, particle_noise
from tomadapt.judge.rivals import Hypothesis, proteins, shapes, wanted_structures
from tomadapt.learn.calibration import calibration_error, cross_fitted, fitted_temperature, tempered
from tomadapt.learn.recolouring import recoloured
from tomadapt.learn.student import (
    SoftLabelled,
    StudentTraining,
    snr_range_about,
    train_student,
)
from tomadapt.learn.turned import over_half_turns
from tomadapt.runs.progress import StageBars
from tomadapt.runs.stages import StageClock
from tomadapt.simulate.dataset import SimulationConfig
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.simulate.stream import stream
from tomadapt.tomograms.contrast import Sign

HELD_OUT = 0.2
"""Of the judged cubes: never seen in training, they say how well the student agrees."""
HOLD_OUT = 1
"""What random numbers of that choice are keyed by, beside the seed."""
STREAM_SEED = 2**41
"""Far from the small numbers that users give to targets."""
FEWEST = 60
RARER = 8
"""Of each rival so many times fewer particles are simulated than of a named structure: there are
about forty."""


@dataclass(frozen=True, eq=False)
class JudgedTarget:
    """The cubes, how they were recorded, and what they are compared with.

    Attributes
    ----------
    measured
        The cubes as they are, with their acquisition and the points that were measured.
    upright
        The cubes with density positive.
    sign
        How their sign was found.
    structures
        The named ones on the cubes' grid.
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
    def of(cls, options: CubesOptions, out: Path, device: torch.device) -> JudgedTarget:
        """Open the cubes and measure their noise and contrast.

        Parameters
        ----------
        options
            What is asked for.
        out
            Where files go that are made on the way.
        device
            Where the contrast is measured.

        Raises
        ------
        ConfigError
            When they are tilt stacks, too few, or what they need is not stated.
        InputError, MismatchError
            From the files.
        """
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
        if measured.recording.ctf_corrected or options.source is None:
            raise _not_for_students(options, "no defocus")
        if len(data) < FEWEST:
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
        """The cubes as they are."""
        return self.measured.data

    @property
    def acquisition(self) -> Acquisition:
        """As stated."""
        return self.measured.recording.acquisition

    def judged(self, rows: NDArray[np.int64]) -> JudgedCubes:
        """What the likelihood says of some cubes."""
        some, progress = Some(self.upright, rows), StageBars()
        even, noise = particle_noise(
            some,
            self.structures,
            Noise.of(some, self.measured.points),
            voxel_size_A=self.data.voxel_size_A,
            reach_voxels=self.judging.reach(self.data.box),
            progress=progress,
        )
        verdicts = judge(
            even,
            self.structures,
            noise,
            acquisition=self.acquisition,
            voxel_size_A=self.data.voxel_size_A,
            options=self.judging,
            progress=progress,
        )
        if verdicts.hand == -1:  # simulated particles would teach the other hand
            raise ConfigError(
                "the cubes fit the mirror images of the structures better",
                expected="cubes and structures of one hand",
                got=f"{-hand_nats(verdicts):.0f} nats for the mirror images",
                remedy="turn the sign of the tilt angles where they were reconstructed, or use "
                "--method likelihood",
            )
        return JudgedCubes.of(rows, verdicts, noise_share(even, noise))


@dataclass(frozen=True, eq=False)
class Taught:
    """A student, and what it says of all cubes.

    Attributes
    ----------
    names
        Its classes: the named structures, ``null`` and ``other``.
    first
        What the judge said of the cubes that it was given.
    unseen
        (m,) places in ``first``: held out of training.
    probabilities
        (n, classes) of all cubes, calibrated.
    temperature
        What its logits were divided by, fitted on ``unseen``.
    calibration_error
        Against the judge, on ``unseen``, each half by the temperature of the other.
    snr_range
        Of the simulated particles.
    cubes_per_second
        Of prediction.
    """

    names: tuple[str, ...]
    first: JudgedCubes
    unseen: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    temperature: float
    calibration_error: float
    snr_range: tuple[float, float]
    cubes_per_second: float

    @property
    def agrees(self) -> NDArray[np.bool_]:
        """(m,) whether it names cubes that were held out as the judge does."""
        says = self.probabilities[self.first.rows[self.unseen]].argmax(axis=1)
        return np.asarray(says == self.first.probabilities[self.unseen].argmax(axis=1))

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says of it."""
        return {
            "agreement_with_likelihood": round(float(self.agrees.mean()), 4),
            "judged_cubes_never_seen": len(self.unseen),
            "calibration_error": round(self.calibration_error, 4),
            "temperature": round(self.temperature, 3),
            "cubes_per_second": round(self.cubes_per_second, 1),
            "snr_range": [float(f"{snr:.3g}") for snr in self.snr_range],
        }


def taught(
    options: CubesOptions,
    target: JudgedTarget,
    sample: NDArray[np.int64],
    *,
    out: Path,
    fabric: Fabric,
    clock: StageClock,
) -> Taught:
    """Judge a sample of the cubes, teach a student, and let it label all of them.

    Parameters
    ----------
    options
        What is asked for; its ``source`` says what is simulated.
    target
        The cubes.
    sample
        Which of them the judge is given, ascending. A fifth of these is held out of training.
    out
        Where the student is kept, ``student.safetensors``.
    fabric
        Device and precision.
    clock
        Notes how long each step takes.

    Raises
    ------
    ConfigError
        When the cubes fit the mirror images of the structures better.
    """
    with clock.stage("judge"):
        first = target.judged(sample)
    with clock.stage("source"):
        source = _source(options, target, first)
    n_held = round(HELD_OUT * len(sample))
    places = np.random.default_rng([HOLD_OUT, options.seed]).permutation(len(sample))
    seen, unseen = np.sort(places[n_held:]), np.sort(places[:n_held])
    with clock.stage("train"):
        student, _ = train_student(
            SoftLabelled(target.upright.subset(sample[seen]), first.probabilities[seen]),
            source.data,
            source.training,
            fabric=fabric,
            checkpoint=out / "student.pt",
        )
        student.save(out / "student.safetensors")
    with clock.stage("predict"):
        begun = time.perf_counter()
        raw = over_half_turns(student, target.upright, fabric=fabric)
        rate = len(raw) / (time.perf_counter() - begun)
        says, true = raw[sample[unseen]], first.probabilities[unseen]
        temperature = fitted_temperature(says, true)
        checked = cross_fitted(says, true)
        agrees = checked.argmax(axis=1) == true.argmax(axis=1)
    return Taught(
        names=source.data.class_names,
        first=first,
        unseen=unseen,
        probabilities=tempered(raw, temperature),
        temperature=temperature,
        calibration_error=calibration_error(checked.max(axis=1), agrees),
        snr_range=source.training.snr_range,
        cubes_per_second=rate,
    )


def _not_for_students(options: CubesOptions, got: str) -> ConfigError:
    """What the likelihood alone does better, or what no source can be simulated for."""
    return ConfigError(
        f"a student cannot be taught of {options.cubes}",
        expected=f"at least {FEWEST} cubes whose CTF was not corrected, with --defocus",
        got=got,
        remedy="state --defocus where it is missing, or use --method likelihood",
    )


@dataclass(frozen=True, eq=False)
class _Source:
    """Simulated particles with the target's noise, and how they are used."""

    data: LabelledSubtomograms
    training: StudentTraining


def _rivals(target: JudgedTarget, first: JudgedCubes) -> list[Hypothesis]:
    """What the judge compared the named structures with, but for what looks like one of them."""
    box, voxel_size_A = target.data.box, target.data.voxel_size_A
    rivals = [*shapes(box, voxel_size_A), *proteins(box, voxel_size_A, seed=target.judging.seed)]
    dropped = {name for name, _ in first.verdicts.dropped}
    return [rival for rival in rivals if rival.name not in dropped]


def _source(options: CubesOptions, target: JudgedTarget, first: JudgedCubes) -> _Source:
    """Simulated like the cubes: their acquisition, the noise's spectrum, the SNR as measured.

    Beside the named structures and noise there are the judge's rivals: shapes, which are junk and
    called ``null``, and proteins that nobody named. As many as a stored set would have are drawn
    anew in every epoch.
    """
    settings = target.simulated
    optics = first.verdicts.optics
    measured = None if optics is None else optics.snr
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
    rivals = _rivals(target, first)
    streamed = stream(
        config,
        defoci_um=defoci_um(settings),
        further={rival.name: rival.density for rival in rivals},
        rarer=RARER,
    )
    made, _ = recoloured(streamed, target.upright, snr=snr, noise_share=first.noise_share)
    of_rivals = [OTHER if rival.kind == "protein" else NULL_CLASS for rival in rivals]
    numbers = np.array([names.index(name) for name in (*simulated, *of_rivals)])
    data = LabelledSubtomograms(
        made.source, made.rows, labels=numbers[made.labels], class_names=names
    )
    training = StudentTraining(
        epochs=settings.epochs,
        particles_per_epoch=per_epoch * len(simulated) + per_epoch // RARER * len(rivals),
        snr_range=snr_range,
        seed=options.seed,
    )
    return _Source(data, training)
