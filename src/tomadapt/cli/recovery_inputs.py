"""What the commands of the recovery are given: particles, classes, recording, maps and masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from tomadapt.cli.options import open_unlabelled, warn, warn_of_overfocus

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from tomadapt.data.subtomograms import Subtomograms
    from tomadapt.recover.fourier import MeasuredPoints
    from tomadapt.recover.recording import Recording


def read_particles(
    path: Path, voxel_size: float | None, contrast: str, snr: float | None
) -> tuple[Subtomograms, list[str] | None]:
    """Particles, and their classes where the file is one of classified particles."""
    from tomadapt.recover.labels import classified_particles, require_same_cubes

    if path.suffix != ".star":
        data: Subtomograms = open_unlabelled(path, voxel_size, contrast, snr)
        return data, None
    folder, rows, names = classified_particles(path)
    data = open_unlabelled(folder, voxel_size, contrast, snr)
    _require_rows(path, rows, len(data))
    require_same_cubes(path, data)
    return data.subset(rows), names


def _require_rows(path: Path, rows: list[int], n: int) -> None:
    from tomadapt.errors import MismatchError

    wrong = [row + 1 for row in rows if not 0 <= row < n]
    if wrong:
        raise MismatchError(
            f"{path} does not belong to the subtomograms beside it",
            expected=f"numbers from 1 to {n}",
            got=wrong[0],
            remedy="run `tomadapt classify` again",
        )


def of_classes(
    data: Subtomograms, names: list[str], wanted: list[str] | None
) -> tuple[Subtomograms, list[str]]:
    from tomadapt.errors import ConfigError
    from tomadapt.recover.labels import UNLISTED
    from tomadapt.simulate.simulator import NULL_CLASS

    if not wanted:  # what nobody named may be a mixture: it is averaged when it is asked for
        return data, [NULL_CLASS if name in UNLISTED else name for name in names]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigError(
            f"no particle has the class {unknown[0]!r}",
            expected=f"one of {', '.join(sorted(set(names)))}",
            remedy="mend --class",
        )
    rows = [row for row, name in enumerate(names) if name in wanted]
    return data.subset(rows), [names[row] for row in rows]


def resolve_acquisition(
    data: Subtomograms,
    tilt_range: tuple[float, float] | None,
    tilt_step: float | None,
    optics: tuple[float | None, float | None, float | None, float | None],
    device: torch.device,
) -> tuple[Recording, MeasuredPoints]:
    """Print how the particles were recorded; warn when their spectrum contradicts it."""
    from tomadapt.recover.recording import StatedRecording, contradiction, recording_of

    found = recording_of(data, StatedRecording(tilt_range, tilt_step, *optics))
    warn_of_overfocus(found.acquisition.defocus_um)
    if tilt_range is not None and (said := contradiction(data, found)):
        warn(said)
    typer.echo("; ".join(f"{name} {value}" for name, value in found.summary.items()), err=True)
    return found, found.points(data, device=device)


def read_mask(
    stated: str, data: Subtomograms
) -> tuple[Literal["map", "sphere"], NDArray[np.float32] | None]:
    """The kind of mask, and the mask itself where it is a file."""
    from tomadapt.errors import ConfigError

    if stated in ("map", "sphere"):
        return "map" if stated == "map" else "sphere", None
    if not Path(stated).is_file():
        raise ConfigError(
            f"unknown mask {stated!r}",
            expected="map, sphere or a file (.mrc)",
            got="no such file",
            remedy="mend --mask",
        )
    soft = _on_particles_grid(Path(stated), data, require=_require_mask)
    return "map", soft.clip(0, 1)


def _require_mask(volume: NDArray[np.float32], path: Path) -> None:
    from tomadapt.errors import InputError

    if volume.min() < -0.01 or not 0.5 < volume.max() < 1.01:
        raise InputError(
            f"{path} is no mask",
            expected="values from 0 to 1",
            got=f"{volume.min():.3g} to {volume.max():.3g}",
            remedy="give a mask with a soft edge, or --mask map",
        )


def read_density(path: Path, data: Subtomograms) -> NDArray[np.float32]:
    """A reference on the particles' grid."""
    return _on_particles_grid(path, data, require=_require_positive)


def _require_positive(volume: NDArray[np.float32], path: Path) -> None:
    """Refuse a map whose density is dark: what stands out of it is below its mean."""
    from scipy.stats import skew

    from tomadapt.errors import InputError

    if (found := float(skew(volume, axis=None))) < -0.5:
        raise InputError(
            f"the density of {path} is negative",
            expected="a map whose density is above its surroundings",
            got=f"values that stand out downwards (skewness {found:.1f})",
            remedy="multiply the map by -1",
        )


def _on_particles_grid(
    path: Path, data: Subtomograms, *, require: Callable[[NDArray[np.float32], Path], None]
) -> NDArray[np.float32]:
    """A map as it is required to be, resampled where its voxel size is another."""
    import math

    from tomadapt.structures.maps import read_map
    from tomadapt.structures.resampling import resample

    volume, voxel_A = read_map(path)
    require(volume, path)
    if math.isnan(voxel_A):
        warn(f"{path} does not say its voxel size; it is taken as the particles'")
        voxel_A = data.voxel_size_A
    return resample(volume, voxel_A, to_voxel_size_A=data.voxel_size_A, box=data.box)
