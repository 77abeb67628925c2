"""Tilt series from STAR files of RELION 4, RELION 5 and WarpTools: directions, defocus, exposure.

Sources: RELION 5's ``src/jaz/tomography/tomogram_set.cpp`` (``loadTomogram``) and ``tomogram.cpp``
(``getCtf``, ``setProjectionMatrix``); WarpTools' ``ExportParticlesTiltseries.cs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.errors import InputError
from tomadapt.io.particle_lists.model import missing_columns, numbers
from tomadapt.io.particle_lists.tomogram_sizes import SIZES, table_of_tomograms
from tomadapt.io.relion_files import SERIES_FILE, located, triples
from tomadapt.io.star import StarDocument, StarTable, read_star
from tomadapt.tomograms.tilt_geometry import TiltGeometry

Doubles = NDArray[np.float64]

MATRIX_ROWS = tuple(f"rlnTomoProj{axis}" for axis in "XYZ")
ANGLES = ("rlnTomoYTilt", "rlnTomoZRot")

_LARGEST_DEVIATION = 0.02  # of a matrix from a rotation: alignments may correct magnification
_LARGEST_OFF_Y_DEG = 15.0


class NumberTable:
    """Reads columns of a STAR file's table as finite numbers.

    Its methods raise InputError where a column is missing or holds anything else.
    """

    def __init__(self, table: StarTable, path: Path) -> None:
        self.table, self.path = table, path

    def numbers(
        self,
        label: str,
        default: float | None = None,
        *,
        within: tuple[float, float] = (-1e6, 1e6),
    ) -> Doubles:
        """(n,) numbers of a column, or the default where there is no such column."""
        if label not in self.table:
            if default is None:
                raise missing_columns(self.path, [label], self.table.labels)
            return np.full(len(self.table), default)
        texts = self.table.column(label)
        values = numbers(texts, what=label, path=self.path, place=self.table.place)
        self._require_within(label, values, within)
        return values

    def triples(self, label: str) -> Doubles:
        """(n, 3) the first three numbers of a column of lists such as ``[0,1,0,0]``."""
        if label not in self.table:
            raise missing_columns(self.path, [label], self.table.labels)
        values = triples(self.table, label, self.path)
        self._require_within(label, np.abs(values).max(axis=1), (0, 2))
        return values

    def _require_within(self, label: str, values: Doubles, within: tuple[float, float]) -> None:
        low, high = within
        good = (values >= low) & (values <= high)  # not so for NaN
        if not good.all():
            row = int(np.argmin(good))
            raise InputError(
                f"{self.path}, {self.table.place(row)}: {label} cannot be what it is",
                expected=f"numbers from {low:g} to {high:g}",
                got=self.table.column(label)[row][:80],
                remedy="mend that row, or export the file again",
            )


def read_tilt_series(
    path: Path, wanted: Set[str], *, defaults: Mapping[str, float]
) -> dict[str, TiltGeometry]:
    """Read the geometry of tilt series from RELION's or WarpTools' STAR file of tomograms.

    Parameters
    ----------
    path
        With a table of all tomograms, and those of their images in it or in files that it names.
    wanted
        Names of the tomograms to read.
    defaults
        By label: what holds for all of them where the file does not say, such as voltages.

    Returns
    -------
    By name, those that the file has.

    Raises
    ------
    InputError
        When a file is missing or damaged or lacks columns, a number is not finite, a matrix is no
        rotation, or the specimen does not turn about y.
    """
    document = read_star(path)
    general = table_of_tomograms(document, path)
    names = general.column("rlnTomoName")
    found = {}
    for row, name in enumerate(names):
        if name in wanted:
            series, series_path = _series(document, general, row, path)
            one = NumberTable(general.take([row]), path)
            found[name] = _geometry(one, NumberTable(series, series_path), defaults)
    return found


def _series(
    document: StarDocument, general: StarTable, row: int, path: Path
) -> tuple[StarTable, Path]:
    """The table of a tomogram's images: in the same file (RELION 4, WarpTools) or in its own."""
    name = general.column("rlnTomoName")[row]
    if SERIES_FILE in general:
        path = located(general.column(SERIES_FILE)[row], path)
        document = read_star(path)
    table = document.table(name)
    if table is None or not len(table):
        raise InputError(
            f"{path} does not have the images of the tomogram {name[:80]}",
            expected=f"a table data_{name[:80]}",
            got=", ".join(f"data_{t.block}" for t in document.tables[:5]) or "none",
            remedy="export the tomograms again",
        )
    return table, path


