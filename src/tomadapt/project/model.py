"""What is known of each tomogram of a project, where it is from, and what is not known."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from tomadapt.acquisition import (
    Acquisition,
    AmplitudeContrast,
    DefocusUM,
    SphericalAberrationMM,
)
from tomadapt.errors import ConfigError

Positive = Annotated[float, Field(gt=0, le=1e6)]
Tilt = Annotated[float, Field(ge=-90, le=90)]
Exposure = Annotated[float, Field(ge=0, le=1e4)]
Side = Annotated[int, Field(ge=1, le=1_000_000)]

UNITS = {
    "volume": "the reconstructed tomogram",
    "voxel_size_A": "Å",
    "size_xyz": "voxels along x, y, z",
    "tilt_series_pixel_size_A": "Å, of the unbinned tilt series",
    "binning": "voxel size over the tilt series' pixel size",
    "tilt_angles_deg": "degrees, ascending",
    "pre_exposure_e_per_A2": (
        "e/Å² before each tilt, in the order of the angles; without it a dose-symmetric order is "
        "assumed"
    ),
    "exposure_per_tilt_e_per_A2": "e/Å²",
    "defocus_um": "µm, median over the tilts, positive = underfocus",
    "defocus_per_tilt_um": "µm, in the order of the angles",
    "astigmatism_um": "µm, half the difference of the principal defoci",
    "astigmatism_angle_deg": "degrees, of the larger defocus, from x towards y",
    "voltage_kv": "kV",
    "spherical_aberration_mm": "mm",
    "amplitude_contrast": "fraction",
    "inverted": "whether the program calls the hand (the tilt angles) inverted",
}
"""The fields that may be missing, in the order of the table, and what they mean."""

NOT_MEASURED = "not measured"
"""Said in the source of a defocus that is only the target of the recording."""

PER_TILT = ("pre_exposure_e_per_A2", "defocus_per_tilt_um")


class TomogramEntry(BaseModel):
    """One tomogram, and the tilt series that it was made of.

    None stands for what no file says. Units and signs are those of :data:`UNITS` and
    ``docs/conventions.md``; what ``inverted`` means for each program is in ``docs/projects.md``.

    Parameters
    ----------
    name
        Its name in the project.
    volume
        The file, or None.
    other_volumes
        Further volumes of the same tomogram, which were not taken.
    voxel_size_A, size_xyz, tilt_series_pixel_size_A, binning
        Å, voxels, Å, and the quotient of the first and the third.
    tilt_angles_deg
        Ascending, in degrees.
    pre_exposure_e_per_A2, defocus_per_tilt_um
        One number a tilt, in the order of the angles.
    exposure_per_tilt_e_per_A2
        Of one image.
    defocus_um
        Median over the tilts (fits of steep tilts are often wrong), positive = underfocus.
    astigmatism_um, astigmatism_angle_deg
        Mean over the tilts.
    voltage_kv, spherical_aberration_mm, amplitude_contrast
        Of the microscope.
    inverted
        Whether the program calls the hand inverted.
    sources
        Field → the file that it is from.
    contradictions
        Sentences: where files disagree.
    unreadable
        Sentences: files that are damaged and values that cannot be, which were left out.
    notes
        Sentences: what was chosen of several, and what the files have that no command uses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1)]
    volume: Path | None = None
    other_volumes: tuple[Path, ...] = ()
    voxel_size_A: Positive | None = None
    size_xyz: tuple[Side, Side, Side] | None = None
    tilt_series_pixel_size_A: Positive | None = None
    binning: Positive | None = None
    tilt_angles_deg: Annotated[tuple[Tilt, ...], Field(min_length=1)] | None = None
    pre_exposure_e_per_A2: tuple[Exposure, ...] | None = None
    exposure_per_tilt_e_per_A2: Exposure | None = None
    defocus_um: DefocusUM | None = None
    defocus_per_tilt_um: tuple[DefocusUM, ...] | None = None
    astigmatism_um: DefocusUM | None = None
    astigmatism_angle_deg: float | None = None
    voltage_kv: Positive | None = None
    spherical_aberration_mm: SphericalAberrationMM | None = None
    amplitude_contrast: AmplitudeContrast | None = None
    inverted: bool | None = None
    sources: dict[str, str] = Field(default_factory=dict)
    contradictions: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        angles = self.tilt_angles_deg
        if angles is not None and any(b < a for a, b in itertools.pairwise(angles)):
            raise ValueError("tilt_angles_deg must ascend: sort them, and the lists beside them")
        for field in PER_TILT:
            values = getattr(self, field)
            if values is not None and len(values) != len(angles or ()):
                raise ValueError(
                    f"{field} needs one number for each of the {len(angles or ())} tilts; "
                    f"got {len(values)}"
                )
        return self

    @property
    def defocus_is_target(self) -> bool:
        """Whether the defocus is the one that was aimed at, since no file has a measured one."""
        return f", {NOT_MEASURED}" in self.sources.get("defocus_um", "")  # no folder of that name

    @property
    def missing(self) -> tuple[str, ...]:
        """The fields that no file says."""
        return tuple(field for field in UNITS if getattr(self, field) is None)

    @property
    def recorded_deg(self) -> tuple[float, ...] | None:
        """The tilt angles in the order of recording; None where the exposure does not tell it."""
        angles, before = self.tilt_angles_deg, self.pre_exposure_e_per_A2
        if angles is None or before is None or len(set(before)) < len(angles):
            return None
        return tuple(angles[tilt] for tilt in sorted(range(len(angles)), key=before.__getitem__))

    @property
    def assumed(self) -> tuple[str, ...]:
        """Sentences: what commands take for granted of a tilt series where no file says it."""
        if self.tilt_angles_deg is None or self.recorded_deg is not None:
            return ()
        why = (
            "is missing" if self.pre_exposure_e_per_A2 is None else "is the same for several tilts"
        )
        return (
            f"pre_exposure_e_per_A2 {why}: the order of recording is assumed to be dose-symmetric, "
            "outwards from 0° with the positive side first",
        )

    def acquisition(self) -> Acquisition:
        """How the tilt series was recorded, for the package's commands.

        Tilts and defocus must be known. What else is missing has the defaults of
        :class:`~tomadapt.acquisition.Acquisition`, as where nothing states it on the command line:
        :attr:`assumed` says it of the order of recording.

        Raises
        ------
        ConfigError
            When tilt angles or defocus are missing, an angle is there twice, or a value is beyond
            what an acquisition may have.
        """
        needed = [f for f in ("tilt_angles_deg", "defocus_um") if getattr(self, f) is None]
        if needed or self.tilt_angles_deg is None:
            raise ConfigError(
                f"the tomogram {self.name} has no {' and no '.join(needed)}",
                expected="tilt angles and a defocus",
                got="none in the project's files",
                remedy="write them into the project file",
            )
        angles = self.tilt_angles_deg
        twice = next((a for a, b in itertools.pairwise(angles) if a == b), None)
        if twice is not None:
            raise ConfigError(
                f"the tomogram {self.name} has two tilts of the same angle",
                expected="tilt angles that differ",
                got=f"{twice:g}° twice",
                remedy="delete one of the two in the project file, in all lists of tilts",
            )
        values: dict[str, Any] = {"name": self.name, "tilt_angles_deg": angles}
        for field in _OF_ACQUISITION:
            if (value := getattr(self, field)) is not None:
                values[field] = value
        if (order := self.recorded_deg) is not None:
            values["exposure_order"] = order
        try:
            return Acquisition(**values)
        except ValidationError as error:
            raise ConfigError(
                f"the tomogram {self.name} has values that no acquisition has",
                got=told(error),
                remedy="mend them in the project file",
            ) from None


