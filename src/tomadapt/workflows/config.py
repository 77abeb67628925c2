"""Configuration files: TOML in, validated objects out, one-line errors for every mistake."""

from __future__ import annotations

import contextlib
import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from tomadapt.acquisition import Acquisition, WithLaterFields
from tomadapt.errors import ConfigError, InputError
from tomadapt.inputs.particles import Contrast
from tomadapt.learn.adversarial import AdversarialOptions
from tomadapt.learn.source import SourceTraining
from tomadapt.simulate.bounds import SNR, Box, MaxShiftFraction, Neighbours, ResolutionA, VoxelSizeA
from tomadapt.simulate.dataset import SimulationConfig
from tomadapt.structures.lookup import with_voxel_size

Parsed = TypeVar("Parsed", bound=BaseModel)

MAX_BYTES, MAX_DOTS = 1_000_000, 500
"""Longer files, and more dots in a line, are refused as none of this package's configurations."""


class Structures(BaseModel):
    """The classes and the cubes that both domains share; see :class:`SimulationConfig`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, str] | list[str]
    folder: Path | None = None
    box: Box = 40
    voxel_size_A: VoxelSizeA = 9.2
    resolution_A: ResolutionA = 9.2


class SimulatedDomain(WithLaterFields):
    """A domain that is simulated.

    Parameters
    ----------
    acquisition
        A named acquisition or a table of its parameters.
    snr
        See ``docs/conventions.md``.
    per_class, held_out_per_class
        Particles that training or adaptation see, and particles kept back for evaluation.
    max_shift_fraction
        Largest shift along each axis, as a fraction of the box.
    neighbours
        How many other macromolecules reach into each box.
    even_noise
        For a source whose target was cut out of tomograms; see :class:`SimulationConfig`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    acquisition: Acquisition | str
    snr: SNR
    per_class: Annotated[int, Field(ge=2)]
    held_out_per_class: Annotated[int, Field(ge=0)] = 0
    max_shift_fraction: MaxShiftFraction = 0.1
    neighbours: Neighbours = 0
    even_noise: bool = False

    later_fields: ClassVar[frozenset[str]] = frozenset({"neighbours", "even_noise"})

    def simulation(self, structures: Structures, *, seed: int) -> SimulationConfig:
        """The simulation of this domain, held-out particles included."""
        return SimulationConfig.model_validate(
            {
                **structures.model_dump(),
                "acquisition": self.acquisition
                if isinstance(self.acquisition, str)
                else self.acquisition.model_dump(),
                "snr": self.snr,
                "per_class": self.per_class + self.held_out_per_class,
                "max_shift_fraction": self.max_shift_fraction,
                "neighbours": self.neighbours,
                "even_noise": self.even_noise,
                "seed": seed,
            }
        )


class FileDomain(BaseModel):
    """A target that is read from files; see :func:`tomadapt.inputs.particles.open_target`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    voxel_size_A: float | None = None
    contrast: Contrast = "measure"


def _kind_of_target(value: Any) -> str:
    # Told apart by `path`, so that an error speaks of the kind that was meant, not of both.
    has_path = "path" in value if isinstance(value, dict) else isinstance(value, FileDomain)
    return "file" if has_path else "simulated"


class RunConfig(BaseModel):
    """Everything from structures to a report.

    Parameters
    ----------
    title
        Heading of the report.
    seed
        Of both simulations (source 2·seed, target 2·seed + 1), training and adaptation.
    structures, source, target, train, adapt
        The stages, in the order of the data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = "tomadapt run"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    structures: Structures
    source: SimulatedDomain
    target: Annotated[
        Annotated[SimulatedDomain, Tag("simulated")] | Annotated[FileDomain, Tag("file")],
        Discriminator(_kind_of_target),
    ]
    train: SourceTraining = SourceTraining()
    adapt: AdversarialOptions = AdversarialOptions()

    @model_validator(mode="after")
    def _simulations_are_valid(self) -> Self:
        for table, options in (("train", self.train), ("adapt", self.adapt)):
            if options.seed != 0:
                raise ValueError(f"seed belongs to the whole run, not to [{table}]: move it up")
        self.source_simulation()
        self.target_simulation()
        return self

    def with_seed(self, seed: int) -> RunConfig:
        """The same run with another seed."""
        return self.model_copy(update={"seed": seed})

    def source_simulation(self) -> SimulationConfig:
        """The simulation of the source."""
        return self.source.simulation(self.structures, seed=2 * self.seed)

    def target_simulation(self) -> SimulationConfig | None:
        """The simulation of the target; None where it is read from files."""
        if isinstance(self.target, FileDomain):
            return None
        return self.target.simulation(self.structures, seed=2 * self.seed + 1)