def _geometry(
    general: NumberTable, series: NumberTable, defaults: Mapping[str, float]
) -> TiltGeometry:
    """One tilt series, from its row among the tomograms and the table of its images."""

    def of_microscope(label: str) -> float:
        if label in general.table:
            return float(general.numbers(label)[0])
        if label not in defaults:
            raise missing_columns(general.path, [label], general.table.labels)
        return defaults[label]

    pixel_A = of_microscope("rlnTomoTiltSeriesPixelSize")
    size = np.array([general.numbers(label)[0] for label in SIZES])
    principal = np.stack([series.numbers(f"rlnDefocus{axis}") for axis in "UV"]) * 1e-4
    angle = series.numbers("rlnDefocusAngle")
    slope = general.numbers("rlnTomoDefocusSlope", 1.0)[0]
    geometry = TiltGeometry(
        projections=_projections(series),
        defocus_um=principal.mean(axis=0),
        # torch-ctf gives NaN where the second defocus is the larger one.
        astigmatism_um=np.abs(principal[0] - principal[1]) / 2,
        astigmatism_angle_deg=np.where(principal[0] < principal[1], angle + 90, angle),
        phase_shift_deg=series.numbers("rlnPhaseShift", 0.0),
        scale=series.numbers("rlnCtfScalefactor", 1.0, within=(-1e3, 1e3)),
        exposure_e_per_A2=series.numbers("rlnMicrographPreExposure", within=(0, 1e4)),
        b_factor_A2=series.numbers("rlnCtfBfactor", 0.0, within=(-1e3, 1e5)),
        b_factor_per_exposure=float(
            general.numbers("rlnCtfBfactorPerElectronDose", 0.0, within=(-1, 1e3))[0]
        ),
        depth_to_defocus=float(general.numbers("rlnTomoHand", -1.0)[0] * slope),
        centre_A=size * pixel_A / 2,
        voltage_kv=of_microscope("rlnVoltage"),
        spherical_aberration_mm=of_microscope("rlnSphericalAberration"),
        amplitude_contrast=of_microscope("rlnAmplitudeContrast"),
    )
    off_y_deg = geometry.tilt_axis_off_y_deg
    if off_y_deg > _LARGEST_OFF_Y_DEG:
        raise InputError(
            f"the specimen of {series.path}, data_{series.table.block[:80]} does not turn about y",
            expected=f"a tilt axis within {_LARGEST_OFF_Y_DEG:g}° of the tomogram's y axis",
            got=f"{off_y_deg:.0f}°",
            remedy="reconstruct tomograms with the tilt axis along y",
        )
    return geometry


def _projections(series: NumberTable) -> Doubles:
    """(t, 3, 3) from matrices, or else from RELION 5's angles."""
    if all(label in series.table for label in MATRIX_ROWS):
        matrices = np.stack([series.triples(label) for label in MATRIX_ROWS], axis=1)
    elif all(label in series.table for label in ANGLES):
        degrees = [series.numbers("rlnTomoXTilt", 0.0), *map(series.numbers, ANGLES)]
        # The specimen turns about x, then y, then z, all of them fixed.
        turns = Rotation.from_euler("xyz", np.stack(degrees, axis=1), degrees=True)
        matrices = np.asarray(turns.as_matrix())
    else:
        raise missing_columns(series.path, [*MATRIX_ROWS, "or", *ANGLES], series.table.labels)
    product: NDArray[Any] = matrices @ matrices.transpose(0, 2, 1) - np.eye(3)
    wrong = (np.abs(product).max(axis=(1, 2)) > _LARGEST_DEVIATION) | (np.linalg.det(matrices) < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{series.path}, {series.table.place(row)}: the projection matrix is no rotation",
            expected=f"orthogonal rows of length 1 to {_LARGEST_DEVIATION:.0%}, right-handed",
            got=np.array2string(matrices[row], precision=3, suppress_small=True),
            remedy="export the tomograms again",
        )
    return np.asarray(matrices)
