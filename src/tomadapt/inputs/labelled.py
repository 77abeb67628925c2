"""Labelled particles from other programs' files: a folder with one folder or stack a class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomadapt.data.subtomograms import (
    JoinedVolumes,
    LabelledSubtomograms,
    Subtomograms,
    VolumeSource,
    same_voxel_size,
)
from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.inputs.particles import (
    CONTRADICTED,
    Contrast,
    check_contrast,
    is_simulated,
    open_target,
)

STACK_SUFFIXES = (".mrc", ".mrcs", ".map", ".st", ".npy", ".npz")
CUBE_SUFFIXES = (".mrc", ".map")
"""What is read from a class's folder; of other stacks there, the user is warned."""


def open_labelled_folder(
    path: Path | str,
    class_names: Sequence[str],
    *,
    voxel_size_A: float | None = None,
    contrast: Contrast = "measure",
) -> LabelledSubtomograms:
    """Open particles whose classes are known by where they lie.

    Parameters
    ----------
    path
        A folder. Each class has there either a folder of its name, of ``.mrc`` cubes, or one stack
        ``<class>.mrc`` (also ``.mrcs``, ``.map``, ``.st``, ``.npy``, ``.npz``); see
        :func:`~tomadapt.inputs.particles.open_target`.
    class_names
        The classes in the order that labels shall have.
    voxel_size_A
        In Å; needed where the files carry none.
    contrast
        As for :func:`~tomadapt.inputs.particles.open_target`, but measured over all classes
        together: a class of empty boxes may well be darker in the middle.

    Returns
    -------
    LabelledSubtomograms
        All particles of all classes asked for, class by class, those of a class in the order of
        their file names. A warning lists what could be particles and was not read.

    Raises
    ------
    ConfigError
        When no class or a class twice is asked for, when the voxel size is unknown, or the
        contrast measured is not the one assumed.
    InputError
        When the folder or the particles of a class are missing or there twice, or cannot be used.
    MismatchError
        When two classes differ in box or voxel size.
    """
    path = Path(path)
    places = _places(path, class_names)
    _warn_of_unread(path, places)
    parts = []
    for place in places.values():
        with warnings.catch_warnings():
            # That a class alone looks inverted says little; all of them are measured below.
            warnings.filterwarnings("ignore", CONTRADICTED)
            stated: Contrast = "negative" if contrast == "negative" else "positive"
            part = open_target(place, voxel_size_A=voxel_size_A, contrast=stated)
        parts.append(part.source)
    _require_alike(path, dict(zip(places, parts, strict=True)))
    source = JoinedVolumes(tuple(parts))
    # A measurement reads the first few hundred particles: here every class must be among them.
    spread = np.unique(np.linspace(0, len(source) - 1, 500).round().astype(np.int64))
    check_contrast(path, Subtomograms(source, spread), contrast)
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return LabelledSubtomograms(source, labels=labels, class_names=list(places))


def _places(path: Path, class_names: Sequence[str]) -> dict[str, Path]:
    """Where each class lies; all that is wrong with the folder is found before a file is opened."""
    names = [class_names] if isinstance(class_names, str) else list(class_names)
    unusable = [n for n in names if not n or Path(n).name != n or names.count(n) > 1]
    if not names or unusable:
        raise ConfigError(
            f"the classes to read from {path} cannot be used",
            expected="at least one class, each once and named as its folder is",
            got=", ".join(map(repr, dict.fromkeys(unusable))) or "none",
            remedy="give the names of the folders",
        )
    if not path.is_dir():
        raise InputError(
            f"no folder of labelled particles at {path}",
            expected="a folder with one folder or stack a class",
            got="a file" if path.exists() else "nothing",
            remedy="check the path",
        )
    found = {name: _candidates(path, name) for name in names}
    missing = [name for name, places in found.items() if not places]
    if missing:
        raise InputError(
            f"{path} has no particles of {', '.join(missing)}",
            expected="a folder or stack of each class's name",
            got=", ".join(sorted(p.name for p in _entries(path))) or "an empty folder",
            remedy="check the names, or ask for the classes that are there",
        )
    for name, places in found.items():
        if len(places) > 1:
            raise InputError(
                f"{path} has the class {name} more than once",
                expected="one folder or stack",
                got=", ".join(p.name for p in places),
                remedy="join them or move one away",
            )
        if is_simulated(places[0]):
            raise InputError(
                f"{places[0]} is a simulated set, which has labels of its own",
                expected=f"particles of {name} alone",
                remedy="open it with tomadapt.simulate.dataset.open_set",
            )
    return {name: places[0] for name, places in found.items()}


def _entries(folder: Path) -> list[Path]:
    """What in a folder could hold particles, by name."""
    shown = (p for p in folder.iterdir() if not p.name.startswith("."))
    return sorted(p for p in shown if p.is_dir() or p.suffix.lower() in STACK_SUFFIXES)


def _candidates(path: Path, name: str) -> list[Path]:
    return [p for p in _entries(path) if (p.name if p.is_dir() else p.stem) == name]


def _warn_of_unread(path: Path, places: dict[str, Path]) -> None:
    unread = [p for p in _entries(path) if p not in places.values()]
    for folder in filter(Path.is_dir, places.values()):
        inside = _entries(folder)
        unread += [p for p in inside if p.is_dir() or p.suffix.lower() not in CUBE_SUFFIXES]
    if unread:
        names = ", ".join(str(p.relative_to(path)) for p in unread)
        warnings.warn(f"in {path}, of no class asked for and not read: {names}", stacklevel=3)


def _require_alike(path: Path, parts: dict[str, VolumeSource]) -> None:
    (first, reference), *others = parts.items()
    for name, part in others:
        for what, mine, theirs, alike in (
            ("box", f"{part.box} voxels", f"{reference.box} voxels", part.box == reference.box),
            (
                "voxel size",
                f"{part.voxel_size_A:g} Å",
                f"{reference.voxel_size_A:g} Å",
                same_voxel_size(part.voxel_size_A, reference.voxel_size_A),
            ),
        ):
            if not alike:
                raise MismatchError(
                    f"the classes in {path} differ in {what}",
                    expected=f"{theirs} ({first})",
                    got=f"{mine} ({name})",
                    remedy="resample or extract all classes alike",
                )
