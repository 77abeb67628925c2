"""Particles that come without the noise between them: it is measured in the particles themselves.

A tomogram has noise between its particles. A stack of cubes has none: the power of the cubes is
that of noise and particles together, several times that of noise at low frequencies. So the
structure that explains each particle best is subtracted, and the noise is measured in what remains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import Indices
from tomadapt.judge.groups import Some
from tomadapt.judge.judge import JudgeOptions, counter, judge
from tomadapt.judge.noise import Cubes, Noise, usual_power
from tomadapt.judge.refine import Refined, refine
from tomadapt.judge.rivals import Hypothesis, mirrors, shapes
from tomadapt.judge.screen import Screen, screen_all, search_shell
from tomadapt.judge.verdicts import Verdicts
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.reference import Reference

SAMPLE = 128
"""Particles in which the noise is measured."""
LEAST_NATS = 3.0
"""Structures with less evidence are not subtracted: in pure noise the best pose has about this."""
_BATCH = 32


@dataclass(frozen=True, eq=False)
class EvenCubes:
    """Cubes scaled to the same power of noise.

    Particles of one data set differ in scale when each was normalised by its own standard
    deviation: a cube with gold in it has little noise then.

    Attributes
    ----------
    cubes
        The cubes as they are.
    factor
        (n,) what each is multiplied by.
    """

    cubes: Cubes
    factor: torch.Tensor

    def __len__(self) -> int:
        """Give the number of cubes."""
        return len(self.cubes)

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, n, n, n) float32, density positive."""
        rows = np.asarray(indices)
        return self.cubes.read(rows) * self.factor[rows][:, None, None, None]

    @classmethod
    def of(cls, cubes: Cubes, noise: Noise) -> EvenCubes:
        """Scale cubes by their power in the upper third of the measured shells.

        Particles are weak there, in comparison with noise.
        """
        high = noise.points.shell > noise.points.shell.max() * 2 // 3
        weight = noise.weight[high] / (noise.points.multiplicity[high].sum() * noise.kept)
        power = [
            noise.transforms(cubes.read(rows))[:, high].abs().square() @ weight
            for rows in _batches(len(cubes))
        ]  # 1 on average
        return cls(cubes, torch.cat(power).clamp_min(1e-20).rsqrt().cpu())


def judge_particles(
    cubes: Cubes,
    wanted: Sequence[Hypothesis],
    points: MeasuredPoints,
    *,
    acquisition: Acquisition | None,
    voxel_size_A: float,
    options: JudgeOptions | None = None,
    progress: Callable[[str, int, int], None] = lambda _stage, _done, _total: None,
) -> Verdicts:
    """Label particles whose noise is not known.

    Parameters
    ----------
    cubes
        The particles, density positive, each of any scale.
    wanted
        The structures that the user named, on the cubes' grid.
    points
        Where the particles were measured.
    acquisition, voxel_size_A, options, progress
        As for :func:`~tomadapt.judge.judge.judge`.
    """
    options = options or JudgeOptions()
    even, noise = particle_noise(
        cubes,
        wanted,
        points,
        voxel_size_A=voxel_size_A,
        reach_voxels=options.reach(points.n),
        progress=progress,
    )
    return judge(
        even,
        wanted,
        noise,
        acquisition=acquisition,
        voxel_size_A=voxel_size_A,
        options=options,
        progress=progress,
    )


def particle_noise(
    cubes: Cubes,
    wanted: Sequence[Hypothesis],
    points: MeasuredPoints,
    *,
    voxel_size_A: float,
    reach_voxels: float,
    progress: Callable[[str, int, int], None] = lambda _stage, _done, _total: None,
) -> tuple[EvenCubes, Noise]:
    """Measure the noise of particles in the particles themselves.

    Parameters
    ----------
    cubes
        The particles, density positive.
    wanted
        The structures that the user named, on the cubes' grid.
    points
        Where the particles were measured.
    voxel_size_A
        Of the cubes, in Å.
    reach_voxels
        Largest shift of particles from their cubes' centres.
    progress
        Called with the stage, the number of finished steps and their total.

    Returns
    -------
    even, noise
        The cubes with equal power of noise, and this noise.
    """
    even = EvenCubes.of(cubes, Noise.of(cubes, points))
    first = Noise.of(even, points)
    rows = np.unique(np.linspace(0, len(cubes) - 1, min(SAMPLE, len(cubes))).astype(int))
    some = Some(even, rows)
    hypotheses = [*wanted, *mirrors(list(wanted)), *shapes(points.n, voxel_size_A)]
    shell = search_shell(first, wanted)
    screen = Screen(hypotheses, first, shell=shell, reach_voxels=reach_voxels)
    screened = screen_all(some, screen, first)
    evidence = screened.evidence(screen.freedom)
    best = evidence.argmax(axis=1)
    subtracted = (np.arange(len(hypotheses)) == best[:, None]) & (evidence > LEAST_NATS)
    refined = refine(
        some,
        screened,
        subtracted,
        hypotheses,
        first,
        shell=shell,
        reach_voxels=reach_voxels,
        progress=counter(progress, "noise", int(subtracted.sum())),
    )

    def residuals() -> Iterator[torch.Tensor]:
        for at in _batches(len(rows)):
            x = first.transforms(some.read(at))  # (b, p)
            for column in np.unique(best[at][subtracted[at].any(axis=1)]):
                here = np.flatnonzero(subtracted[at, column])
                fitted = _fitted(hypotheses[column], refined, at[here], column, points)
                x[here] -= fitted
            yield x.abs().square()

    with torch.inference_mode():
        return even, Noise.from_power(usual_power(residuals, points), points, first.window)


def _fitted(
    hypothesis: Hypothesis,
    refined: Refined,
    rows: NDArray[np.int64],
    column: int,
    points: MeasuredPoints,
) -> torch.Tensor:
    """A structure's transforms (b, p) at the poses and amplitudes of some particles."""
    device = points.k.device
    R = torch.from_numpy(refined.rotations[rows, column]).to(device)
    s = torch.from_numpy(refined.shifts[rows, column]).to(device)
    amplitude = torch.from_numpy(refined.amplitude[rows, column]).to(device, torch.float32)
    reference = Reference.of(hypothesis.windowed, device)
    return reference.at(R, points) * points.phases(s) * amplitude[:, None]


def _batches(n: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, n, _BATCH):
        yield np.arange(first, min(first + _BATCH, n))
