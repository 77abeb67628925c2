"""Simulated sets, memory-mapped when read, at the SNR that is wanted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import (
    Indices,
    LabelledSubtomograms,
    MixableSource,
    SourceDefaults,
    Subtomograms,
)
from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.runs.digest import digest
from tomadapt.runs.json_files import json_object

FORMAT = "tomadapt-set-1"


DAMAGE = (OSError, ValueError, EOFError, KeyError, BadZipFile)
"""What numpy raises on files that are missing, cut short, or something else."""


def _damaged(path: Path, shards: int, error: Exception) -> InputError:
    return InputError(
        f"the set {path} is damaged",
        expected=f"{shards} readable shards",
        got=str(error),
        remedy="delete the folder and simulate it again",
    )


def column_of(path: Path, name: str, *, shards: int) -> NDArray[Any]:
    """One array of all shards' ``.npz``."""
    try:
        return np.concatenate([np.load(path / f"shard-{i:05d}.npz")[name] for i in range(shards)])
    except DAMAGE as error:
        raise _damaged(path, shards, error) from error


def read_record(path: Path) -> dict[str, Any]:
    """What a set says of itself, in ``set.json``."""
    return json_object(
        path.read_text(encoding="utf-8"),
        what=str(path),
        remedy="delete the folder and simulate it again",
    )


@dataclass(frozen=True)
class SimulatedVolumes(SourceDefaults):
    """The voxels of a simulated set, read at one SNR or mixed at any.

    Attributes
    ----------
    path
        The set's folder.
    snr
        The SNR at which :meth:`read` mixes.
    meta
        The content of ``set.json``.
    """

    path: Path
    snr: float
    meta: dict[str, Any]

    def __len__(self) -> int:
        """Give the number of particles."""
        return int(self._ends[-1])

    @property
    def box(self) -> int:
        """Side in voxels."""
        return int(self.meta["box"])

    @property
    def voxel_size_A(self) -> float:
        """Voxel size in Å."""
        return float(self.meta["voxel_size_A"])

    @property
    def mixable(self) -> MixableSource:
        """The source itself."""
        return self

    @property
    def before_ctf_ratio(self) -> float | None:
        """The SNR before the CTF over that after it; None in sets of the first version."""
        ratio = self.meta.get("snr_before_ctf_over_snr")
        return None if ratio is None else float(ratio)

    @property
    def identity(self) -> str:
        """The configuration, the templates and the SNR."""
        return json.dumps([self.meta["config"], self.meta.get("templates"), self.snr])

    @property
    def voxels(self) -> str:
        """A digest of what was simulated, whatever SNR it is read at."""
        return digest([self.meta["config"], self.meta.get("templates")], size=16)

    @cached_property
    def acquisition(self) -> Acquisition:
        """The acquisition that was simulated."""
        return Acquisition.model_validate(self.meta["acquisition"])

    def particle_table(self) -> dict[str, NDArray[Any]]:
        """What is known of each particle, in order.

        Returns
        -------
        dict
            ``labels`` (n,), ``index_in_class`` (n,), ``rotations`` (n, 3, 3) acting on (x, y, z),
            ``shifts`` (n, 3) voxels (x, y, z), ``variance_ratio`` (n,).
        """
        names = ("labels", "index_in_class", "rotations", "shifts", "variance_ratio")
        return {name: column_of(self.path, name, shards=len(self._ends)) for name in names}

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.meta["shard_sizes"])

    @cached_property
    def _shards(self) -> list[NDArray[np.float16]]:
        paths = [self.path / f"shard-{i:05d}.npy" for i in range(len(self._ends))]
        try:
            return [np.load(path, mmap_mode="r") for path in paths]
        except DAMAGE as error:
            raise _damaged(self.path, len(paths), error) from error

    def _part(self, indices: Indices, part: int) -> torch.Tensor:
        rows = np.asarray(indices)
        shard = np.searchsorted(self._ends, rows, side="right")
        first = self._ends - self.meta["shard_sizes"]
        cubes = [self._shards[s][row - first[s], part] for s, row in zip(shard, rows, strict=True)]
        return torch.from_numpy(np.stack(cubes)).float()

    def mix(self, indices: Indices, noise_indices: Indices, snr: torch.Tensor) -> torch.Tensor:
        """Signal of some particles and noise of others, see :class:`MixableSource`."""
        noise = self._part(noise_indices, 1) * snr.rsqrt()[:, None, None, None]
        return noise.add_(self._part(indices, 0))

    def read(self, indices: Indices) -> torch.Tensor:
        """Particles as simulated, at this source's SNR."""
        return self.mix(indices, indices, torch.full((len(indices),), self.snr))


def open_set(path: Path | str, *, snr: float | None = None) -> LabelledSubtomograms:
    """Open a simulated set.

    Parameters
    ----------
    path
        The set's folder.
    snr
        Read at this SNR instead of the set's own.

    Raises
    ------
    InputError
        When there is no set, or it is unfinished, damaged, or of another format version.
    ConfigError
        When ``snr`` is not a positive number.
    """
    path = Path(path)
    meta_path = path / "set.json"
    if not meta_path.is_file():
        unfinished = (path / "config.json").is_file()
        raise InputError(
            f"{path} is not a finished set",
            expected="a folder with set.json",
            got="an interrupted simulation" if unfinished else "no set.json",
            remedy="run the same `tomadapt simulate` again" if unfinished else "check the path",
        )
    meta = read_record(meta_path)
    if meta.get("format") != FORMAT:
        raise InputError(
            f"{path} has another format",
            expected=FORMAT,
            got=meta.get("format"),
            remedy="simulate it again with this version of tomadapt",
        )
    chosen = float(meta["snr"] if snr is None else snr)
    if not 0 < chosen < float("inf"):
        raise ConfigError(
            "an SNR is a positive number", expected="> 0", got=snr, remedy="choose another SNR"
        )
    source = SimulatedVolumes(path, chosen, meta)
    labels = column_of(path, "labels", shards=len(source._ends))
    return LabelledSubtomograms(source, labels=labels, class_names=meta["class_names"])


def simulated(data: Subtomograms) -> SimulatedVolumes:
    """The simulated set that particles are of.

    Raises
    ------
    ConfigError
        When they are of none.
    """
    if isinstance(data.source, SimulatedVolumes):
        return data.source
    raise ConfigError(
        "these particles are of no simulated set",
        expected="a folder of `tomadapt simulate`, whose structures are known",
        remedy="simulate a source, or leave out what needs its structures",
    )


def require_independent(source: Subtomograms, target: Subtomograms) -> None:
    """Refuse two simulated sets with one seed: their particles would be the same ones.

    Raises
    ------
    MismatchError
        When both are simulated, share their seed and a class.
    """
    if not isinstance(source.source, SimulatedVolumes):
        return
    if not isinstance(target.source, SimulatedVolumes):
        return
    a, b = source.source.meta, target.source.meta
    if a["seed"] == b["seed"] and set(a["class_names"]) & set(b["class_names"]):
        raise MismatchError(
            "the source and target sets were simulated with one seed: the same poses and noise",
            expected="two seeds",
            got=f"{a['seed']} in both",
            remedy="simulate one of them with another seed",
        )
