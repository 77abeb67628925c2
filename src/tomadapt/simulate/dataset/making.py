"""Simulated sets, made in shards so that one that was interrupted is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.data.subtomograms import LabelledSubtomograms
from tomadapt.runs.atomic import atomic_path, output_folder, write_json
from tomadapt.runs.digest import digest
from tomadapt.runs.own_folder import CONTENT, description, make_own, require_same
from tomadapt.runs.versions import versions
from tomadapt.simulate.batches import BATCH, Batch
from tomadapt.simulate.dataset.config import SimulationConfig
from tomadapt.simulate.dataset.reading import FORMAT, column_of, open_set, read_record
from tomadapt.simulate.simulator import NULL_CLASS, Simulator
from tomadapt.structures import template

SHARD = 64
"""Particles a shard: what a kill can lose, and small enough that a batch fits a core's cache."""


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
    begun, whole = description(out), False
    if begun is not None:
        require_same(out, _without_paths(begun), _without_paths(config.identity), what="set")
        whole = (out / "set.json").exists() and all(map(_is_whole, _stems(config, out)))
        if whole and all(begun.get(key) == config.identity[key] for key in PATHS):
            return _finished(config, out, progress)
    templates = make_templates(config)
    digests = {label: template_digest(density) for label, density in templates.items()}
    if begun is not None:
        if "templates" in begun:
            kept, now = _as_structures(begun["templates"]), _as_structures(digests)
        else:  # nothing but their paths tells structures apart
            kept, now = ({k: d.get(k) for k in PATHS} for d in (begun, config.identity))
        require_same(out, kept, now, what="set")
        if whole:
            return _finished(config, out, progress)
    else:
        output_folder(out, needed_bytes=config.stored_bytes)
        make_own(out, config.identity | {"templates": digests})
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
    ratios = column_of(out, "variance_ratio", shards=len(shards))
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


PATHS = ("classes", "folder")
"""Where structures lie. Of a set their densities count, so that files may be moved."""


def _without_paths(identity: dict[str, Any]) -> dict[str, Any]:
    """What a set depends on beside the densities; of classes the names, in their order."""
    others = {k: v for k, v in identity.items() if k not in (*PATHS, "templates")}
    return others | {"classes": list(identity.get("classes", ()))}


def _as_structures(digests: dict[str, str]) -> dict[str, Any]:
    """The same with names that end as those of digests do, which are not shown."""
    return {f"structure {label}{CONTENT}": value for label, value in digests.items()}


def _finished(config: SimulationConfig, out: Path, progress: Progress) -> LabelledSubtomograms:
    """A set that is whole already; its own SNR becomes the one asked for."""
    meta = read_record(out / "set.json")
    if meta.get("snr") != config.snr and meta.get("format") == FORMAT:
        write_json(out / "set.json", meta | {"snr": config.snr})
    data = open_set(out)
    progress(len(data))
    return data


def template_digest(density: NDArray[np.float32]) -> str:
    """A digest of a template, indifferent to rounding."""
    return digest(np.round(density, 3))


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
