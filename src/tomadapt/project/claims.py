"""What several files say of one tomogram, weighed: the first counts, and disagreement is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tomadapt.errors import InputError, TomadaptError
from tomadapt.project.agreement import same, shown
from tomadapt.project.model import NOT_MEASURED, UNITS, TomogramEntry, fault_of, told
from tomadapt.project.tilts import (
    OPPOSITE,
    TiltTable,
    angle_fault,
    mean_astigmatism,
    opposite,
    pairs,
    placed,
)

Doubles = NDArray[np.float64]
Read = TypeVar("Read")

PHASE_SHIFTS = "phase shifts"
NOMINAL_DEFOCUS_UM = 1.5
"""So far from the target may a measured defocus lie: autofocus and sample height leave a micron."""
EXPOSURE_TOLERANCE = 0.02
"""Of the largest exposure: rounded doses add up, and a tilt in another place differs by more."""
SCATTER_UM, SCATTERED = 1.0, 0.1
"""Where more than this fraction of the tilts is so far from the median, their fits are told."""
FEWEST_FITS = 0.5
"""Of fewer fits that can be, no defocus of the tilt series is made."""
SHIFT_DEG = 0.05
"""Less of a phase shift is none: programs write 0 with few decimals."""


@dataclass(frozen=True)
class _Told:
    """Where the columns of a table are from."""

    angles: str
    pre_exposure_e_per_A2: str
    defocus_um: str


@dataclass
class Claims:
    """Collects what files say of one tomogram, in the order in which they count.

    Attributes
    ----------
    name
        Of the tomogram.
    root
        The project's folder: files are named from there.
    """

    name: str
    root: Path
    stated: dict[str, list[tuple[Any, str]]] = field(default_factory=dict)
    tables: list[tuple[TiltTable, _Told]] = field(default_factory=list)
    nominal_defocus: list[tuple[float, str]] = field(default_factory=list)
    untilted_defocus: list[tuple[float, str]] = field(default_factory=list)
    other_volumes: list[Path] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def state(self, name: str, value: Any, source: Path, what: str = "") -> None:
        """Note what a file says of a field; None says nothing, and what cannot be is told.

        Parameters
        ----------
        name, value
            A field of :class:`~tomadapt.project.model.TomogramEntry`.
        source, what
            The file, and what in it.
        """
        told = self.told_source(source, what)
        if value is not None and not self._cannot_be(name, value, told):
            self.stated.setdefault(name, []).append((value, told))

    def _cannot_be(self, name: str, value: Any, told_source: str) -> bool:
        """Whether a field cannot have a value, which is told."""
        fault = fault_of(name, value)
        if fault:
            self.unreadable.append(
                f"{name}: {shown(value)} in {told_source} cannot be, and is left out: it {fault}"
            )
        return bool(fault)

    def tilts(
        self,
        table: TiltTable,
        source: Path,
        what: str = "",
        *,
        exposure: str = "",
        defocus: str = "",
    ) -> bool:
        """Note a file's table of tilts, and what in it angles, exposure and defocus are from.

        A table with an angle that cannot be is left out, and so is a column with such an exposure;
        of defoci the single fits are.

        Returns
        -------
        bool
            Whether the table was taken.
        """
        told = _Told(*(self.told_source(source, part) for part in (what, exposure, defocus)))
        for angle in () if table.angles_deg is None else table.angles_deg:
            if self._cannot_be("tilt_angles_deg", (float(angle),), told.angles):
                return False
        for before in () if table.pre_exposure_e_per_A2 is None else table.pre_exposure_e_per_A2:
            if self._cannot_be(
                "pre_exposure_e_per_A2", (float(before),), told.pre_exposure_e_per_A2
            ):
                table = replace(table, pre_exposure_e_per_A2=None)
                break
        self.tables.append((self._with_possible_fits(table, told.defocus_um), told))
        return True

    def _with_possible_fits(self, table: TiltTable, told_source: str) -> TiltTable:
        """The table with NaN where a defocus or an astigmatism cannot be, which is told."""
        defocus, half = table.defocus_um, table.astigmatism_um
        if defocus is None:
            return table
        good = self._possible("defocus_um", defocus, told_source)
        good_half = None if half is None else self._possible("astigmatism_um", half, told_source)
        if good_half is not None and len(good_half) == len(good):
            good = good_half = good & good_half  # the same fit has both
        if good.mean() < FEWEST_FITS:
            return replace(table, defocus_um=None, astigmatism_um=None)
        table = replace(table, defocus_um=np.where(good, defocus, np.nan))
        if half is None or good_half is None:
            return table
        enough = good_half.mean() >= FEWEST_FITS
        return replace(table, astigmatism_um=np.where(good_half, half, np.nan) if enough else None)

    def _possible(self, name: str, values: Doubles, told_source: str) -> NDArray[np.bool_]:
        """Which fits can be; the first of the others is told, and how many they are."""
        faults = [fault_of(name, float(value)) for value in values]
        bad = [row for row, fault in enumerate(faults) if fault]
        if bad:
            self.unreadable.append(
                f"{name}: {shown(float(values[bad[0]]))} in {told_source} cannot be, and is "
                f"left out: it {faults[bad[0]]} ({len(bad)} of {len(values)} tilts)"
            )
        return np.array([not fault for fault in faults])

    def target_defocus(self, values_um: Doubles, source: Path, what: str) -> None:
        """Note the defocus that was asked for, which counts where none was measured."""
        values = values_um[np.isfinite(values_um)]
        told = self.told_source(source, f"{what}, {NOT_MEASURED}")
        if len(values):
            median = round(float(np.median(values)), 6)
            if not self._cannot_be("defocus_um", median, told):
                self.nominal_defocus.append((median, told))

    def defocus_of_the_least_tilted(self, value_um: float, source: Path, what: str) -> None:
        """Note the defocus of a single image: it is held against that image's, if there is one."""
        told = self.told_source(source, what)
        if not self._cannot_be("defocus_um", value_um, told):
            self.untilted_defocus.append((value_um, told))

    def note(self, text: str) -> None:
        """Note what was chosen of several, or what is not used."""
        self.notes.append(text)

    def phase_shifts(self, values: Any, source: Path, what: str, unit: str = "") -> None:
        """Note the phase shifts of a phase plate, which no acquisition has; 0 is none."""
        values = np.abs(np.asarray(values, dtype=float))
        if np.nanmax(values, initial=0.0) > SHIFT_DEG and not any(map(_is_shift, self.notes)):
            self.note(
                f"{PHASE_SHIFTS} (median {np.nanmedian(values):.4g}{unit}) in "
                f"{self.told_source(source, what)} are not used: CTFs of tomograms are without a "
                "phase plate, so that their zeros are elsewhere; doubt the labels of this one"
            )

    def disagree(self, text: str) -> None:
        """Note a contradiction that is no matter of a single field."""
        self.contradictions.append(text)

    def read(self, reader: Callable[..., Read], *arguments: Any, **options: Any) -> Read | None:
        """Call a reader of a file that only this tomogram needs; of damage it gives None, noted."""
        try:
            return reader(*arguments, **options)
        except TomadaptError as error:
            self.unreadable.append(str(error))
            return None

    def told_source(self, source: Path, what: str = "") -> str:
        """A file's path from the project's folder, and what in it."""
        try:
            path = source.relative_to(self.root).as_posix()
        except ValueError:
            path = source.as_posix()
        return f"{path} ({what})" if what else path

    def entry(self) -> TomogramEntry:
        """What is known of the tomogram.

        Raises
        ------
        InputError
            When it cannot be one tomogram, such as one without a name.
        """
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        self._resolve_tilts(values, sources)
        self._resolve_defocus()
        for name, said in self.stated.items():
            values[name], sources[name] = said[0]
            for value, source in said[1:]:
                if not same(name, values[name], value):
                    self.contradictions.append(
                        f"{name}: {shown(values[name])} in {sources[name]}, "
                        f"{shown(value)} in {source}; the first is taken"
                    )
        self._derive(values, sources)
        try:
            return TomogramEntry(
                name=self.name,
                **values,
                other_volumes=tuple(self.other_volumes),
                sources={key: sources[key] for key in UNITS if key in sources},
                contradictions=tuple(dict.fromkeys(self.contradictions)),
                unreadable=tuple(dict.fromkeys(self.unreadable)),
                notes=tuple(dict.fromkeys(self.notes)),
            )
        except ValidationError as error:
            raise InputError(
                f"the files of the tomogram {self.name} say what cannot be",
                got=f"{told(error)} (from {'; '.join(dict.fromkeys(sources.values()))})"[:600],
                remedy="mend the file, or export it again",
            ) from None

    def _resolve_tilts(self, values: dict[str, Any], sources: dict[str, str]) -> None:
        """Angles of the first table that has any, and the other tables' columns beside them."""
        with_angles = [(t, s.angles) for t, s in self.tables if t.angles_deg is not None]
        if not with_angles:
            return
        first, first_source = with_angles[0]
        assert first.angles_deg is not None
        order = np.argsort(first.angles_deg, kind="stable")
        angles = first.angles_deg[order]
        values["tilt_angles_deg"] = tuple(map(float, angles))
        sources["tilt_angles_deg"] = first_source
        for place, (table, source) in enumerate(with_angles[1:], start=1):
            of_defocus = table.pre_exposure_e_per_A2 is None and table.defocus_um is not None
            if of_defocus and len(table) != len(angles):
                continue  # told below, as rows of defocus
            fault, against = angle_fault(first, table), first_source
            if not fault and pairs(first, table) is None:  # another table may tell the sign
                turned = (s for t, s in with_angles[1:place] if opposite(t, table))
                against = next(turned, "")
                fault = OPPOSITE if against else ""
            if fault:
                self.contradictions.append(
                    f"tilt_angles_deg: {fault.format(first=against, second=source)}; the first is "
                    "taken"
                )
        for name, column in (
            ("pre_exposure_e_per_A2", "pre_exposure_e_per_A2"),
            ("defocus_per_tilt_um", "defocus_um"),
        ):
            for place, (table, told_sources) in enumerate(self.tables):
                given, source = getattr(table, column), getattr(told_sources, column)
                if given is None:
                    continue
                if not np.isfinite(given).all():
                    continue  # fits that cannot be were told
                own = placed(given, table, first, [t for t, _ in self.tables[:place]])
                if own is None:
                    if name not in values:
                        self.contradictions.append(
                            f"{name}: {len(given)} rows in {source}, {len(angles)} tilts in "
                            f"{first_source}; they cannot be matched"
                        )
                elif name not in values:
                    # Sums of decimal fractions end in digits that nobody wrote.
                    values[name] = tuple(round(float(value), 6) for value in own)
                    sources[name] = source
                elif name == "pre_exposure_e_per_A2":
                    self._compare_exposure(values, sources[name], own, source)

    def _compare_exposure(
        self, values: dict[str, Any], first_source: str, second: Doubles, source: str
    ) -> None:
        """Tell where two files have another order, or another exposure of a tilt.

        Some programs count what a tilt had before it, others what it has after it (RELION 5 from an
        .mdoc): an offset of all of them is none.
        """
        first = np.array(values["pre_exposure_e_per_A2"])
        off = np.abs(first - second - np.median(first - second))
        worst = int(np.argmax(off))
        if off[worst] > EXPOSURE_TOLERANCE * max(first.max(), 1.0):
            self.contradictions.append(
                f"pre_exposure_e_per_A2: at {values['tilt_angles_deg'][worst]:g}° "
                f"{shown(float(first[worst]))} in {first_source}, {shown(float(second[worst]))} in "
                f"{source}; the first is taken"
            )

    def _resolve_defocus(self) -> None:
        """Defocus and astigmatism of each table, over its tilts, are statements like others."""
        of_tables: list[tuple[Any, str]] = []
        for table, told_sources in self.tables:
            source = told_sources.defocus_um
            if table.defocus_um is None or not len(table.defocus_um):
                continue
            # Fits of steep tilts are often wrong by microns: they would move a mean.
            median = float(np.nanmedian(table.defocus_um))
            of_tables.append((round(median, 6), source))
            far = int((np.abs(table.defocus_um - median) > SCATTER_UM).sum())
            if far > SCATTERED * len(table.defocus_um):
                self.contradictions.append(
                    f"defocus_per_tilt_um: {far} of {len(table.defocus_um)} tilts in {source} are "
                    f"more than {SCATTER_UM:g} µm from their median, {shown(median)}"
                )
            if table.astigmatism_um is not None and table.astigmatism_angle_deg is not None:
                half, angle = mean_astigmatism(table.astigmatism_um, table.astigmatism_angle_deg)
                self.stated.setdefault("astigmatism_um", []).append((half, source))
                self.stated.setdefault("astigmatism_angle_deg", []).append((angle, source))
            self._compare_untilted(table, source)
        measured = of_tables + self.stated.pop("defocus_um", [])
        measured += [] if measured else self.untilted_defocus[:1]
        if measured:
            self.stated["defocus_um"] = measured
        for value, source in self.nominal_defocus[:1]:
            if not measured:
                self.stated["defocus_um"] = [(value, source)]
            elif abs(value - measured[0][0]) > NOMINAL_DEFOCUS_UM:
                self.contradictions.append(
                    f"defocus_um: {shown(measured[0][0])} in {measured[0][1]}, {shown(value)} "
                    f"in {source}; the first is taken"
                )

    def _compare_untilted(self, table: TiltTable, source: str) -> None:
        """Tell where no image has the defocus that another file says of the least tilted one."""
        assert table.defocus_um is not None
        for value, told_source in self.untilted_defocus:
            if not any(same("defocus_um", float(own), value) for own in table.defocus_um):
                self.contradictions.append(
                    f"defocus_um: {shown(value)} of the least tilted image in {told_source} is "
                    f"that of no image in {source}; the latter is taken"
                )

    def _derive(self, values: dict[str, Any], sources: dict[str, str]) -> None:
        """What follows from two other fields: exposure of a tilt, and binning."""
        before = values.get("pre_exposure_e_per_A2")
        if "exposure_per_tilt_e_per_A2" not in values and before and len(set(before)) > 1:
            step = round(float(np.median(np.diff(np.unique(before)))), 4)
            source = sources["pre_exposure_e_per_A2"]
            if not self._cannot_be("exposure_per_tilt_e_per_A2", step, source):
                values["exposure_per_tilt_e_per_A2"] = step
                sources["exposure_per_tilt_e_per_A2"] = source
        voxel, pixel = values.get("voxel_size_A"), values.get("tilt_series_pixel_size_A")
        if "binning" not in values and voxel and pixel:
            binning, source = round(voxel / pixel, 3), "voxel_size_A over tilt_series_pixel_size_A"
            if not self._cannot_be("binning", binning, source):
                values["binning"], sources["binning"] = binning, source


def _is_shift(text: str) -> bool:
    return text.startswith(PHASE_SHIFTS)
