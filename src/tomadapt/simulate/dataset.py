"""Simulated sets on disk: made in shards, resumable after a kill, memory-mapped when read.

A set is a folder. ``set.json`` says what it holds and is written last; ``shard-*.npy`` hold
float16 arrays (n, 2, d, d, d) — signal and unit noise, so one set serves every SNR —
and ``shard-*.npz`` the labels and poses. A shard is one block of indices of one class.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, field_validator

from tomadapt.acquisition import NAMED_ACQUISITIONS, Acquisition, WithLaterFields
from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.io.atomic import atomic_path, output_folder, write_json
from tomadapt.simulate.batches import BATCH, Batch
from tomadapt.simulate.simulator import NULL_CLASS, Simulator
from tomadapt.structures import template
from tomadapt.structures.lookup import with_voxel_size
from tomadapt.subtomograms import Indices, LabelledSubtomograms, Subtomograms

FORMAT = "tomadapt-set-1"
SHARD = 64
"""Particles a shard: what a kill can lose, and small enough that a batch fits a core's cache."""


class SimulationConfig(WithLaterFields):
    """What to simulate.

    Parameters
    ----------
    classes
        Label → structure (a built-in name, a PDB ID, or the path of a model or map); a list when
        labels and structures have the same names. ``null`` has no structure.
    folder
        A local folder where PDB IDs are looked up first.
    acquisition
        A named acquisition or a table of its parameters.
    per_class
        Particles of each class.
    snr
        The SNR at which the set is read unless another is asked for.
    seed
        See :mod:`tomadapt.simulate.randomness`.
    box, voxel_size_A, resolution_A
        Side in voxels; Å; Å (Gaussian with 2σ = resolution).
    max_shift_fraction
        Largest shift along each axis, as a fraction of the box.
    weighting
        ``mass`` or ``electron``: what an atom counts as; see :func:`tomadapt.structures.voxelise`.
    neighbours
        How many other macromolecules, drawn from the classes, reach into each box.
    even_noise
        Noise as strong near the box's faces as in its middle, as in a cube cut out of a tomogram.
        Without it sets are what direct Fourier inversion of a box gives, and so is Table 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, str]
    folder: Path | None = None
    acquisition: Acquisition
    per_class: Annotated[int, Field(gt=0, le=1_000_000)]
    snr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    box: Annotated[int, Field(ge=24, le=64)] = 40
    voxel_size_A: Annotated[float, Field(gt=0.5, lt=100)] = 9.2
    resolution_A: Annotated[float, Field(gt=1, lt=200)] = 9.2
    max_shift_fraction: Annotated[float, Field(ge=0, le=0.3)] = 0.1
    weighting: Literal["mass", "electron"] = "mass"
    neighbours: Annotated[int, Field(ge=0, le=12)] = 0
    even_noise: bool = False

    later_fields: ClassVar[frozenset[str]] = frozenset({"neighbours", "even_noise"})

    @field_validator("classes", mode="before")
    @classmethod
    def _list_of_names(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            labels = [label_of(str(v)) for v in value]
            repeated = sorted(label for label, n in Counter(labels).items() if n > 1)
            if repeated:
                raise ValueError(f"each class once; repeated: {', '.join(repeated)}")
            return dict(zip(labels, map(str, value), strict=True))
        return value

    @field_validator("classes")
    @classmethod
    def _some_structure(cls, value: dict[str, str]) -> dict[str, str]:
        if not [label for label in value if label != NULL_CLASS]:
            raise ValueError("at least one class with a structure is needed besides null")
        return value

    @field_validator("acquisition", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in NAMED_ACQUISITIONS:
                raise ValueError(
                    f"unknown acquisition {value!r}; named ones: {', '.join(NAMED_ACQUISITIONS)} "
                    "(or give a table with defocus_um, …)"
                )
            return NAMED_ACQUISITIONS[value]
        return value

    @property
    def identity(self) -> dict[str, Any]:
        """What a set's voxels depend on: all but the SNR they are read at.

        Fields that older sets did not have are left out at their defaults: such a set is the same.
        """
        return self.model_dump(mode="json", exclude={"snr"})

    @property
    def n_particles(self) -> int:
        """Particles of all classes."""
        return self.per_class * len(self.classes)

    @property
    def stored_bytes(self) -> int:
        """Size of the set's voxels on disk: signal and noise, in half precision."""
        return self.n_particles * 2 * np.dtype(np.float16).itemsize * self.box**3


