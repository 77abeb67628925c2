"""Subtomograms as everyone downstream sees them: with labels, or without.

A method that adapts is given :class:`Subtomograms`, which have no labels; only training and
evaluation see :class:`LabelledSubtomograms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.errors import ConfigError, InputError
from tomadapt.runs.digest import digest

SPLIT = 1
"""What random numbers of a split are keyed by, beside the seed."""

Indices = Sequence[int] | NDArray[np.integer]


class VolumeSource(Protocol):
    """Where cubes of voxels come from; they are read when asked for, never all at once."""

    @property
    def voxel_size_A(self) -> float:
        """Voxel size in Å."""

    @property
    def box(self) -> int:
        """Side of each cube in voxels."""

    @property
    def acquisition(self) -> Acquisition | None:
        """How they were recorded, where it is known."""

    @property
    def identity(self) -> str:
        """What tells this source from others: equal for equal voxels."""

    @property
    def names(self) -> tuple[str, ...]:
        """File names of the cubes, where each had its own; empty elsewhere."""

    @property
    def voxels(self) -> str:
        """A digest of the voxels, whatever sign or SNR they are read with; empty where unknown."""

    @property
    def mixable(self) -> MixableSource | None:
        """The same source where it keeps signal and noise apart; None elsewhere."""

    def __len__(self) -> int:
        """Give the number of cubes."""

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, d, d, d) float32, [z, y, x], density positive, any scale."""


class MixableSource(VolumeSource, Protocol):
    """A source that keeps signal and unit noise apart, so that any SNR can be mixed."""

    @property
    def snr(self) -> float:
        """The SNR at which :meth:`read` mixes, after the CTF."""

    @property
    def before_ctf_ratio(self) -> float | None:
        """The SNR before the CTF over that after it, where it is known."""

    def mix(self, indices: Indices, noise_indices: Indices, snr: torch.Tensor) -> torch.Tensor:
        """``signal[indices] + noise[noise_indices] / sqrt(snr)``, (b, d, d, d) float32."""


class SourceDefaults:
    """What a source has that knows no more: a base class for sources."""

    @property
    def names(self) -> tuple[str, ...]:
        """None of the cubes had a file of its own."""
        return ()

    @property
    def voxels(self) -> str:
        """Not known."""
        return ""

    @property
    def mixable(self) -> MixableSource | None:
        """Signal and noise are not kept apart."""
        return None

    @property
    def before_ctf_ratio(self) -> float | None:
        """Not known."""
        return None


