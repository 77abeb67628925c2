"""Tilt images of a density that is known exactly, in the files of WarpTools and of RELION 5.

Nothing here comes from the package: Gaussians are projected as they are, and the contrast transfer
is written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Doubles = NDArray[np.float64]

VOXEL_A = 12.0
PIXEL_A = 2.0
SIZE = np.array([1000, 1200, 400])  # of the tomogram, in pixels of the tilt series
CENTRE_A = SIZE * PIXEL_A / 2
KV, CS_MM, AC = 300.0, 2.7, 0.07

# x, y, z in voxels, weight: no symmetry, no mirror plane.
BLOBS = np.array(
    [
        [0.0, 0.0, 0.0, 1.0],
        [4.0, 0.5, 0.0, 1.0],
        [-1.0, 5.0, 1.0, 0.8],
        [0.0, -2.0, 4.5, 1.2],
        [-3.0, -3.0, -2.0, 0.6],
        [2.0, 2.0, -4.0, 0.9],
    ]
)
WIDTH = 1.0


def density(
    n: int, rotation: Rotation | None = None, shift: Sequence[float] = (0, 0, 0)
) -> Doubles:
    """(n, n, n) [z, y, x], the particle at n // 2 + shift (x, y, z in voxels)."""
    axis = np.arange(n) - n // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((n, n, n))
    for (a, b, c), weight in zip(_places(rotation, (0, 0, 0)), BLOBS[:, 3], strict=True):
        square = (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2
        volume += weight * np.exp(-square / (2 * WIDTH**2))
    return volume


def _places(rotation: Rotation | None, shift: Sequence[float]) -> Doubles:
    places = BLOBS[:, :3] if rotation is None else rotation.apply(BLOBS[:, :3])
    return np.asarray(places + np.asarray(shift))


@dataclass(frozen=True)
class Series:
    """A tilt series: angles about +y, and how its images lie in their plane."""

    tilts_deg: tuple[float, ...] = tuple(np.arange(-60.0, 60.1, 3.0).tolist())
    in_plane_deg: float = -85.0
    hand: float = -1.0
    exposure: bool = True
    scale: tuple[float, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.tilts_deg)

    @property
    def matrices(self) -> Doubles:
        """(t, 3, 3): the specimen turns about y, then the camera about z."""
        turns = [[0.0, tilt, self.in_plane_deg] for tilt in self.tilts_deg]
        return np.asarray(Rotation.from_euler("xyz", turns, degrees=True).as_matrix())

    @property
    def defocus_A(self) -> Doubles:
        """(t, 2) U and V; now the one is larger, now the other."""
        index = np.arange(len(self))
        return np.stack([28000 + 150.0 * index, 30500 + 20.0 * index], axis=1)

    @property
    def defocus_angle_deg(self) -> Doubles:
        return np.asarray(20.0 + 3.0 * np.arange(len(self)))

    @property
    def scales(self) -> Doubles:
        return np.asarray(self.scale or np.cos(np.deg2rad(self.tilts_deg)))

    @property
    def dose(self) -> Doubles:
        """Recorded outwards from the smallest tilt."""
        order = np.argsort(np.abs(np.asarray(self.tilts_deg)), kind="stable")
        dose = np.empty(len(self))
        dose[order] = 2.5 * np.arange(len(self)) if self.exposure else 0.0
        return dose

    def amplitudes(self, n: int, position_A: Doubles) -> Doubles:
        """(t, n, n) [ky, kx], unshifted: CTF, exposure and scale, as RELION has them."""
        k = np.fft.fftfreq(n, VOXEL_A)
        ky, kx = np.meshgrid(k, k, indexing="ij")
        k2 = kx**2 + ky**2
        wavelength = 12.2643 / np.sqrt(KV * 1e3 * (1 + KV * 1e3 * 0.978466e-6))
        depth_A = self.matrices[:, 2] @ (position_A - CENTRE_A)
        found = []
        with np.errstate(divide="ignore"):
            critical = 0.245 * np.sqrt(k2) ** -1.665 + 2.81
        for t in range(len(self)):
            u, v = self.defocus_A[t] + self.hand * depth_A[t]
            turned = np.arctan2(ky, kx) - np.deg2rad(self.defocus_angle_deg[t])
            defocus = (u + v) / 2 + (u - v) / 2 * np.cos(2 * turned)
            phase = np.pi * wavelength * defocus * k2
            phase -= np.pi / 2 * CS_MM * 1e7 * wavelength**3 * k2**2
            ctf = np.sin(phase + np.arcsin(AC))
            found.append(ctf * self.scales[t] * np.exp(-self.dose[t] / (2 * critical)))
        return np.stack(found)

    def images(
        self,
        n: int,
        position_A: Doubles,
        *,
        rotation: Rotation | None = None,
        shift: Sequence[float] = (0, 0, 0),
        noise: float = 0.0,
        seed: int = 0,
    ) -> NDArray[np.float32]:
        """(t, n, n) [y, x]: projections, recorded through the CTF and multiplied by it."""
        axis = np.arange(n) - n // 2
        y, x = np.meshgrid(axis, axis, indexing="ij")
        places = _places(rotation, shift)
        projected = np.zeros((len(self), n, n))
        for t, matrix in enumerate(self.matrices):
            for (a, b, _), weight in zip(places @ matrix.T, BLOBS[:, 3], strict=True):
                blob = np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * WIDTH**2))
                projected[t] += weight * np.sqrt(2 * np.pi) * WIDTH * blob
        amplitudes = self.amplitudes(n, position_A)
        recorded = amplitudes * np.fft.fft2(np.fft.ifftshift(projected, axes=(1, 2)))
        white = np.random.default_rng(seed).standard_normal(projected.shape)
        recorded = recorded + noise * np.fft.fft2(white)
        images = np.fft.ifft2(amplitudes * recorded).real
        return np.fft.fftshift(images, axes=(1, 2)).astype(np.float32)


