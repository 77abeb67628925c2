"""Configuration files: TOML in, validated objects out, one-line errors for every mistake."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tomadapt.acquisition import Acquisition
from tomadapt.errors import ConfigError, InputError
from tomadapt.io.volumes import Contrast
from tomadapt.learn.adversarial import AdversarialOptions
from tomadapt.learn.source import SourceTraining
from tomadapt.simulate.dataset import SimulationConfig

Parsed = TypeVar("Parsed", bound=BaseModel)


class Structures(BaseModel):
    """The classes and the cubes that both domains share; see :class:`SimulationConfig`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, str] | list[str]
    folder: Path | None = None
    box: int = 40
    voxel_size_A: float = 9.2
    resolution_A: float = 9.2


class SimulatedDomain(BaseModel):
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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    acquisition: Acquisition | str
    snr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    per_class: Annotated[int, Field(ge=2)]
    held_out_per_class: Annotated[int, Field(ge=0)] = 0
    max_shift_fraction: Annotated[float, Field(ge=0, le=0.3)] = 0.1

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
                "seed": seed,
            }
        )


class FileDomain(BaseModel):
    """A target that is read from files; see :func:`tomadapt.io.volumes.open_target`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    voxel_size_A: float | None = None
    contrast: Contrast = "measure"


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
    target: SimulatedDomain | FileDomain
    train: SourceTraining = SourceTraining()
    adapt: AdversarialOptions = AdversarialOptions()

    @model_validator(mode="before")
    @classmethod
    def _target_kind(cls, data: Any) -> Any:
        # Chosen here so that an error speaks of the kind that was meant, not of both.
        if isinstance(data, dict) and isinstance(data.get("target"), dict):
            kind = FileDomain if "path" in data["target"] else SimulatedDomain
            return {**data, "target": kind.model_validate(data["target"])}
        return data

    @model_validator(mode="after")
    def _simulations_are_valid(self) -> Self:
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
    if not path.is_file():
        raise InputError(
            f"no configuration at {path}", expected="a TOML file", remedy="check the path"
        )
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not valid TOML", got=str(error), remedy="mend that line"
        ) from error
    _resolve_paths(data, path.parent)
    return parse(data, kind, where=str(path))


def parse(data: dict[str, Any], kind: type[Parsed], *, where: str) -> Parsed:
    """Validate a mapping; the first mistake becomes a :class:`ConfigError`."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _first_mistake(error, kind, where) from error


def _first_mistake(error: ValidationError, kind: type[BaseModel], where: str) -> ConfigError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        known = sorted(_all_keys(kind))
        near = difflib.get_close_matches(name, known, n=1)
        return ConfigError(
            f"{where}: unknown key {place!r}",
            expected=f"{near[0]!r}?" if near else f"one of {', '.join(known)}",
            remedy="mend the spelling or delete the line",
        )
    message = first["msg"].removeprefix("Value error, ")
    got = None if first["type"] in ("missing", "value_error") else repr(first["input"])[:80]
    return ConfigError(
        f"{where}: {place or kind.__name__}: {message}", got=got, remedy="mend that value"
    )


def _all_keys(kind: type[BaseModel]) -> set[str]:
    keys: set[str] = set()
    for name, field in kind.model_fields.items():
        keys.add(name)
        for candidate in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                keys |= _all_keys(candidate)
    return keys


PATH_KEYS = {"folder", "path"}


def _resolve_paths(data: dict[str, Any], base: Path) -> None:
    for key, value in data.items():
        if isinstance(value, dict):
            _resolve_paths(value, base)
            if key == "classes":
                data[key] = {label: _resolve_structure(str(s), base) for label, s in value.items()}
        elif key == "classes" and isinstance(value, list):
            data[key] = [_resolve_structure(str(s), base) for s in value]
        elif key in PATH_KEYS and isinstance(value, str):
            data[key] = str(base / os.path.expandvars(Path(value).expanduser()))


def _resolve_structure(spec: str, base: Path) -> str:
    """Names and PDB IDs stay what they are; whatever looks like a path is one."""
    if "/" not in spec and not Path(spec).suffix:
        return spec
    return str(base / os.path.expandvars(Path(spec).expanduser()))
