"""Particles that come without the noise between them: it is measured in the particles themselves.

A tomogram has noise between its particles. A stack of cubes has none: the power of the cubes is
that of noise and particles together, several times that of noise at low frequencies. So the
structure that explains each particle best is subtracted, and the noise is measured in what remains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import Indices
from tomadapt.judge.groups import Some
from tomadapt.judge.judge import JudgeOptions, counter, judge
from tomadapt.judge.noise import MAX_CUBES, Cubes, Noise, usual_power, windowed_transforms
from tomadapt.judge.refine import Refined, refine
from tomadapt.judge.rivals import Hypothesis, mirrors, shapes
from tomadapt.judge.rows import batches, evenly_spaced
from tomadapt.judge.screen import Screen, screen_all, search_shell
from tomadapt.judge.verdicts import Verdicts
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.reference import Reference

SAMPLE = 128
"""Particles in which the noise is measured."""
LEAST_NATS = 3.0
"""Structures with less evidence are not subtracted: in pure noise the best pose has about this."""
LEAST_POWER = 1e-3
"""Shells hold no noise whose power is below this fraction of the strongest one's, and cubes whose
power is below this fraction of the median."""
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
        """Scale cubes by their power in the upper third of the shells that hold noise.

        Particles are weak there, in comparison with noise. A cube's power is the median over the
        points, on which the sharp edges of gold and ice have little influence. A cube with next to
        no power, such as a blank one, is left as it is.
        """

        def power(rows: NDArray[np.int64]) -> torch.Tensor:
            return noise.transforms(cubes.read(rows)).abs().square()  # (b, p)

        shell = noise.points.shell
        sample = batches(evenly_spaced(len(cubes), SAMPLE), _BATCH)
        at_points = torch.cat([power(rows) for rows in sample]).quantile(0.5, dim=0)  # (p,)
        sums = torch.zeros(int(shell.max()) + 1, device=shell.device)
        counts = sums.index_add(0, shell, torch.ones_like(at_points)).clamp_min(1)
        usual = sums.index_add(0, shell, at_points) / counts  # (shells,)
        if not float(usual.max()) > 0:  # most cubes are blank
            return cls(cubes, torch.ones(len(cubes)))
        noisy = torch.nonzero(usual > LEAST_POWER * usual.max()).flatten()
        high = torch.isin(shell, noisy[len(noisy) * 2 // 3 :])
        expected = usual[shell[high]]
        level = torch.cat(
            [
                (power(rows)[:, high] / expected).quantile(0.5, dim=1)
                for rows in batches(len(cubes), _BATCH)
            ]
        ).cpu()
        factor = torch.where(level < LEAST_POWER, 1.0, level.clamp_min(1e-20).rsqrt())
        return cls(cubes, factor)


def judge_particles(
    cubes: Cubes,
    wanted: Sequence[Hypothesis],
    noise: Noise,
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
    noise
        Measured in these cubes as if there were no particles in them.
    acquisition, voxel_size_A, options, progress
        As for :func:`~tomadapt.judge.judge.judge`.
    """
    options = options or JudgeOptions()
    even, residual_noise = particle_noise(
        cubes,
        wanted,
        noise,
        voxel_size_A=voxel_size_A,
        reach_voxels=options.reach(noise.points.n),
        progress=progress,
    )
    return judge(
        even,
        wanted,
        residual_noise,
        acquisition=acquisition,
        voxel_size_A=voxel_size_A,
        options=options,
        progress=progress,
    )


def particle_noise(
    cubes: Cubes,
    wanted: Sequence[Hypothesis],
    noise: Noise,
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
    noise
        Measured in these cubes as if there were no particles in them.
    voxel_size_A
        Of the cubes, in Å.
    reach_voxels
        Largest shift of particles from their cubes' centres.
    progress
        Called with the stage, the number of finished steps and their total.

    Returns
    -------
    even, residual_noise
        The cubes with equal power of noise, and this noise.
    """
    points = noise.points
    even = EvenCubes.of(cubes, noise)
    first = Noise.of(even, points)
    rows = evenly_spaced(len(cubes), SAMPLE)
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

    power = []
    with torch.inference_mode():
        for at in batches(len(rows), _BATCH):
            x = first.transforms(some.read(at))  # (b, p)
            for column in np.unique(best[at][subtracted[at].any(axis=1)]):
                here = np.flatnonzero(subtracted[at, column])
                x[here] -= _fitted(hypotheses[column], refined, at[here], column, points)
            power.append(x.abs().square())
        usual = usual_power(torch.cat(power), points)
    return even, Noise.from_power(usual, points, first.window)


def noise_share(even: EvenCubes, noise: Noise) -> NDArray[np.float64]:
    """The part of the cubes' power in each shell that is noise.

    The noise is known in the window. What else there is in the window is the particle, which the
    window does not cut; so the whole cube has the same of it, and more noise.

    Parameters
    ----------
    even, noise
        From :func:`particle_noise`.

    Returns
    -------
    ndarray
        (n // 2 + 1,), 0 to 1, of whole cubes without the window. Shells without measured points
        have the value of the last one that has some.
    """
    points = noise.points
    windowed = Noise.of(even, points)
    rows = batches(evenly_spaced(len(even), MAX_CUBES), _BATCH)
    everywhere = torch.ones_like(noise.window)
    whole = torch.cat(
        [windowed_transforms(even.read(some), points, everywhere).abs().square() for some in rows]
    )
    particle = (windowed.power - noise.power) * noise.kept
    shell = points.shell.cpu().numpy()
    places = np.unique(shell)
    of_all, of_particle = (
        np.array([power.cpu().numpy()[shell == place].mean() for place in places])
        for power in (usual_power(whole, points), particle)
    )
    shares = 1 - of_particle / np.maximum(of_all, np.finfo(float).tiny)
    each = np.interp(np.arange(points.n // 2 + 1), places, shares)
    return np.asarray(each.clip(LEAST_POWER, 1.0))


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