@dataclass(frozen=True)
class Particle:
    """A particle of one tilt series."""

    position_A: tuple[float, float, float] = (900.0, 1300.0, 250.0)
    angles_deg: tuple[float, float, float] = (30.0, 70.0, -110.0)
    visible: tuple[bool, ...] | None = None
    origin_A: tuple[float, float, float] = (0.0, 0.0, 0.0)
    box_angles_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    noise: float = 0.0
    tomogram: str = "T_01"

    @property
    def rotation(self) -> Rotation:
        """From the reference into the tomogram; RELION's three angles describe the way back."""
        own = Rotation.from_euler("ZYZ", self.angles_deg, degrees=True).inv()
        return self.box * own

    @property
    def box(self) -> Rotation:
        """From RELION's subtomogram into the tomogram."""
        return Rotation.from_euler("ZYZ", self.box_angles_deg, degrees=True).inv()


def write_stack(path: Path, images: NDArray[np.float32], voxel_A: float = VOXEL_A) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.asarray(images, dtype=np.float32))
        file.set_image_stack()
        file.voxel_size = voxel_A


def loop(block: str, columns: dict[str, Sequence[object]]) -> str:
    head = "\n".join(f"_{label} #{n}" for n, label in enumerate(columns, start=1))
    rows = "\n".join("  ".join(map(str, row)) for row in zip(*columns.values(), strict=True))
    return f"\ndata_{block}\n\nloop_\n{head}\n{rows}\n\n"


def _optics(n: int) -> str:
    values = {
        "rlnOpticsGroup": 1,
        "rlnOpticsGroupName": "opticsGroup1",
        "rlnSphericalAberration": CS_MM,
        "rlnVoltage": KV,
        "rlnTomoTiltSeriesPixelSize": PIXEL_A,
        "rlnCtfDataAreCtfPremultiplied": 1,
        "rlnImageDimensionality": 2,
        "rlnTomoSubtomogramBinning": VOXEL_A / PIXEL_A,
        "rlnImagePixelSize": VOXEL_A,
        "rlnImageSize": n,
        "rlnAmplitudeContrast": AC,
    }
    return loop("optics", {label: [value] for label, value in values.items()})


def _per_image(series: Series) -> dict[str, Sequence[object]]:
    return {
        "rlnDefocusU": series.defocus_A[:, 0],
        "rlnDefocusV": series.defocus_A[:, 1],
        "rlnDefocusAngle": series.defocus_angle_deg,
        "rlnCtfScalefactor": series.scales,
        "rlnMicrographPreExposure": series.dose,
    }


def _general(names: Sequence[str], series: Series) -> dict[str, Sequence[object]]:
    count = len(names)
    return {
        "rlnTomoName": names,
        "rlnTomoSizeX": [SIZE[0]] * count,
        "rlnTomoSizeY": [SIZE[1]] * count,
        "rlnTomoSizeZ": [SIZE[2]] * count,
        "rlnTomoHand": [series.hand] * count,
        "rlnTomoTiltSeriesPixelSize": [PIXEL_A] * count,
        "rlnVoltage": [KV] * count,
        "rlnSphericalAberration": [CS_MM] * count,
        "rlnAmplitudeContrast": [AC] * count,
    }


def _text(values: Sequence[bool]) -> str:
    return f"[{','.join(str(int(value)) for value in values)}]"


