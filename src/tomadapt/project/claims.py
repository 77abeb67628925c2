"""What several files say of one tomogram, weighed: the first counts, and disagreement is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tomadapt.errors import InputError, TomadaptError
from tomadapt.project.agreement import same, shown
from tomadapt.project.model import UNITS, TomogramEntry, told
from tomadapt.project.tilts import TiltTable, aligned, angle_fault, mean_astigmatism

Doubles = NDArray[np.float64]
Read = TypeVar("Read")

NOT_MEASURED = "not measured"
"""What the source of a defocus says that is but the target."""
NOMINAL_DEFOCUS_UM = 1.5
"""So far from the target may a measured defocus lie: autofocus and sample height leave a micron."""


EXPOSURE_TOLERANCE = 0.02
"""Of the largest exposure: rounded doses add up, and a tilt in another place differs by more."""
SCATTER_UM, SCATTERED = 1.0, 0.1
"""Where more than this fraction of the tilts is so far from the median, their fits are told."""


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
    other_volumes: list[Path] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def state(self, name: str, value: Any, source: Path, what: str = "") -> None:
        """Note what a file says of a field; None says nothing.

        Parameters
        ----------
        name, value
            A field of :class:`~tomadapt.project.model.TomogramEntry`.
        source, what
            The file, and what in it.
        """
        if value is not None:
            self.stated.setdefault(name, []).append((value, self.told_source(source, what)))

    def tilts(
        self,
        table: TiltTable,
        source: Path,
        what: str = "",
        *,
        exposure: str = "",
        defocus: str = "",
    ) -> None:
        """Note a file's table of tilts, and what in it angles, exposure and defocus are from."""
        told = _Told(*(self.told_source(source, part) for part in (what, exposure, defocus)))
        self.tables.append((table, told))

    def target_defocus(self, values_um: Doubles, source: Path, what: str) -> None:
        """Note the defocus that was asked for, which counts where none was measured."""
        values = values_um[np.isfinite(values_um)]
        if len(values):
            median = round(float(np.median(values)), 6)
            self.nominal_defocus.append(
                (median, self.told_source(source, f"{what}, {NOT_MEASURED}"))
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
            When a file says what cannot be, such as a tilt of 200°.
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
        for table, source in with_angles[1:]:
            of_defocus = table.pre_exposure_e_per_A2 is None and table.defocus_um is not None
            if of_defocus and len(table) != len(angles):
                continue  # told below, as rows of defocus
            if fault := angle_fault(first, table):
                self.contradictions.append(
                    f"tilt_angles_deg: {fault.format(first=first_source, second=source)}; "
                    "the first is taken"
                )
        for name, column in (
            ("pre_exposure_e_per_A2", "pre_exposure_e_per_A2"),
            ("defocus_per_tilt_um", "defocus_um"),
        ):
            for table, told_sources in self.tables:
                given, source = getattr(table, column), getattr(told_sources, column)
                if given is None:
                    continue
                placed = aligned(given, table.angles_deg, angles)
                if placed is None:
                    if name not in values:
                        self.contradictions.append(
                            f"{name}: {len(given)} rows in {source}, {len(angles)} tilts in "
                            f"{first_source}; they cannot be matched"
                        )
                elif name not in values:
                    # Sums of decimal fractions end in digits that nobody wrote.
                    values[name] = tuple(round(float(value), 6) for value in placed)
                    sources[name] = source
                elif name == "pre_exposure_e_per_A2":
                    self._compare_exposure(values, sources[name], placed, source)

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
            median = float(np.median(table.defocus_um))
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
        measured = of_tables + self.stated.pop("defocus_um", [])
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

    @staticmethod
    def _derive(values: dict[str, Any], sources: dict[str, str]) -> None:
        """What follows from two other fields: exposure of a tilt, and binning."""
        before = values.get("pre_exposure_e_per_A2")
        if "exposure_per_tilt_e_per_A2" not in values and before and len(set(before)) > 1:
            steps = np.diff(np.unique(before))
            values["exposure_per_tilt_e_per_A2"] = round(float(np.median(steps)), 4)
            sources["exposure_per_tilt_e_per_A2"] = sources["pre_exposure_e_per_A2"]
        voxel, pixel = values.get("voxel_size_A"), values.get("tilt_series_pixel_size_A")
        if "binning" not in values and voxel and pixel:
            values["binning"] = round(voxel / pixel, 3)
            sources["binning"] = "voxel_size_A over tilt_series_pixel_size_A"