def label_of(structure: str) -> str:
    """`models/1bxn.pdb.gz` → `1bxn`; names and PDB IDs stay what they are."""
    name = Path(with_voxel_size(structure)[0]).name
    for suffix in (".gz", ".pdb", ".ent", ".cif", ".mmcif", ".mrc", ".map", ".ccp4", ".em"):
        name = name.removesuffix(suffix)
    return name


Progress = Callable[[int], None]
"""Called with the number of particles just finished."""


def make_templates(config: SimulationConfig) -> dict[str, NDArray[np.float32]]:
    """Densities of all classes with a structure, checked before any simulation starts."""
    return {
        label: template(
            structure,
            voxel_size_A=config.voxel_size_A,
            box=config.box,
            resolution_A=config.resolution_A,
            folder=config.folder,
            weighting=config.weighting,
        ).density
        for label, structure in config.classes.items()
        if label != NULL_CLASS
    }


def simulate_set(
    config: SimulationConfig,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    progress: Progress = lambda _: None,
) -> LabelledSubtomograms:
    """Simulate a set, or finish one that was interrupted.

    Parameters
    ----------
    config
        What to simulate.
    out
        The set's folder. Shards that are already there are kept.
    device
        Where to compute.
    progress
        Told how many particles were finished, kept ones included.

    Returns
    -------
    LabelledSubtomograms
        The set at ``config.snr``.

    Raises
    ------
    MismatchError
        When the folder holds a set of another configuration.
    ConfigError, InputError, OfflineError
        From the structures.
    OutputError
        When the folder cannot be written or the disk is too small.
    """
    started = out / "config.json"
    if started.exists():
        found = {k: v for k, v in _read_json(started).items() if k != "templates"}
        _require_same(out, config.identity, found)
        if (out / "set.json").exists() and all(map(_is_whole, _stems(config, out))):
            return _finished(config, out, progress)
    templates = make_templates(config)
    digests = {label: template_digest(density) for label, density in templates.items()}
    if started.exists():
        found = _read_json(started).get("templates", digests)
        _require_same(
            out,
            {f"structure {k}": v for k, v in digests.items()},
            {f"structure {k}": v for k, v in found.items()},
        )
    else:
        output_folder(out, needed_bytes=config.stored_bytes)
        write_json(started, config.identity | {"templates": digests})
    simulator = Simulator(
        templates,
        config.acquisition,
        voxel_size_A=config.voxel_size_A,
        seed=config.seed,
        max_shift_fraction=config.max_shift_fraction,
        neighbours=config.neighbours,
        even_noise=config.even_noise,
        device=device,
    )
    shards = list(_blocks(config))
    for stem, (label, class_name, indices) in zip(_stems(config, out), shards, strict=True):
        if not _is_whole(stem):
            _write_shard(simulator, stem, label, class_name, indices)
        progress(len(indices))
    ratios = _column(out, "variance_ratio", shards=len(shards))
    write_json(
        out / "set.json",
        {
            "format": FORMAT,
            "class_names": list(config.classes),
            "box": config.box,
            "voxel_size_A": config.voxel_size_A,
            "contrast": "density positive",
            "acquisition": config.acquisition.model_dump(mode="json"),
            "snr": config.snr,
            "snr_before_ctf_over_snr": round(float(np.nanmedian(ratios)), 3),
            "seed": config.seed,
            "shard_sizes": [len(indices) for _, _, indices in shards],
            "config": config.model_dump(mode="json"),
            "templates": digests,
            "versions": versions(),
        },
    )
    return open_set(out)


def _stems(config: SimulationConfig, out: Path) -> Iterator[Path]:
    for number, _ in enumerate(_blocks(config)):
        yield out / f"shard-{number:05d}"


