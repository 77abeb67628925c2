"""Particles that look like others to a power spectrum and hold no structure."""

from __future__ import annotations

import numpy as np

from tomadapt.io.volumes import ArrayVolumes
from tomadapt.subtomograms import Subtomograms


def phase_randomised(data: Subtomograms, *, seed: int) -> Subtomograms:
    """Particles with the amplitudes of the given ones and the phases of white noise.

    This keeps the power spectrum and with it the missing wedge, and destroys the structure.
    """
    cubes = data.read(range(len(data))).numpy()
    noise = np.random.default_rng(seed).normal(size=cubes.shape)
    amplitude = np.abs(np.fft.fftn(cubes, axes=(1, 2, 3)))
    phase = np.fft.fftn(noise, axes=(1, 2, 3))
    mixed = np.fft.ifftn(amplitude * phase / np.abs(phase), axes=(1, 2, 3)).real
    return Subtomograms(ArrayVolumes(mixed.astype(np.float32), data.voxel_size_A))
