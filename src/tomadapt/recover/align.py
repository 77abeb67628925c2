"""Alignment of subtomograms to a reference: a grid search, then local refinement of the best poses.

Particle and reference are compared only at the Fourier points where the particle was measured,
after multiplying the reference by the particle's transfer function (constrained correlation:
Förster et al. 2008, J. Struct. Biol. 161, 276). All rotations and shifts of a grid are tried at low
resolution in one matrix product. The best few are then refined by Fisher scoring, first at low and
then at full resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import ConfigError, MismatchError
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.local_refinement import PoseCandidates, best_of, refine_locally
from tomadapt.recover.poses import GridPoses, Poses
from tomadapt.recover.reference import Reference
from tomadapt.recover.rotations import rotation_grid


class AlignmentOptions(BaseModel):
    """Options of the grid search and of the refinement after it.

    Parameters
    ----------
    step_deg
        Angular step of the grid of rotations, in degrees.
    max_shift_voxels
        Largest shift along each axis, from the box's centre; an eighth of the box when None.
    shift_step_voxels
        Step of the grid of shifts, see :func:`shift_grid`. When None, it is chosen so that every
        shift is within a quarter of the wavelength of the search's highest shell from the grid.
    search_shell
        The highest shell of the search, in Fourier voxels; a fifth of the box when None.
    max_shell
        The highest shell of the refinement; the last below Nyquist when None.
    candidates, finalists
        How many rotations are refined at low and at full resolution.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    step_deg: Annotated[float, Field(ge=5, le=60)] = 15.0
    max_shift_voxels: Annotated[float, Field(ge=0)] | None = None
    shift_step_voxels: Annotated[float, Field(gt=0)] | None = None
    search_shell: Annotated[int, Field(ge=2)] | None = None
    max_shell: Annotated[int, Field(ge=2)] | None = None
    candidates: Annotated[int, Field(ge=1, le=64)] = 6
    finalists: Annotated[int, Field(ge=1, le=64)] = 2


_MAX_GRID_BYTES = 2e9
"""Largest memory of the rotated references and scores of a search."""


def shift_grid(reach_voxels: float, step_voxels: float) -> NDArray[np.float32]:
    """Shifts on a body-centred cubic lattice, the lattice that covers space with fewest points.

    Parameters
    ----------
    reach_voxels
        Largest shift along each axis.
    step_voxels
        Side of the lattice's cubic cells, which have a point at each corner and one in the centre.
        Every shift within reach is at most 0.56 of this away from a point of the lattice.

    Returns
    -------
    ndarray
        (s, 3) float32, (x, y, z) in voxels; the zero shift is one of them.
    """
    half = step_voxels / 2
    count = int(np.ceil(reach_voxels / half - 1e-6))
    line = np.arange(-count, count + 1)
    x, y, z = np.meshgrid(line, line, line, indexing="ij")
    # Corners have even and centres odd coordinates, in halves of a step.
    kept = ((x - y) % 2 == 0) & ((x - z) % 2 == 0)
    points = np.stack([x[kept], y[kept], z[kept]], axis=1) * half  # (s, 3)
    return np.clip(points, -reach_voxels, reach_voxels).astype(np.float32)


def _require_memory(rotations: int, shifts: int, points: int) -> None:
    """Raise ConfigError when the arrays of a search would be too large."""
    needed = 4.0 * rotations * max(2 * points, shifts)
    if needed > _MAX_GRID_BYTES:
        raise ConfigError(
            "the search's grid does not fit into memory",
            expected=f"at most {_MAX_GRID_BYTES / 1e9:g} GB",
            got=f"{needed / 1e9:.1f} GB for {rotations} rotations and {shifts} shifts",
            remedy="search in larger angular steps; the best rotations are refined below them",
        )


