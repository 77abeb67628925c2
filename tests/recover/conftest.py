"""A structure without symmetry, and particles of it in known poses."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from tomadapt.acquisition import BATCH_A
from tomadapt.data.subtomograms import LabelledSubtomograms
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.simulate.dataset import SimulationConfig, make_templates, simulate_set

BLOBS = ((5.0, 1.0, 2.0, 1.0), (-4.0, 3.0, -2.0, 0.7), (0.0, -5.0, 3.0, 0.9), (2.0, 2.0, -6.0, 0.5))
"""x, y, z in voxels from the centre, and weight."""
SIGMA = 1.6


def phantom(n: int, rotation: NDArray | None = None, shift=(0.0, 0.0, 0.0)) -> NDArray[np.float32]:
    """Gaussians, turned and then moved, computed in real space."""
    r = np.arange(n) - n // 2
    z, y, x = np.meshgrid(r, r, r, indexing="ij")
    R = np.eye(3) if rotation is None else rotation
    volume = np.zeros((n, n, n))
    for *centre, weight in BLOBS:
        c = R @ np.array(centre) + np.array(shift)
        distance2 = (x - c[0]) ** 2 + (y - c[1]) ** 2 + (z - c[2]) ** 2
        volume += weight * np.exp(-distance2 / (2 * SIGMA**2))
    return volume.astype(np.float32)


@dataclass
class Planted:
    """Particles with known poses, and their structures."""

    data: LabelledSubtomograms
    rotations: NDArray[np.float32]
    shifts: NDArray[np.float32]
    templates: dict[str, NDArray[np.float32]]
    points: MeasuredPoints


@pytest.fixture(scope="session")
def planted(tmp_path_factory) -> Planted:
    """Two structures without symmetry and noise, 32³ voxels of 11.5 Å, batch A, SNR 0.1."""
    config = SimulationConfig(
        classes=["ribosome_30s", "spliceosome", "null"],
        acquisition=BATCH_A,
        per_class=24,
        snr=0.1,
        seed=11,
        box=32,
        voxel_size_A=11.5,
        resolution_A=11.5,
    )
    data = simulate_set(config, tmp_path_factory.mktemp("planted") / "set")
    table = data.source.particle_table()
    points = MeasuredPoints.of(BATCH_A, n=32, voxel_size_A=11.5)
    return Planted(data, table["rotations"], table["shifts"], make_templates(config), points)