def _is_whole(stem: Path) -> bool:
    return all(stem.with_suffix(suffix).exists() for suffix in (".npy", ".npz"))


def _require_same(out: Path, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    # Keys of both: what is left out at its default may stand in the other alone.
    differing = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    if differing:
        raise MismatchError(
            f"{out} holds a set of another configuration (differs in {', '.join(differing)})",
            expected="the configuration it was begun with",
            got="another",
            remedy="choose another --out or delete that folder",
        )


def _finished(config: SimulationConfig, out: Path, progress: Progress) -> LabelledSubtomograms:
    """A set that is whole already; its own SNR becomes the one asked for."""
    meta = _read_json(out / "set.json")
    if meta.get("snr") != config.snr and meta.get("format") == FORMAT:
        write_json(out / "set.json", meta | {"snr": config.snr})
    data = open_set(out)
    progress(len(data))
    return data


def template_digest(density: NDArray[np.float32]) -> str:
    """A digest of a template, indifferent to rounding."""
    return hashlib.blake2b(np.round(density, 3).tobytes(), digest_size=8).hexdigest()


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


def versions() -> dict[str, str]:
    """Versions that results depend on, for provenance."""
    names = ("tomadapt", "torch", "numpy", "scipy", "gemmi")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _blocks(config: SimulationConfig) -> Iterator[tuple[int, str, range]]:
    for label, class_name in enumerate(config.classes):
        for first in range(0, config.per_class, SHARD):
            yield label, class_name, range(first, min(first + SHARD, config.per_class))


def _write_shard(
    simulator: Simulator, stem: Path, label: int, class_name: str, indices: range
) -> None:
    volumes = np.empty((len(indices), 2, *(simulator.box,) * 3), np.float16)
    parts, batch = [], BATCH[simulator.device.type]
    for first in range(0, len(indices), batch):
        part = Batch(simulator, class_name, indices[first : first + batch]).simulated()
        rows = slice(first, first + len(part.rotations))
        volumes[rows, 0] = part.signal.half().cpu().numpy()
        volumes[rows, 1] = part.noise.half().cpu().numpy()
        parts.append(part)
    with atomic_path(stem.with_suffix(".npy")) as temporary:
        np.save(temporary, volumes)
    # Written last: its presence marks the shard as whole.
    with atomic_path(stem.with_suffix(".npz")) as temporary:
        np.savez(
            temporary,
            labels=np.full(len(indices), label),
            index_in_class=np.asarray(indices),
            rotations=np.concatenate([p.rotations for p in parts]),
            shifts=np.concatenate([p.shifts for p in parts]),
            variance_ratio=np.concatenate([p.variance_ratio for p in parts]),
        )


DAMAGE = (OSError, ValueError, EOFError, KeyError, BadZipFile)
"""What numpy raises on files that are missing, cut short, or something else."""


def _damaged(path: Path, shards: int, error: Exception) -> InputError:
    return InputError(
        f"the set {path} is damaged",
        expected=f"{shards} readable shards",
        got=str(error),
        remedy="delete the folder and simulate it again",
    )


def _column(path: Path, name: str, *, shards: int) -> NDArray[Any]:
    """One array of all shards' ``.npz``."""
    try:
        return np.concatenate([np.load(path / f"shard-{i:05d}.npz")[name] for i in range(shards)])
    except DAMAGE as error:
        raise _damaged(path, shards, error) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON", got=str(error), remedy="delete the folder and simulate it again"
        ) from error
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class SimulatedVolumes:
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
    def identity(self) -> str:
        """The configuration, the templates and the SNR."""
        return json.dumps([self.meta["config"], self.meta.get("templates"), self.snr])

    @property
    def voxels(self) -> str:
        """A digest of what was simulated, whatever SNR it is read at."""
        text = json.dumps([self.meta["config"], self.meta.get("templates")])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

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
        return {name: _column(self.path, name, shards=len(self._ends)) for name in names}

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
    meta = _read_json(meta_path)
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
    labels = _column(path, "labels", shards=len(source._ends))
    return LabelledSubtomograms(source, labels=labels, class_names=meta["class_names"])