class Aligner:
    """Aligns particles of one acquisition to one reference.

    Parameters
    ----------
    density
        (d, d, d) reference, [z, y, x], at the particles' voxel size and without CTF.
    points
        Where the particles were measured.
    power
        (n // 2,) noise power in shells, from :func:`~tomadapt.recover.fourier.shell_power`.
    options
        See :class:`AlignmentOptions`.

    Raises
    ------
    ConfigError
        When the grid of rotations and shifts would not fit into memory.
    """

    def __init__(
        self,
        density: NDArray[np.float32] | torch.Tensor,
        points: MeasuredPoints,
        power: torch.Tensor,
        options: AlignmentOptions | None = None,
    ) -> None:
        self.options = options = options or AlignmentOptions()
        n, device = points.n, points.k.device
        highest = n // 2 - 1
        top = min(options.max_shell or highest, highest)
        self.fine = points.up_to(top)
        self.search_shell = min(options.search_shell or round(n / 5), top)
        self.coarse = points.up_to(self.search_shell)
        self.fine_weight = self.fine.multiplicity / power[self.fine.shell]
        self.coarse_weight = self.coarse.multiplicity / power[self.coarse.shell]
        self.reference = Reference.of(density, device)
        reach = n / 8 if options.max_shift_voxels is None else options.max_shift_voxels
        self.reach = reach
        step = options.shift_step_voxels or 0.4 * n / self.search_shell
        self.shifts = torch.from_numpy(shift_grid(reach, step)).to(device)  # (s, 3)
        rotations = rotation_grid(options.step_deg)
        _require_memory(len(rotations), len(self.shifts), len(self.coarse.index))
        self.rotations = torch.from_numpy(rotations).to(device)
        self.bank = self._bank()  # (m, 2 p), real numbers
        self.unshift = self.coarse.phases(-self.shifts)  # (s, p)
        # The grid's scores (m, b, s) are the largest array: 25 million float32 are 100 MB.
        self.batch = max(1, min(32, 25_000_000 // (len(self.rotations) * len(self.shifts))))

    def _bank(self) -> torch.Tensor:
        """(m, 2 p) the reference in all rotations, whitened, each row of norm 1."""
        parts = []
        for first in range(0, len(self.rotations), 256):
            some = self.rotations[first : first + 256]
            seen = self.reference.at(some, self.coarse) * self.coarse_weight.sqrt()  # (256, p)
            parts.append(torch.view_as_real(seen).flatten(1))  # (256, 2 p)
        bank = torch.cat(parts)
        return bank.div_(bank.norm(dim=1, keepdim=True).clamp_min(1e-20))

    def __call__(self, cubes: torch.Tensor, initial_poses: Poses | None = None) -> Poses:
        """Align some particles.

        Parameters
        ----------
        cubes
            (b, n, n, n) float32, density positive.
        initial_poses
            Poses to refine; the whole grid is searched when None.
        """
        x = self.fine.transforms(cubes.to(self.fine.k.device))  # (b, p of the fine points)
        at_coarse = x[:, self.fine.shell <= self.search_shell]  # (b, p of the coarse points)
        if initial_poses is None:
            found = self._refine(
                at_coarse, *self.search(at_coarse), self.coarse, self.coarse_weight
            )
            rotations, shifts = found[:2]
        else:
            rotations = torch.from_numpy(initial_poses.rotations).to(x.device)
            shifts = torch.from_numpy(initial_poses.shifts).to(x.device)
        found = self._refine(x, rotations, shifts, self.fine, self.fine_weight)
        return Poses(*(t.cpu().numpy() for t in found))

    def _refine(
        self,
        x: torch.Tensor,
        rotations: torch.Tensor,
        shifts: torch.Tensor,
        points: MeasuredPoints,
        weight: torch.Tensor,
    ) -> PoseCandidates:
        found = refine_locally(
            self.reference, x, rotations, shifts, points=points, weight=weight, reach=self.reach
        )
        return best_of(found, self.options.finalists)

    def search(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The best few rotations of the grid that are no neighbours of each other, with shifts.

        Parameters
        ----------
        x
            (b, p) transforms at the coarse points.

        Returns
        -------
        rotations, shifts
            (b, c, 3, 3) and (b, c, 3).
        """
        best, shift = self._grid_scores(x).max(dim=2)  # (m, b) each: the best shift of a rotation
        c = self.options.candidates
        order = best.topk(min(6 * c, len(best)), dim=0).indices.T  # (b, 6 c)
        rows = torch.stack([self._apart(row, c) for row in order]).to(x.device)  # (b, c)
        return self.rotations[rows], self.shifts[shift.T.gather(1, rows)]

    def likeliest(self, x: torch.Tensor, count: int) -> GridPoses:
        """The likeliest poses of the grid with their probabilities; neighbours may be among them.

        Parameters
        ----------
        x
            (b, p) transforms at the coarse points.
        count
            How many poses of each particle.
        """
        scores = self._grid_scores(x).transpose(0, 1).flatten(1)  # (b, m s)
        best, at = scores.topk(min(count, scores.shape[1]), dim=1)  # (b, count) each
        log_likelihood_ratios = best.clamp_min(0).square() / 2
        s = len(self.shifts)
        return GridPoses(
            self.rotations[at // s],
            self.shifts[at % s],
            log_likelihood_ratios.softmax(dim=1),
            log_likelihood_ratios[:, 0],
        )

    def _grid_scores(self, x: torch.Tensor) -> torch.Tensor:
        """(m, b, s) correlation of every rotation and shift, in standard deviations of noise."""
        whitened = x * self.coarse_weight.sqrt()  # (b, p)
        # A complex correlation's real part is the scalar product of (real, imaginary) vectors. So
        # one real product of (m, 2 p) and (2 p, b s) compares all rotations with all shifts.
        moved = torch.view_as_real(whitened[:, None] * self.unshift).flatten(2)  # (b, s, 2 p)
        return (self.bank @ moved.flatten(0, 1).T).view(-1, len(x), len(self.shifts))

    def _apart(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """The first ``count`` of some rotations (r,) of which no two are neighbours: (count,)."""
        rotations = self.rotations[rows]
        # The angle of R_a⁻¹ R_b, from its trace.
        cosine = (torch.einsum("aij,bij->ab", rotations, rotations) - 1) / 2  # (r, r)
        near = (cosine > np.cos(np.radians(1.5 * self.options.step_deg))).cpu()
        kept: list[int] = []
        for i in range(len(rows)):
            if not any(near[i, j] for j in kept):
                kept.append(i)
            if len(kept) == count:
                break
        # With too few of those, the next best fill up: every particle gets the same number.
        rest = [i for i in range(len(rows)) if i not in kept]
        return rows[(kept + rest)[:count]]


def align(
    data: Subtomograms,
    aligner: Aligner,
    *,
    initial_poses: Poses | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Poses:
    """Align all particles, batch by batch.

    Parameters
    ----------
    data
        Particles; they are read when they are needed.
    aligner
        The reference and the search's options.
    initial_poses
        (n, c) poses to refine; the whole grid is searched when None.
    progress
        Called with the number of particles of each finished batch.

    Raises
    ------
    MismatchError
        When the particles have another box than the aligner's points.
    """
    if data.box != aligner.fine.n:
        raise MismatchError(
            "the particles have another box than what they are aligned with",
            expected=f"{aligner.fine.n} voxels",
            got=data.box,
            remedy="measure points of the particles' own box",
        )
    parts: list[Poses] = []
    with torch.inference_mode():
        for first in range(0, len(data), aligner.batch):
            rows = range(first, min(first + aligner.batch, len(data)))
            some = None if initial_poses is None else initial_poses.take(rows)
            parts.append(aligner(data.read(rows), some))
            progress(len(rows))
    return Poses.joined(parts)
