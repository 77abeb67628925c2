"""Subtomograms from particles that other programs exported as stacks of their tilt images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import ConfigError, InputError, TomadaptError
from tomadapt.inputs.particles import ArrayVolumes, Contrast, check_contrast
from tomadapt.io.particle_lists.model import ParticleList
from tomadapt.structures.resampling import require_box
from tomadapt.tomograms.extraction import Extraction, collected
from tomadapt.tomograms.relion_stacks import TiltStacks, open_tilt_stacks
from tomadapt.tomograms.tilt_geometry import MIRROR, TiltGeometry
from tomadapt.tomograms.tilt_inversion import SliceInversion

_FOR_CONTRAST = 100  # particles whose contrast is measured before all are reconstructed,
_FOR_CONTRAST_BYTES = 2**28  # or as many as fit into this
_OPERATORS = 2  # kept in memory: particles are mostly sorted by tilt series

FEWEST_IMAGES = 3
"""A particle that fewer images show is left out."""


@dataclass(frozen=True, eq=False)
class TiltStackExtraction(Extraction):
    """Cubes of particles that were 2D tilt stacks, in the frame of their tomograms.

    They are corrected for their contrast transfer, unless they are whitened: what ``acquisitions``
    say of defocus and exposure is how they were recorded, and shows in their noise alone.

    Attributes
    ----------
    inside
        All 1: images were cut out by another program, which filled what it did not have.
    particles
        All rows of the list, as it is in the file.
    rotations
        n rotations that turn the reference into the particle's pose in its cube; None where the
        file has none.
    images
        (n,) how many images each cube is made of.
    geometries
        By tomogram, as the cubes have it: mirrored where that was asked for.
    acquisitions
        By tomogram that has cubes: optics, mean defocus at its centre, tilt angles about y as the
        matrices have them, exposure.
    transfers
        By tomogram that has cubes: (n, n, n // 2 + 1), [kz, ky, kx ≥ 0], what of its particles is
        in the cubes; empty where cubes were corrected for that.
    """

    particles: ParticleList
    rotations: Rotation | None
    images: NDArray[np.int64]
    geometries: Mapping[str, TiltGeometry]
    acquisitions: Mapping[str, Acquisition]
    transfers: Mapping[str, NDArray[np.float32]]

    @property
    def tomograms(self) -> tuple[str, ...]:
        """The tomogram of each cube."""
        return tuple(self.particles.tomograms[row] for row in self.kept)

    @property
    def acquisition(self) -> Acquisition:
        """That of the tomogram with the most cubes: a set is described by one."""
        return self.acquisitions[Counter(self.tomograms).most_common(1)[0][0]]


def reconstruct_tilt_stacks(
    path: Path | str,
    *,
    tomograms: Path | str | None = None,
    contrast: Contrast,
    box: int | None = None,
    mirror: bool = False,
    whitened: bool = False,
    out: Path | str | None = None,
) -> TiltStackExtraction:
    """Reconstruct subtomograms from CTF-premultiplied 2D tilt stacks of RELION 5 or WarpTools.

    Each is reconstructed by direct Fourier inversion: its images are inserted as central slices at
    the directions of the tomogram's projection matrices, and divided by their summed squared
    amplitudes (CTF at the particle's depth, exposure, scale).

    Parameters
    ----------
    path
        The optimisation set, or the STAR file of the particles.
    tomograms
        The STAR file of the tomograms, where it is not in the optimisation set or beside the
        particles.
    contrast
        ``positive`` where protein is brighter than ice in the stacks, ``negative`` where it is
        darker; ``measure`` takes it for positive and refuses the particles when their centres are
        darker than their surroundings.
    box
        Edge of the cubes in voxels, at most that of the images, which is the default.
    mirror
        The series' tilt angles have the wrong sign, so that their tomograms are mirror images:
        cubes, poses and tilt angles are mirrored back along z. Images alone do not show it; a known
        structure does. (It happened where angles were inverted on import.)
    whitened
        Do not correct the contrast transfer, but make the noise equally strong wherever something
        was measured: see :meth:`~tomadapt.tomograms.tilt_inversion.SliceInversion.whitened`. What
        was let through is in ``transfers``. The box must be that of the images.
    out
        Write the cubes to this ``.npy`` file, one after another, instead of holding them in memory.

    Returns
    -------
    TiltStackExtraction
        In the frame of the tomogram, not turned into the particles' poses: beam along z, tilt axis
        along y, up to what the matrices have it off. The refined position of a particle is at
        voxel ``box // 2``.

    Raises
    ------
    ConfigError
        When an option cannot be used, the tomograms are not found, or the measured contrast is not
        the one assumed.
    InputError, MismatchError
        When the STAR files cannot be used, or none of the particles can.
    OutputError
        When ``out`` cannot be written; nothing is left behind.
    """
    if contrast not in ("measure", "positive", "negative"):
        raise ConfigError("contrast", expected="measure, positive or negative", got=repr(contrast))
    stacks = open_tilt_stacks(path, tomograms=tomograms)
    survey = _Survey.of(stacks)
    kept = np.array(sorted(survey.used), dtype=np.int64)
    if not len(kept):
        raise InputError(
            f"none of the {len(stacks.particles)} particles of {path} can be used",
            expected="stacks of tilt images",
            got="; ".join(list(survey.dropped.values())[:3]) or "no rows",
            remedy="mend the STAR file, or export the particles again",
        )
    edge = survey.side if box is None else box
    require_box("a particle", 0.0, stacks.voxel_size_A, edge)
    if edge > survey.side:
        raise ConfigError(
            "the box is larger than the images",
            expected=f"at most {survey.side} voxels",
            got=edge,
            remedy="export the particles with a larger box",
        )
    if whitened and edge != survey.side:
        raise ConfigError(
            "whitened cubes cannot be cut smaller",
            expected=f"the box of the images, {survey.side}",
            got=edge,
            remedy="leave the box out",
        )
    geometries = {k: g.mirrored() if mirror else g for k, g in stacks.geometries.items()}
    acquisitions = _acquisitions(stacks, survey, geometries)
    cubes = _Cubes(stacks, survey.side, edge, mirror, whitened, contrast)
    at_most = min(_FOR_CONTRAST, max(2, _FOR_CONTRAST_BYTES // (4 * edge**3)))
    first = np.stack([cubes.of(row) for row in kept[:at_most]])
    check_contrast(Path(path), Subtomograms(ArrayVolumes(first, stacks.voxel_size_A)), contrast)
    rest = map(cubes.of, kept[len(first) :])
    volumes = collected(chain(first, rest), count=len(kept), box=edge, out=out)
    rotations = stacks.particles.rotations
    if rotations is not None:
        matrices = rotations[kept].as_matrix()
        rotations = Rotation.from_matrix(MIRROR @ matrices @ MIRROR if mirror else matrices)
    return TiltStackExtraction(
        volumes,
        stacks.voxel_size_A,
        kept,
        np.ones(len(kept)),
        survey.dropped,
        np.zeros(len(kept)),
        particles=stacks.particles,
        rotations=rotations,
        images=np.array([len(survey.used[row]) for row in kept], dtype=np.int64),
        geometries=geometries,
        acquisitions=acquisitions,
        transfers=cubes.transfers(),
    )


@dataclass(frozen=True)
class _Survey:
    """What all stacks hold, looked at before any is reconstructed.

    Attributes
    ----------
    side
        Of the images.
    used
        By row that has a cube: which images of its tilt series.
    dropped
        By row that has none: why.
    """

    side: int
    used: dict[int, NDArray[np.int64]]
    dropped: dict[int, str]

    @classmethod
    def of(cls, stacks: TiltStacks) -> _Survey:
        """Read every stack once."""
        used, dropped, sides = {}, dict(stacks.rejected), {}
        for row in range(len(stacks.particles)):
            if row in dropped:
                continue
            try:
                images, index = stacks.images(row)
            except TomadaptError as error:
                dropped[row] = str(error)
                continue
            if not np.isfinite(images).all():
                dropped[row] = f"{stacks.files[row]} holds NaN or infinite pixels"
            elif len(images) < FEWEST_IMAGES:
                dropped[row] = f"{stacks.files[row]} has {len(images)} images that show it"
            else:
                used[row], sides[row] = index, images.shape[1]
        side = Counter(sides.values()).most_common(1)[0][0] if sides else 0
        for row in [row for row, other in sides.items() if other != side]:
            dropped[row] = f"{stacks.files[row]} has images of {sides[row]} pixels, not of {side}"
            del used[row]
        return cls(side, used, dict(sorted(dropped.items())))


def _acquisitions(
    stacks: TiltStacks, survey: _Survey, geometries: Mapping[str, TiltGeometry]
) -> dict[str, Acquisition]:
    """How each tomogram that has cubes was recorded, of the images that any of them uses."""
    used: dict[str, NDArray[np.bool_]] = {}
    for row, index in survey.used.items():
        name = stacks.particles.tomograms[row]
        used.setdefault(name, np.zeros(len(geometries[name]), dtype=bool))[index] = True
    found = {}
    for name, mask in used.items():
        try:
            found[name] = geometries[name].acquisition(name, mask)
        except ValueError as error:
            raise InputError(
                f"the tilt series {name} cannot be described",
                expected="at least three tilts between -90° and 90°, and the usual optics",
                got=str(error),
                remedy="check the STAR file of the tomograms, or leave its particles out",
            ) from error
    return found


class _Cubes:
    """Reconstructs one particle at a time; operators of tilt series are kept while in use."""

    def __init__(
        self,
        stacks: TiltStacks,
        side: int,
        edge: int,
        mirror: bool,
        whitened: bool,
        contrast: Contrast,
    ) -> None:
        self.stacks, self.side, self.edge = stacks, side, edge
        self.mirror, self.whitened = mirror, whitened
        self.sign = -1 if contrast == "negative" else 1
        self.power: dict[str, NDArray[np.float32]] = {}  # summed squared transfers by tomogram
        self.count: Counter[str] = Counter()
        self.operator = lru_cache(maxsize=_OPERATORS)(self._operator)

    def _operator(self, tomogram: str) -> SliceInversion:
        geometry = self.stacks.geometries[tomogram]
        seen = geometry.mirrored() if self.mirror else geometry
        return SliceInversion.for_projections(seen.projections, self.side)

    def of(self, row: int) -> NDArray[np.float32]:
        """The cube (d, d, d) of a row."""
        stacks, n = self.stacks, self.side
        geometry = stacks.geometry(row)
        extracted_A = stacks.extracted_A[row]
        found, index = stacks.images(row)
        images = np.zeros((len(geometry), n, n), dtype=np.float32)
        images[index] = found
        # The mirror image has the same images, and therefore the same amplitudes.
        amplitudes = geometry.amplitudes(n, stacks.voxel_size_A, extracted_A)
        amplitudes[np.setdiff1d(np.arange(len(geometry)), index)] = 0
        shift = (stacks.particles.coordinates_A[row] - extracted_A) / stacks.voxel_size_A
        if self.mirror:
            shift = MIRROR @ shift
        name = stacks.particles.tomograms[row]
        if self.whitened:
            volume, transfer = self.operator(name).whitened(images, amplitudes, shift=shift)
            self.power[name] = self.power.get(name, np.zeros_like(transfer)) + transfer**2
            self.count[name] += 1
        else:
            volume = self.operator(name)(images, amplitudes, shift=shift)
        first = n // 2 - self.edge // 2
        cut = slice(first, first + self.edge)
        return np.asarray(self.sign * volume[cut, cut, cut], dtype=np.float32)

    def transfers(self) -> dict[str, NDArray[np.float32]]:
        """By tomogram, the quadratic mean of what its particles so far have."""
        return {name: np.sqrt(power / self.count[name]) for name, power in self.power.items()}