_OF_ACQUISITION = (
    *("defocus_um", "astigmatism_um", "astigmatism_angle_deg", "exposure_per_tilt_e_per_A2"),
    *("voltage_kv", "spherical_aberration_mm", "amplitude_contrast"),
)


def _check_of(field: FieldInfo) -> TypeAdapter[Any]:
    kind: Any = field.annotation
    for limit in field.metadata:
        kind = Annotated[kind, limit]
    return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))


_CHECKS = {name: [_check_of(TomogramEntry.model_fields[name])] for name in UNITS}
for _name in _OF_ACQUISITION:
    _CHECKS[_name].append(_check_of(Acquisition.model_fields[_name]))


def fault_of(field: str, value: Any) -> str:
    """Why a value of a field cannot be, by itself, in an entry and its acquisition; or nothing."""
    for check in _CHECKS[field]:
        try:
            check.validate_python(value)
        except ValidationError as error:
            return error.errors(include_url=False)[0]["msg"].removeprefix("Input ")
    return ""


class Project(BaseModel):
    """The tomograms of a project.

    Parameters
    ----------
    ecosystem
        Whose files they were read from.
    folder
        Where these lie.
    tomograms_star
        RELION's STAR file of the tomograms, or of the tilt series; None of other programs.
    notes
        Sentences: what was chosen where several files could have been read.
    tomograms
        Each of another name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ecosystem: str
    folder: Path
    tomograms_star: Path | None = None
    notes: tuple[str, ...] = ()
    tomograms: tuple[TomogramEntry, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [entry.name for entry in self.tomograms]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"the tomogram {twice} is there twice: rename one")
        return self

    def entry(self, name: str) -> TomogramEntry:
        """The tomogram of a name.

        Raises
        ------
        ConfigError
            When there is none.
        """
        for entry in self.tomograms:
            if entry.name == name:
                return entry
        raise ConfigError(
            f"the project has no tomogram {name}",
            expected=", ".join(entry.name for entry in self.tomograms[:8]) or "none",
            got=name,
            remedy="mend the name",
        )


def told(error: ValidationError) -> str:
    """The first fault of a model in words, and how many more there are."""
    faults = error.errors(include_url=False)
    where = ".".join(str(part) for part in faults[0]["loc"])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where}: {faults[0]['msg']}{more}" if where else f"{faults[0]['msg']}{more}"