def load_config(path: Path, kind: type[Parsed]) -> Parsed:
    """Read a TOML file.

    Relative paths in it are relative to the file's folder; ``$NAME`` and ``~`` are expanded.

    Raises
    ------
    InputError
        When there is no such file.
    ConfigError
        When it is not TOML, or a key or value cannot be used; near misses are suggested.
    """
    data = read_toml(path)
    # Absolute, so that a run is the same run from whichever folder it is started.
    try:
        _resolve_paths(data, path.parent.resolve())
        return parse(data, kind, where=str(path))
    except RecursionError:
        raise _not_toml(path, "tables nested too deep") from None


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises
    ------
    InputError
        When there is no such file, or it cannot be read.
    ConfigError
        When it is not TOML, or implausibly long or deep.
    """
    if not path.is_file():
        raise InputError(
            f"no configuration at {path}",
            expected="a TOML file",
            got="a folder" if path.is_dir() else "nothing",
            remedy="check the path",
        )
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _not_toml(path, f"{size} bytes, more than {MAX_BYTES}")
        text = path.read_text(encoding="utf-8")
        # The parser's time and memory grow with the square of a key's length.
        if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
            raise _not_toml(path, f"a line of more than {MAX_DOTS} dots")
        return tomllib.loads(text)
    except RecursionError:
        raise _not_toml(path, "values nested too deep") from None
    except ValueError as error:  # of TOML's form, of UTF-8, or of a number that is too long
        raise _not_toml(path, str(error)) from error
    except OSError as error:
        raise InputError(
            f"cannot read {path}",
            expected="a readable TOML file",
            got=error.strerror,
            remedy="check its permissions",
        ) from error


def _not_toml(path: Path, got: str) -> ConfigError:
    return ConfigError(
        f"{path} is not valid TOML",
        expected="lines such as snr = 0.1",
        got=got,
        remedy="mend that line",
    )


def parse(data: dict[str, Any], kind: type[Parsed], *, where: str) -> Parsed:
    """Validate a mapping; the first mistake becomes a :class:`ConfigError`."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _first_mistake(error, kind, data, where) from error


def _first_mistake(
    error: ValidationError, kind: type[BaseModel], data: dict[str, Any], where: str
) -> ConfigError:
    # A misspelt key is also a missing one: the misspelling is what to speak of. Of the members of
    # a union the one that the value fits best fails deepest.
    first = min(
        error.errors(),
        key=lambda e: (e["type"] != "extra_forbidden", -len(_walk(e["loc"], data)[0])),
    )
    keys = _keys_in_file(first["loc"], first["input"], data, missing=first["type"] == "missing")
    place = ".".join(keys)
    if first["type"] == "extra_forbidden":
        here = _keys_of_table(kind, keys[:-1])
        # A key of another table is suggested only where none of this one is near.
        near = [
            *difflib.get_close_matches(keys[-1], sorted(here), n=1),
            *difflib.get_close_matches(keys[-1], sorted(_all_keys(kind)), n=1),
        ]
        return ConfigError(
            f"{where}: unknown key {place!r}",
            expected=f"{near[0]!r}?" if near else f"one of {', '.join(sorted(here))}",
            remedy="mend the spelling or delete the line",
        )
    message = first["msg"].removeprefix("Value error, ")
    got = None if first["type"] in ("missing", "value_error") else repr(first["input"])[:80]
    return ConfigError(
        f"{where}: {place or kind.__name__}: {message}",
        got=got,
        remedy="add it" if first["type"] == "missing" else "mend that value",
    )


def _keys_in_file(
    location: tuple[int | str, ...], value: Any, data: dict[str, Any], *, missing: bool
) -> list[str]:
    """The keys that lead to a mistake, without the names pydantic gives members of a union.

    What only a stage finds wrong (:meth:`SimulatedDomain.simulation`) has a location within that
    stage; it is looked for in every table.
    """
    if location and location[0] not in data and not missing:
        for section, table in data.items():
            keys, found = _walk(location, table)
            if keys and repr(found) == repr(value):  # nan is not nan
                return [section, *keys]
    keys, _ = _walk(location, data)
    if missing or not keys:
        keys += [str(part) for part in location[-1:] if str(part) not in keys[-1:]]
    return keys


def _walk(location: tuple[int | str, ...], data: Any) -> tuple[list[str], Any]:
    keys: list[str] = []
    for part in location:
        inside = isinstance(data, dict) and part in data
        if inside or (isinstance(data, list | tuple) and isinstance(part, int)):
            keys.append(str(part))
            data = data[part]
    return keys, data


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in get_args(annotation) for model in _models_in(part)}


def _keys_of_table(kind: type[BaseModel], keys: list[str]) -> set[str]:
    """What may stand in the table that ``keys`` lead to."""
    models = {kind}
    for key in keys:
        fields = [m.model_fields[key] for m in models if key in m.model_fields]
        models = {inner for field in fields for inner in _models_in(field.annotation)}
    return {name for model in models for name in model.model_fields}


def _all_keys(kind: type[BaseModel]) -> set[str]:
    keys = set(kind.model_fields)
    for field in kind.model_fields.values():
        for model in _models_in(field.annotation):
            keys |= _all_keys(model)
    return keys


PATH_KEYS = {"folder", "path"}


def _resolve_paths(data: dict[str, Any], base: Path) -> None:
    for key, value in data.items():
        if key == "classes" and isinstance(value, dict):
            data[key] = {label: _resolve_structure(spec, base) for label, spec in value.items()}
        elif key == "classes" and isinstance(value, list):
            data[key] = [_resolve_structure(spec, base) for spec in value]
        elif isinstance(value, dict):
            _resolve_paths(value, base)
        elif key in PATH_KEYS and isinstance(value, str):
            data[key] = _resolve(value, base)


def _resolve_structure(spec: Any, base: Path) -> Any:
    """Paths, and files beside the configuration; names and PDB IDs stay what they are."""
    if isinstance(spec, str) and ("/" in spec or (base / with_voxel_size(spec)[0]).is_file()):
        return _resolve(spec, base)
    return spec


def _resolve(path: str, base: Path) -> str:
    with contextlib.suppress(RuntimeError):  # no such user: it stays `~name`, and is not found
        path = str(Path(path).expanduser())
    return str(base / os.path.expandvars(path))