def write_warp(folder: Path, n: int, series: Series, particles: Sequence[Particle]) -> Path:
    """An export of WarpTools: matrices in one file, stacks with all images, binned coordinates."""
    names = sorted({f"{particle.tomogram}.tomostar" for particle in particles})
    rows: dict[str, list[object]] = {label: [] for label in _PARTICLE_LABELS}
    for number, particle in enumerate(particles, start=1):
        stack = f"stacks/{particle.tomogram}_{number:06d}.mrcs"
        position = np.array(particle.position_A)
        images = series.images(
            n, position, rotation=particle.rotation, noise=particle.noise, seed=number
        )
        visible = particle.visible or (True,) * len(series)
        images[~np.array(visible)] = 0
        write_stack(folder / stack, images)
        values = [f"{particle.tomogram}.tomostar", *(position / VOXEL_A), *particle.angles_deg]
        values += [1, stack, "0.0", "0.0", "0.0", _text(visible)]
        for label, value in zip(_PARTICLE_LABELS, values, strict=True):
            rows[label].append(value)
    general = "\ndata_general\n\n_rlnTomoSubTomosAre2DStacks   1\n\n"
    star = folder / "matching.star"
    star.write_text(general + _optics(n) + loop("particles", rows), encoding="utf-8")
    matrices = {
        f"rlnTomoProj{axis}": [f"[{','.join(map(str, m[row]))},0]" for m in series.matrices]
        for row, axis in enumerate("XYZ")
    }
    table = {**matrices, "rlnTomoProjW": ["[0,0,0,1]"] * len(series), **_per_image(series)}
    tomograms = loop("global", _general(names, series)) + "".join(loop(k, table) for k in names)
    (folder / "matching_tomograms.star").write_text(tomograms, encoding="utf-8")
    chosen = folder / "matching_optimisation_set.star"
    chosen.write_text(
        "\ndata_\n\n_rlnTomoParticlesFile   matching.star\n"
        "_rlnTomoTomogramsFile   matching_tomograms.star\n",
        encoding="utf-8",
    )
    return chosen


_PARTICLE_LABELS = (
    "rlnTomoName",
    *(f"rlnCoordinate{axis}" for axis in "XYZ"),
    "rlnAngleRot",
    "rlnAngleTilt",
    "rlnAnglePsi",
    "rlnOpticsGroup",
    "rlnImageName",
    *(f"rlnOrigin{axis}Angst" for axis in "XYZ"),
    "rlnTomoVisibleFrames",
)


def write_relion5(project: Path, n: int, series: Series, particles: Sequence[Particle]) -> Path:
    """An Extract job of RELION 5: angles, a file a tilt series, only visible images, shifts."""
    job = project / "Extract" / "job007"
    rows: dict[str, list[object]] = {
        label.replace("rlnCoordinate", "rlnCenteredCoordinate")
        + ("Angst" if label.startswith("rlnCoordinate") else ""): []
        for label in _PARTICLE_LABELS
    }
    box_labels = [f"rlnTomoSubtomogram{name}" for name in ("Rot", "Tilt", "Psi")]
    rows |= {label: [] for label in box_labels}
    for number, particle in enumerate(particles, start=1):
        stack = f"Extract/job007/Subtomograms/{particle.tomogram}/{number}_stack2d.mrcs"
        position = np.array(particle.position_A)
        # The particle lies at minus the shift, turned as its box, from its images' centre.
        shift = -particle.box.apply(particle.origin_A) / VOXEL_A
        images = series.images(n, position, rotation=particle.rotation, shift=shift)
        visible = particle.visible or (True,) * len(series)
        write_stack(project / stack, images[np.array(visible)])
        values = [particle.tomogram, *(position - CENTRE_A), *particle.angles_deg, 1, stack]
        values += [*particle.origin_A, _text(visible), *particle.box_angles_deg]
        for column, value in zip(rows.values(), values, strict=True):
            column.append(value)
    names = sorted({particle.tomogram for particle in particles})
    table = {
        "rlnTomoXTilt": [0.0] * len(series),
        "rlnTomoYTilt": series.tilts_deg,
        "rlnTomoZRot": [series.in_plane_deg] * len(series),
        **_per_image(series),
    }
    general = _general(names, series)
    general["rlnTomoTiltSeriesStarFile"] = [f"Extract/job007/tilt_series/{k}.star" for k in names]
    (job / "tilt_series").mkdir(parents=True)
    for name in names:
        (job / "tilt_series" / f"{name}.star").write_text(loop(name, table), encoding="utf-8")
    (job / "tomograms.star").write_text(loop("global", general), encoding="utf-8")
    flag = "\ndata_general\n\n_rlnTomoSubTomosAre2DStacks   1\n\n"
    star = job / "particles.star"
    star.write_text(flag + _optics(n) + loop("particles", rows), encoding="utf-8")
    return star