@dataclass(frozen=True)
class JoinedVolumes(SourceDefaults):
    """The cubes of several sources of one box and voxel size, one source after another.

    Attributes
    ----------
    parts
        The sources.
    """

    parts: tuple[VolumeSource, ...]

    def __len__(self) -> int:
        """Give the number of cubes."""
        return int(self._ends[-1])

    @property
    def box(self) -> int:
        """Side in voxels."""
        return self.parts[0].box

    @property
    def voxel_size_A(self) -> float:
        """Voxel size in Å."""
        return self.parts[0].voxel_size_A

    @property
    def acquisition(self) -> Acquisition | None:
        """How they were recorded: that of the first part."""
        return self.parts[0].acquisition

    @cached_property
    def identity(self) -> str:
        """A digest of the parts' identities, so of all voxels and of how they are divided."""
        text = "\n".join(part.identity for part in self.parts)
        return digest(text, size=16)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([len(part) for part in self.parts])

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, d, d, d) float32, density positive, in the order asked for."""
        rows = np.asarray(indices, dtype=np.int64)
        out = torch.empty(len(rows), *(self.box,) * 3)
        of_part = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(of_part):
            here = np.flatnonzero(of_part == number)
            part = self.parts[number]
            out[here] = part.read(rows[here] - (self._ends[number] - len(part)))
        return out


@dataclass(frozen=True)
class JoinedMixable(JoinedVolumes):
    """Simulated sets of one box, voxel size and class list, such as sets of several defoci.

    Attributes
    ----------
    parts
        The sources, each with signal and noise apart.
    """

    parts: tuple[MixableSource, ...]

    @property
    def mixable(self) -> MixableSource:
        """The source itself."""
        return self

    @property
    def snr(self) -> float:
        """That of the first part."""
        return self.parts[0].snr

    def mix(self, indices: Indices, noise_indices: Indices, snr: torch.Tensor) -> torch.Tensor:
        """Signal and noise as in :class:`MixableSource`, the noise always of the signal's part.

        Noise went through the optics too, so that of another defocus would not belong to it: of
        another part's particle that of the one in its place is taken.
        """
        rows, noise = np.asarray(indices, np.int64), np.asarray(noise_indices, np.int64)
        out = torch.empty(len(rows), *(self.box,) * 3)
        of_part = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(of_part):
            here = np.flatnonzero(of_part == number)
            part = self.parts[number]
            begin = self._ends[number] - len(part)
            out[here] = part.mix(rows[here] - begin, noise[here] % len(part), snr[here])
        return out


CONSTANT = 1e-6
"""Below this part of their largest value deviations are rounding errors."""


def same_voxel_size(a_A: float, b_A: float) -> bool:
    """Whether two voxel sizes agree to 1 %, which headers and calibrations seldom beat."""
    return abs(a_A / b_A - 1) <= 0.01


def standardise(volumes: torch.Tensor) -> torch.Tensor:
    """Give each cube of (b, d, d, d) mean 0 and standard deviation 1, whatever its scale.

    A cube that is constant, to a millionth of its largest value, becomes 0.
    """
    flat = volumes.flatten(1)
    # Powers of two change no digit, and keep squares of 1e-30 and 1e30 inside single precision.
    exponent = torch.frexp(flat.abs().amax(dim=1, keepdim=True)).exponent
    scaled = torch.ldexp(flat, -exponent)
    centred = scaled - scaled.mean(dim=1, keepdim=True)
    deviation = centred.square().mean(dim=1, keepdim=True).sqrt()
    done = centred / torch.where(deviation > CONSTANT, deviation, torch.inf)
    return done.view_as(volumes)


class Subtomograms:
    """Particles without labels.

    Parameters
    ----------
    source
        Where the voxels come from.
    rows
        Which of its cubes, in order; all when None.
    """

    def __init__(self, source: VolumeSource, rows: Indices | None = None) -> None:
        self.source = source
        self.rows = np.arange(len(source)) if rows is None else np.asarray(rows, dtype=np.int64)
        if len(self.rows) == 0:
            raise InputError(
                "no subtomograms", expected="at least one", got=0, remedy="check the input"
            )

    @property
    def box(self) -> int:
        """Side of each cube in voxels."""
        return self.source.box

    @property
    def voxel_size_A(self) -> float:
        """Voxel size in Å."""
        return self.source.voxel_size_A

    @property
    def acquisition(self) -> Acquisition | None:
        """How they were recorded, where it is known."""
        return self.source.acquisition

    @property
    def names(self) -> tuple[str, ...]:
        """File names of the particles, where each cube had its own; empty elsewhere."""
        names = self.source.names
        return tuple(names[row] for row in self.rows) if names else ()

    @property
    def snr(self) -> float | None:
        """At which signal and noise are mixed, after the CTF; None where they are not apart."""
        mixable = self.source.mixable
        return None if mixable is None else mixable.snr

    @property
    def fingerprint(self) -> str:
        """A digest of which voxels these are, by which resumed work knows its input again."""
        return digest(self.source.identity, self.rows, size=16)

    def __len__(self) -> int:
        """Give the number of particles."""
        return len(self.rows)

    def read(self, indices: Indices) -> torch.Tensor:
        """Particles by position: (b, d, d, d) float32, mean 0 and standard deviation 1 each."""
        return standardise(self.source.read(self.rows[np.asarray(indices)]))

    def subset(self, indices: Indices) -> Self:
        """The particles at these positions, in this order."""
        return type(self)(self.source, self.rows[np.asarray(indices)])


class LabelledSubtomograms(Subtomograms):
    """Particles with their classes.

    Parameters
    ----------
    source, rows
        As for :class:`Subtomograms`.
    labels
        (len(source),) indices into ``class_names``.
    class_names
        The classes in order.
    """

    def __init__(
        self,
        source: VolumeSource,
        rows: Indices | None = None,
        *,
        labels: NDArray[np.integer],
        class_names: Sequence[str],
    ) -> None:
        super().__init__(source, rows)
        self.class_names = tuple(class_names)
        self._source_labels = np.asarray(labels, dtype=np.int64)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) class indices."""
        return self._source_labels[self.rows]

    def unlabelled(self) -> Subtomograms:
        """The same particles for those who must not see labels."""
        return Subtomograms(self.source, self.rows)

    def subset(self, indices: Indices) -> Self:
        """The particles at these positions, in this order."""
        return type(self)(
            self.source,
            self.rows[np.asarray(indices)],
            labels=self._source_labels,
            class_names=self.class_names,
        )

    def read_mixed(
        self, indices: Indices, noise_from: Indices, snr: NDArray[np.floating]
    ) -> torch.Tensor:
        """Signal of some particles with noise of others at stated SNRs, standardised.

        Parameters
        ----------
        indices, noise_from
            (b,) positions in this object: whose signal, whose noise.
        snr
            (b,) positive.

        Raises
        ------
        ConfigError
            When signal and noise of these particles are not kept apart.
        """
        mixable = self.source.mixable
        if mixable is None:
            raise ConfigError(
                "these subtomograms do not keep signal and noise apart",
                expected="a simulated set",
                remedy="train at the data's own SNR (no snr_range, no repair_noise)",
            )
        mixed = mixable.mix(
            self.rows[np.asarray(indices)],
            self.rows[np.asarray(noise_from)],
            torch.as_tensor(snr, dtype=torch.float32),
        )
        return standardise(mixed)

    def without_classes(self, names: Sequence[str]) -> Self:
        """The particles of all other classes; these keep their order, and their labels close up.

        Raises
        ------
        ConfigError
            When a name is not a class.
        """
        unknown = [name for name in names if name not in self.class_names]
        if unknown:
            raise ConfigError(
                f"cannot leave out class {unknown[0]!r}",
                expected=f"one of {', '.join(self.class_names)}",
                remedy="mend the name",
            )
        kept = [label for label, name in enumerate(self.class_names) if name not in names]
        closed_up = np.full(len(self.class_names), -1, dtype=np.int64)
        closed_up[kept] = np.arange(len(kept))
        return type(self)(
            self.source,
            self.rows[np.isin(self.labels, kept)],
            labels=closed_up[self._source_labels],
            class_names=[self.class_names[label] for label in kept],
        )

    def first_of_each_class(self, n: int) -> tuple[Self, Self | None]:
        """The first n particles of each class, and the rest (None where there is none)."""
        rank = np.empty(len(self), dtype=np.int64)
        for label in range(len(self.class_names)):
            members = np.flatnonzero(self.labels == label)
            rank[members] = np.arange(len(members))
        rest = np.flatnonzero(rank >= n)
        return self.subset(np.flatnonzero(rank < n)), self.subset(rest) if len(rest) else None

    def split(self, fraction: float, *, seed: int) -> tuple[Self, Self]:
        """Two parts, the second with ``fraction`` of each class (at least one particle)."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SPLIT,)))
        second = []
        for label in range(len(self.class_names)):
            members = rng.permutation(np.flatnonzero(self.labels == label))
            # At least one on each side, where there are two.
            wanted = max(1, round(fraction * len(members)))
            second.append(members[: min(wanted, len(members) - 1)] if len(members) else members)
        chosen = np.sort(np.concatenate(second))
        rest = np.setdiff1d(np.arange(len(self)), chosen)
        return self.subset(rest), self.subset(chosen)
