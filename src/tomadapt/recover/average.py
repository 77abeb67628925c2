"""Average of one class: two independently refined half maps, their FSC, and the full map.

The two halves share an initial model of low resolution and nothing else (Scheres & Chen 2012, Nat.
Methods 9, 853). Above its resolution their FSC therefore measures agreement of independent data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import InputError
from tomadapt.fsc import Volume, half_map_fsc
from tomadapt.recover.align import Aligner, AlignmentOptions, align
from tomadapt.recover.averaging_state import Average, RefinementState, spectral_snr
from tomadapt.recover.fourier import MeasuredPoints, shell_power
from tomadapt.recover.fourier_sum import FourierSum
from tomadapt.recover.initial_model import initial_model
from tomadapt.recover.mask import particle_mask, whole_box_mask
from tomadapt.recover.poses import Poses
from tomadapt.recover.rotations import symmetry_group
from tomadapt.recover.symmetry import rotate_volume, symmetry_axes

MIN_PARTICLES = 4
"""Particles: two in each half."""


class AveragingOptions(BaseModel):
    """Options of the averaging of one class.

    Parameters
    ----------
    symmetry
        A point group (C1, C4, D7, O, …).
    iterations
        Most iterations of the refinement; it ends earlier when poses and resolution are stable.
    starts
        Starts from random poses, used without a template.
    alignment
        Options of the pose search.
    mask
        ``map``: a mask around the particle in the middle, made from the map of each iteration,
        without its neighbours; ``sphere``: a soft sphere of 0.45 of the box.
    seed
        Seed of the half sets, the random poses and the FSC's random phases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    symmetry: str = "C1"
    iterations: Annotated[int, Field(ge=1, le=50)] = 5
    starts: Annotated[int, Field(ge=1, le=50)] = 2
    alignment: AlignmentOptions = AlignmentOptions()
    mask: Literal["map", "sphere"] = "map"
    seed: Annotated[int, Field(ge=0)] = 0


