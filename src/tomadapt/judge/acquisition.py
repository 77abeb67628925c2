"""The defocus that particles show, where what is stated may be far off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tomadapt.acquisition import Acquisition
from tomadapt.judge.groups import Some
from tomadapt.judge.judge import JudgeOptions, judge
from tomadapt.judge.noise import Noise
from tomadapt.judge.rivals import Hypothesis
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.subtomograms import Subtomograms

SAMPLE = 160
ROUNDS = 3
CLEAR_NATS = 10.0


def estimated_acquisition(
    cubes: Subtomograms, wanted: Sequence[Hypothesis], stated: Acquisition
) -> Acquisition:
    """The stated acquisition with the defocus at which a sample's likelihood is largest.

    The sample is labelled at the stated defocus, its surest particles say a better one, and it is
    labelled again there, until the defocus stays.

    Parameters
    ----------
    cubes
        The particles, density positive.
    wanted
        The structures that the user named, on the cubes' grid.
    stated
        Where to begin.
    """
    rows = np.unique(np.linspace(0, len(cubes) - 1, min(SAMPLE, len(cubes))).astype(int))
    some = Some(cubes, rows)
    found = stated
    for _ in range(ROUNDS):
        points = MeasuredPoints.of(found, n=cubes.box, voxel_size_A=cubes.voxel_size_A)
        optics = judge(
            some,
            wanted,
            Noise.of(some, points),
            acquisition=found,
            voxel_size_A=cubes.voxel_size_A,
            options=JudgeOptions(rivals=False),
        ).optics
        if optics is None or optics.defocus_um is None or optics.defocus_nats < CLEAR_NATS:
            break
        found = found.model_copy(update={"defocus_um": optics.defocus_um})
    return found
