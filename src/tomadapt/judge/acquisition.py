"""The judge for particles of one acquisition, and the defocus at which they fit best."""

from __future__ import annotations

from collections.abc import Sequence

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.judge.judge import JudgeOptions
from tomadapt.judge.noise import Noise
from tomadapt.judge.particles import judge_particles
from tomadapt.judge.rivals import Hypothesis
from tomadapt.judge.rows import evenly_spaced
from tomadapt.judge.verdicts import Verdicts
from tomadapt.recover.fourier import MeasuredPoints

SAMPLE = 160
"""Most particles on which the defocus is estimated."""
ROUNDS = 3
CLEAR_NATS = 10.0
"""Least gain in log-likelihood for which the defocus is changed."""


def judge_as_recorded(
    cubes: Subtomograms,
    wanted: Sequence[Hypothesis],
    acquisition: Acquisition,
    options: JudgeOptions | None = None,
) -> Verdicts:
    """Judge particles whose CTF was not corrected; their noise is measured in the particles.

    Parameters
    ----------
    cubes
        The particles, density positive.
    wanted
        The structures that the user named, on the cubes' grid.
    acquisition
        How they were recorded.
    options
        See :class:`~tomadapt.judge.judge.JudgeOptions`.
    """
    points = MeasuredPoints.of(acquisition, n=cubes.box, voxel_size_A=cubes.voxel_size_A)
    return judge_particles(
        cubes,
        wanted,
        Noise.of(cubes, points),
        acquisition=acquisition,
        voxel_size_A=cubes.voxel_size_A,
        options=options,
    )


def estimated_acquisition(
    cubes: Subtomograms, wanted: Sequence[Hypothesis], stated: Acquisition
) -> Acquisition:
    """The stated acquisition with the defocus at which a sample's likelihood is largest.

    The sample is labelled at the stated defocus. The particles of most certain labels give a better
    defocus, at which the sample is labelled again, until the defocus no longer changes.

    Parameters
    ----------
    cubes
        The particles, density positive.
    wanted
        The structures that the user named, on the cubes' grid.
    stated
        The acquisition as stated.
    """
    rows = evenly_spaced(len(cubes), SAMPLE)
    some, found = cubes.subset(rows), stated
    for _ in range(ROUNDS):
        optics = judge_as_recorded(some, wanted, found, JudgeOptions(rivals=False)).optics
        if optics is None or optics.defocus_um is None or optics.defocus_nats < CLEAR_NATS:
            break
        found = found.model_copy(update={"defocus_um": optics.defocus_um})
    return found