def average(
    data: Subtomograms,
    points: MeasuredPoints,
    options: AveragingOptions,
    *,
    template: Volume | None = None,
    mask: Volume | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Average:
    """Average particles of one class, from a template or from random poses.

    Parameters
    ----------
    data
        The particles; they are read batch by batch.
    points
        Where they were measured.
    options
        See :class:`AveragingOptions`.
    template
        (n, n, n) map that serves as the initial model; only its low frequencies are used.
    mask
        (n, n, n), 0 … 1 with a soft edge, in the template's frame; replaces ``options.mask``.
    checkpoint
        File in which the state is kept after each iteration; an interrupted average continues from
        it. The caller must make sure that it belongs to the same particles and options
        (:func:`~tomadapt.recover.averages.average_classes` does).
    progress
        Called with numbers of finished iterations, at most ``options.iterations + 1`` in all.

    Raises
    ------
    InputError
        When there are fewer than four particles.
    ConfigError
        When the symmetry has an unknown name.
    """
    if len(data) < MIN_PARTICLES:
        raise InputError(
            "too few particles to average", expected=f"at least {MIN_PARTICLES}", got=len(data)
        )
    group = symmetry_group(options.symmetry)
    power = shell_power(data, points)
    members = _halves(len(data), options.seed)
    state = RefinementState.read(checkpoint)
    if state is None:
        shell = shared_shell(points.n, options)
        reference = template
        if reference is None:
            reference = _initial_model(data, points, power, options, shell=shell, group=group)
        state = RefinementState([reference, reference], shell)
        state.write(checkpoint)
    progress(1 + len(state.history))
    sums: list[FourierSum] = []
    while not state.finished(options.iterations):
        soft = _mask(state.references, options, mask)
        parts, sums = [], []
        for reference, rows in zip(state.references, members, strict=True):
            alignment = options.alignment.model_copy(update={"max_shell": state.shell})
            aligner = Aligner(reference * soft, points, power, alignment)
            previous = state.poses.take(rows) if state.poses is not None and state.local else None
            found = align(data.subset(rows), aligner, initial_poses=previous)
            parts.append(found)
            sums.append(_summed(data.subset(rows), found, points, power, group))
        fsc = half_map_fsc(*_volumes(sums), soft, seed=options.seed).corrected
        poses = Poses.joined(parts).take(np.argsort(np.concatenate(members)))
        state = state.next(fsc, poses, sums, group=group, voxel_size_A=data.voxel_size_A)
        state.write(checkpoint)
        progress(1)
    assert state.poses is not None  # there was at least one iteration
    if not sums:  # resumed after its last iteration: the sums were not kept
        sums = [_summed(data.subset(r), state.poses.take(r), points, power, group) for r in members]
    soft = _mask(state.references, options, mask)
    half_maps = _volumes(sums)
    curves = half_map_fsc(*half_maps, soft, seed=options.seed)
    # The sum of both halves has twice the SSNR of one.
    ssnr = 2 * spectral_snr(curves.corrected).to(points.k.device)
    whole = (sums[0] + sums[1]).volume(ssnr).cpu().numpy() * soft
    halves = np.zeros(len(data), np.int64)
    halves[members[1]] = 1
    voxel_size_A = data.voxel_size_A
    return Average(whole, half_maps, soft, voxel_size_A, curves, state.poses, halves, state.history)


def shared_shell(n: int, options: AveragingOptions) -> int:
    """The highest shell of the initial model that both halves share, in a box of n voxels."""
    return min(options.alignment.search_shell or round(n / 5), n // 2 - 1)


def _summed(
    data: Subtomograms,
    poses: Poses,
    points: MeasuredPoints,
    power: torch.Tensor,
    group: NDArray[np.float32],
) -> FourierSum:
    """Sum particles in their candidate poses, weighted by probability, over the symmetry group."""
    device, total = points.k.device, FourierSum.empty(points.n, points.k.device)
    weights = torch.from_numpy(poses.weights())
    copies = torch.from_numpy(group).to(device)
    g = len(copies)
    with torch.inference_mode():
        for first in range(0, len(data), 32):
            rows = range(first, min(first + 32, len(data)))
            x = points.transforms(data.read(rows).to(device))  # (b, p)
            w = weights[rows].to(device)  # (b, c)
            row, candidate = (w > 1e-3).nonzero(as_tuple=True)  # the m poses that matter, (m,) each
            at = row.cpu().numpy() + first, candidate.cpu().numpy()
            rotations = torch.from_numpy(poses.rotations[at]).to(device)
            shifts = torch.from_numpy(poses.shifts[at]).to(device)
            for copy in copies:  # symmetry: each of these poses is equally right
                total.add(x[row], rotations @ copy, shifts, w[row, candidate] / g, points, power)
    return total


def _halves(count: int, seed: int) -> list[NDArray[np.int64]]:
    """Row numbers of the two random half sets."""
    order = np.random.default_rng([seed, count]).permutation(count)
    return [np.sort(order[half::2]) for half in range(2)]


def _initial_model(
    data: Subtomograms,
    points: MeasuredPoints,
    power: torch.Tensor,
    options: AveragingOptions,
    *,
    shell: int,
    group: NDArray[np.float32],
) -> Volume:
    reference, _ = initial_model(
        data,
        points,
        power,
        shell=shell,
        seed=options.seed,
        starts=options.starts,
        max_shift_voxels=options.alignment.max_shift_voxels,
    )
    if len(group) == 1:
        return reference
    # A map from random poses has an arbitrary orientation: turn its axes onto the group's.
    axes, _ = symmetry_axes(reference, group)
    return rotate_volume(reference, axes)


def _mask(references: list[Volume], options: AveragingOptions, own: Volume | None) -> Volume:
    if own is not None:
        return own
    if options.mask == "sphere":
        return whole_box_mask(len(references[0]))
    return particle_mask(np.mean(references, axis=0))


def _volumes(sums: list[FourierSum]) -> tuple[Volume, Volume]:
    one, other = (half.volume().cpu().numpy() for half in sums)
    return one, other
