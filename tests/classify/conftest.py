"""A simulated tomogram with planted particles, shared by the tests of `classify`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tomadapt.acquisition import Acquisition
from tomadapt.simulate.tomogram import TomogramConfig, simulate_tomogram, write_planted

VOXEL_A = 15.0
CLASSES = ("ribosome_80s", "apoferritin")


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    config = TomogramConfig(
        classes=list(CLASSES),  # type: ignore[arg-type]
        counts={"ribosome_80s": 24, "apoferritin": 40},
        acquisition=Acquisition(name="true", defocus_um=4.2),
        shape_zyx=(48, 140, 141),
        snr=0.1,
        seed=5,
        box=28,
        voxel_size_A=VOXEL_A,
        resolution_A=VOXEL_A,
    )
    write_planted(simulate_tomogram(config), folder)
    return folder
