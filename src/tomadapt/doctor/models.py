"""Model files and configurations."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from tomadapt.acquisition import Acquisition
from tomadapt.doctor.findings import Finding, note, ok, problem
from tomadapt.errors import TomadaptError
from tomadapt.learn.model import Model
from tomadapt.project import read_project
from tomadapt.simulate.dataset import SimulationConfig
from tomadapt.workflows.config import FileDomain, RunConfig, load_config, read_toml

_CONFIGURATIONS: dict[type[BaseModel], str] = {
    RunConfig: "a whole run",
    SimulationConfig: "a simulation",
    Acquisition: "an acquisition",
}


def model_findings(path: Path) -> Iterator[Finding]:
    """What a model was made for, and whether its weights are numbers.

    Raises
    ------
    InputError
        As :meth:`tomadapt.learn.model.Model.load`.
    """
    model = Model.load(path)
    card = model.card
    yield ok("method", f"made by {card.method}, network {card.network}", card.method)
    yield ok("classes", ", ".join(card.class_names), list(card.class_names))
    yield ok("box", f"cubes of {card.box} voxels a side, {card.contrast}", card.box)
    yield ok("voxel_size", f"voxels of {card.voxel_size_A:g} Å", card.voxel_size_A)
    name = card.acquisition.name if card.acquisition else None
    yield ok("acquisition", f"trained on acquisition {name or 'unknown'}", name)
    tensors = model.state()
    count = sum(tensor.numel() for tensor in tensors.values())
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        text = f"NaN or infinite weights in {', '.join(bad[:5])}"
        yield problem("weights", text, count, remedy="train it again")
    else:
        yield ok("weights", f"{count} weights, all finite", count)
    here = version("tomadapt")
    text = f"written by tomadapt {card.package_version}"
    if card.package_version == here:
        yield ok("written_by", text, card.package_version)
    else:
        yield note("written_by", f"{text}; this is {here}", card.package_version)


def configuration_findings(path: Path) -> Iterator[Finding]:
    """Which configuration a TOML file is, whether it is valid, and whether what it names is there.

    Raises
    ------
    TomadaptError
        As :func:`tomadapt.workflows.config.load_config`.
    """
    if _is_project(path):
        yield from _project_findings(path)
        return
    kind = _configuration_of(path)
    config: Any = load_config(path, kind)
    yield ok("configures", f"{_CONFIGURATIONS[kind]}; valid", kind.__name__)
    named: dict[str, Path] = {}
    structures = config.structures if isinstance(config, RunConfig) else config
    if not isinstance(config, Acquisition):
        if structures.folder is not None:
            named["folder"] = structures.folder
        classes = structures.classes
        specs = classes.values() if isinstance(classes, dict) else classes
        named |= {f"structure {spec}": Path(spec) for spec in specs if Path(spec).is_absolute()}
    if isinstance(config, RunConfig) and isinstance(config.target, FileDomain):
        named["target"] = config.target.path
    missing = {name: place for name, place in named.items() if not _is_there(place)}
    if missing:
        text = "; ".join(f"{name}: nothing at {place}" for name, place in missing.items())
        value = [str(place) for place in missing.values()]
        yield problem(
            "named_files", text, value, remedy="mend the paths, or set the variables in them"
        )
    else:
        yield ok("named_files", f"{len(named)} paths are named, and all are there", [])


def _is_project(path: Path) -> bool:
    try:
        return "ecosystem" in read_toml(path)
    except TomadaptError:
        return False  # told when it is loaded


def _project_findings(path: Path) -> Iterator[Finding]:
    project = read_project(path)
    entries = project.tomograms
    yield ok("configures", f"a project of {project.ecosystem}, {len(entries)} tomograms", "Project")
    missing = [e.name for e in entries if e.volume is None or not _is_there(e.volume)]
    if missing:
        text = f"no volume of {', '.join(missing[:8])}" + (" …" if len(missing) > 8 else "")
        yield problem("named_files", text, missing, remedy="mend the paths in the project file")
    else:
        yield ok("named_files", "all volumes are there", [])


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name too long
        return False


def _configuration_of(path: Path) -> type[BaseModel]:
    """The kind whose keys a file has most of; what is no TOML is refused when it is loaded."""
    try:
        keys = set(read_toml(path))
    except TomadaptError:
        keys = set()
    return max(_CONFIGURATIONS, key=lambda kind: len(keys & set(kind.model_fields)))
