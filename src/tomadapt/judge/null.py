"""The evidence that structures find in pure noise, which is subtracted from all evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.data.subtomograms import Indices
from tomadapt.judge.noise import Noise
from tomadapt.judge.refine import refine
from tomadapt.judge.screen import Screen, screen_all

_NOISE_CUBES = 32


@dataclass(frozen=True, eq=False)
class Held:
    """Cubes in memory."""

    volumes: torch.Tensor

    def __len__(self) -> int:
        """Give their number."""
        return len(self.volumes)

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, n, n, n) float32."""
        return self.volumes[np.asarray(indices)]


def evidence_in_noise(
    screen: Screen, noises: tuple[Noise, Noise], *, reach_voxels: float, seed: int
) -> NDArray[np.float64]:
    """(w,) evidence that each wanted structure finds in noise, in nats; it is worth nothing.

    The screen's evidence is a mean over poses, but local refinement takes a maximum, which is
    positive in noise too. A likelihood ratio must have the mean 1 in noise. For evidence that is
    normal there, with mean m and variance v, this holds after subtracting m + v / 2.

    Parameters
    ----------
    screen
        The screen of wanted structures and, after them, their mirror images.
    noises
        The noise of the screen, and the noise with the measured envelope.
    reach_voxels
        How far particles may lie from their cubes' centres.
    seed
        Seed of the simulated noise.
    """
    noise, seen = noises
    cubes = Held(noise.sample(_NOISE_CUBES, seed=seed))
    screened = screen_all(cubes, screen, noise)
    n_wanted = len(screen.names) // 2  # their mirror images follow
    pairs = np.zeros((len(cubes), len(screen.names)), dtype=bool)
    pairs[:, :n_wanted] = True
    refined = refine(
        cubes,
        screened,
        pairs,
        screen.hypotheses,
        seen,
        shell=screen.shell,
        reach_voxels=reach_voxels,
    )
    found = (refined.log_likelihood_ratio() + screened.occam)[:, :n_wanted]
    return np.asarray(found.mean(axis=0) + found.var(axis=0) / 2)
