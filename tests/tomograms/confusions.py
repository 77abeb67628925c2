"""Pairs of a list and a tomogram, consistent and plausibly confused, with planted balls as truth.

Drawn are: the unit that numbers are in × binning × where they count from × the order of axes × how
tomograms are named × the file's dialect × the thickness that is stated. A confusion is a list
that says one thing, or nothing, of these, and holds another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.tomogram import Tomogram

Doubles = NDArray[np.float64]

RADIUS_A = 40.0
RATIOS = (1.0, 2.0, 4.0, 6.0, 10 / 1.35, 10 / 1.54, 10 / 2.17)
DIALECTS = (
    "relion3.0", "relion3.1", "relion4", "relion5", "warp", "dynamo", "copick", "csv", "csv in Å",
)  # fmt: skip
IN_A = ("relion5", "copick", "csv in Å")
"""Whose numbers are in Å; the others count pixels, Dynamo's and this CSV's without a size."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A list and a tomogram.

    Attributes
    ----------
    kind
        ``right``, or what is confused; what differs within a kind after a colon.
    tomogram, truth_A
        The volume, and (n, 3) where its balls are: x, y, z in Å from the first voxel's centre.
    files
        Name → text; the list is ``list``, RELION's file of tomograms ``tomograms.star``.
    owner
        Whether each row of the list is of this tomogram.
    contrast
        As it is given.
    pixel_size_A
        As stated by the user, if at all.
    """

    kind: str
    tomogram: Tomogram
    truth_A: Doubles
    files: dict[str, str]
    owner: NDArray[np.bool_]
    contrast: Any
    pixel_size_A: float | None = None

    def write(self, folder: Path) -> tuple[Path, Path | None]:
        """Write the files; the list's path, and that of the file of tomograms."""
        for name, text in self.files.items():
            (folder / name).write_text(text)
        given = folder / "tomograms.star" if "tomograms.star" in self.files else None
        return folder / "list", given


@dataclass(frozen=True)
class _Said:
    """What a list says of itself, and what it holds: numbers x, y, z as they stand in the file."""

    dialect: str
    numbers: Doubles
    pixel_A: float
    names: list[str]
    further: dict[str, list[str]] = field(default_factory=dict)

    def text(self) -> str:
        """The file."""
        if self.dialect == "copick":
            return self._copick()
        if self.dialect == "dynamo":
            return self._dynamo()
        if self.dialect.startswith("csv"):
            return self._csv()
        return self._star()

    def _star(self) -> str:
        dialect, pixel = self.dialect, repr(float(self.pixel_A))
        label = "rlnCenteredCoordinate{}Angst" if dialect == "relion5" else "rlnCoordinate{}"
        columns: dict[str, list[str]] = {
            ("rlnTomoName" if dialect in ("relion4", "relion5") else "rlnMicrographName"): [
                f"{name}.tomostar" if dialect == "warp" else name for name in self.names
            ]
        }
        for axis, values in zip("XYZ", self.numbers.T, strict=True):
            columns[label.format(axis)] = [f"{v:.6f}" for v in values]
        optics = {"relion4": "rlnTomoTiltSeriesPixelSize", "relion5": "rlnTomoTiltSeriesPixelSize"}
        n = len(self.names)
        head = ""
        if dialect == "relion3.0":
            columns["rlnMagnification"] = ["10000"] * n
            columns["rlnDetectorPixelSize"] = [pixel] * n
        else:
            name = optics.get(dialect, "rlnImagePixelSize")
            head = f"data_optics\n\nloop_\n_rlnOpticsGroup\n_{name}\n1 {pixel}\n\n"
            columns["rlnOpticsGroup"] = ["1"] * n
        columns |= self.further
        rows = zip(*columns.values(), strict=True)
        labels = "\n".join(f"_{name} #{i}" for i, name in enumerate(columns, start=1))
        body = "\n".join(" ".join(row) for row in rows)
        return f"{head}data_particles\n\nloop_\n{labels}\n{body}\n"

    def _copick(self) -> str:
        points = [
            {"location": dict(zip("xyz", row, strict=True)), "instance_id": i}
            for i, row in enumerate(self.numbers.tolist())
        ]
        content = {"run_name": self.names[0], "voxel_spacing": self.pixel_A, "unit": "angstrom"}
        return json.dumps({"pickable_object_name": "ball", **content, "points": points})

    def _dynamo(self) -> str:
        rows = []
        for i, (x, y, z) in enumerate(self.numbers.tolist()):
            words = [str(i + 1), "1", "1", *["0"] * 16, "1", *["0"] * 3]
            rows.append(" ".join([*words, f"{x:.6f}", f"{y:.6f}", f"{z:.6f}", *["0"] * 9]))
        return "\n".join(rows) + "\n"

    def _csv(self) -> str:
        axes = ("x_A", "y_A", "z_A") if self.dialect == "csv in Å" else ("x", "y", "z")
        columns = {a: [f"{v:.6f}" for v in c] for a, c in zip(axes, self.numbers.T, strict=True)}
        if not self.further:
            columns["tomogram"] = self.names
        columns |= self.further
        lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, eq=False)
class _World:
    """A volume with its balls, and how its series was recorded."""

    tomogram: Tomogram
    truth_A: Doubles
    pixel_A: float

    @property
    def sides_A(self) -> Doubles:
        return np.array(self.tomogram.shape[::-1]) * self.tomogram.voxel_size_A


def world(rng: np.random.Generator) -> _World:
    """Balls of 80 Å, bright or dark, in white noise."""
    voxel_A = float(rng.choice([10.0, 8.0, 9.92]))
    shape = tuple(
        int(n) for n in (rng.integers(40, 56), rng.integers(64, 90), rng.integers(70, 99))
    )
    sides = np.array(shape[::-1])
    reach = RADIUS_A / voxel_A
    places: list[Doubles] = []
    wanted = int(rng.integers(14, 30))
    while len(places) < wanted:
        place = rng.uniform(reach + 2, sides - 1 - reach - 2)
        if all(np.linalg.norm(place - other) > 2.2 * reach for other in places):
            places.append(place)
    density = rng.normal(size=shape).astype(np.float32)
    sign = int(rng.choice([1, -1]))
    for place in places:
        _plant(density, place, reach, 1.5 * sign)
    name = str(rng.choice(["TS_01", "0012", "grid2.pos 7".replace(" ", "_")]))
    path = f"/data/session1/{name}.mrc"
    tomogram = Tomogram(density, voxel_A, 1, name, path)
    return _World(tomogram, np.array(places) * voxel_A, voxel_A / float(rng.choice(RATIOS)))


def _plant(density: NDArray[np.float32], place: Doubles, reach: float, height: float) -> None:
    """A ball whose edge is a voxel wide."""
    low = np.maximum(np.floor(place - reach - 1).astype(int), 0)
    high = np.minimum(np.ceil(place + reach + 2).astype(int), density.shape[::-1])
    x, y, z = (np.arange(a, b) - c for a, b, c in zip(low, high, place, strict=True))
    distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    part = density[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    part += (height * np.clip(reach + 0.5 - distance, 0, 1)).astype(np.float32)


def draw(rng: np.random.Generator, here: _World) -> Pair:
    """One pair; half of them are right."""
    dialect = str(rng.choice(DIALECTS))
    contrast = "measure" if rng.random() < 0.6 else None
    drawers = _RIGHT if rng.random() < 0.5 else _CONFUSED
    pair = None
    while pair is None:  # not every confusion can be in every dialect
        pair = drawers[int(rng.integers(len(drawers)))](rng, here, dialect)
    if contrast is None:
        rows = np.round(here.truth_A[:, ::-1] / here.tomogram.voxel_size_A).astype(int)
        bright = np.mean([here.tomogram.density[tuple(row)] for row in rows]) > 0
        contrast = "positive" if bright else "negative"
    return replace(pair, contrast=contrast)


def pairs(n: int, *, seed: int = 0, each: int = 10) -> Iterator[Pair]:
    """``n`` pairs, ``each`` of them with the same volume."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        if i % each == 0:
            here = world(rng)
        yield draw(rng, here)


def _right_numbers(
    here: _World, dialect: str, places_A: Doubles | None = None
) -> tuple[Doubles, float]:
    """What a right list of a dialect holds, and the pixel size that it states."""
    places = here.truth_A if places_A is None else places_A
    if dialect == "relion5":
        return places - here.sides_A / 2, here.pixel_A
    if dialect in IN_A:
        return places, here.pixel_A
    if dialect in ("dynamo", "csv"):  # they count in the tomogram's voxels
        return places / here.tomogram.voxel_size_A + (dialect == "dynamo") / 2, here.pixel_A
    return places / here.pixel_A, here.pixel_A


def _pair(kind: str, here: _World, said: _Said, **files: str) -> Pair:
    owner = np.ones(len(said.numbers), dtype=bool)
    texts = {"list": said.text(), **{k.replace("_", "."): v for k, v in files.items()}}
    return Pair(kind, here.tomogram, here.truth_A, texts, owner, "measure")


def _style(rng: np.random.Generator, here: _World, dialect: str) -> str:
    """The tomogram's name as programs write it."""
    name = here.tomogram.name
    if dialect in ("warp", "copick"):
        return name
    styles = (name, f"{name}.mrc", here.tomogram.path, f"Tomograms/job004/{name}.rec")
    return str(rng.choice(styles))


def _said(rng: np.random.Generator, here: _World, dialect: str) -> _Said:
    numbers, pixel_A = _right_numbers(here, dialect)
    name = _style(rng, here, dialect)
    return _Said(dialect, numbers, pixel_A, [name] * len(numbers))


def _tomograms_star(here: _World, *, thicker_A: float = 0.0, name: str | None = None) -> str:
    sides = (here.sides_A + np.array([0, 0, thicker_A])) / here.pixel_A
    return (
        "data_global\n\nloop_\n_rlnTomoName\n_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\n"
        f"_rlnTomoTiltSeriesPixelSize\n{name or here.tomogram.name} "
        + " ".join(f"{side:.4f}" for side in sides)
        + f" {here.pixel_A!r}\n"
    )


# Right ones.


def _plain(rng: np.random.Generator, here: _World, dialect: str) -> Pair:
    return _pair(f"right: {dialect}", here, _said(rng, here, dialect))


def _stated_pixel(rng: np.random.Generator, here: _World, dialect: str) -> Pair | None:
    """Dynamo's tables and CSV of another binning, whose pixels the user states."""
    if dialect not in ("dynamo", "csv"):
        return None
    said = _said(rng, here, dialect)
    half = (dialect == "dynamo") / 2
    numbers = (said.numbers - half) * (here.tomogram.voxel_size_A / here.pixel_A) + half
    pair = _pair("right: --pixel-size", here, replace(said, numbers=numbers))
    return replace(pair, pixel_size_A=here.pixel_A)


def _several(rng: np.random.Generator, here: _World, dialect: str) -> Pair | None:
    """A list of several tomograms."""
    if dialect in ("dynamo", "copick"):
        return None
    return _joined(rng, here, dialect, "right: several tomograms", other="TS_99")


def _named_elsewhere(rng: np.random.Generator, here: _World, dialect: str) -> Pair | None:
    """The tomogram's name stands in a column of another label."""
    if dialect not in ("csv", "csv in Å"):
        return None
    said, owner = _joined_names(rng, here, dialect, other="other_7")
    label = str(rng.choice(["run_name", "volume", "micrograph"]))
    said = replace(said, further={label: said.names})
    pair = _pair("right: named in another column", here, said)
    return replace(pair, owner=owner)


def _volume_thinner(rng: np.random.Generator, here: _World, dialect: str) -> Pair | None:
    """RELION 5 counts from the centre: what tomograms.star says of thickness does not matter."""
    if dialect != "relion5":
        return None
    said = replace(_said(rng, here, dialect), names=[here.tomogram.name] * len(here.truth_A))
    thicker_A = float(rng.choice([-80.0, 0.0, 0.0, 120.0]))
    star = _tomograms_star(here, thicker_A=thicker_A)
    return _pair("right: tomograms.star", here, said, tomograms_star=star)


def _joined_names(
    rng: np.random.Generator, here: _World, dialect: str, *, other: str
) -> tuple[_Said, NDArray[np.bool_]]:
    elsewhere = rng.uniform(0.1, 0.9, here.truth_A.shape) * here.sides_A
    own, pixel_A = _right_numbers(here, dialect)
    theirs, _ = _right_numbers(here, dialect, elsewhere)
    owner = rng.permutation(np.arange(2 * len(own)) < len(own))
    numbers = np.empty((len(owner), 3))
    numbers[owner], numbers[~owner] = own, theirs
    name = _style(rng, here, dialect)
    return _Said(dialect, numbers, pixel_A, [name if mine else other for mine in owner]), owner


def _joined(rng: np.random.Generator, here: _World, dialect: str, kind: str, *, other: str) -> Pair:
    said, owner = _joined_names(rng, here, dialect, other=other)
    return replace(_pair(kind, here, said), owner=owner)


# Confused ones.


def _units(rng: np.random.Generator, here: _World, dialect: str) -> Pair | None:
    """Numbers in another unit than the list says or is taken for."""
    v, p = here.tomogram.voxel_size_A, here.pixel_A
    units = {
        "voxels": here.truth_A / v,
        "unbinned pixels": here.truth_A / p,
        "Å": here.truth_A,
        "nm": here.truth_A / 10,
        "fractions": here.truth_A / here.sides_A,
        "centred Å": here.truth_A - here.sides_A / 2,
        "centred pixels": (here.truth_A - here.sides_A / 2) / p,
    }
    name = str(rng.choice(list(units)))
    said = _said(rng, here, dialect)
    if np.abs(units[name] - said.numbers).max() < 1.0:
        return None  # that is what this dialect holds
    return _pair(f"unit: {name}", here, replace(said, numbers=units[name]))


def _binning(rng: np.random.Generator, here: _World, dialect: str) -> Pair | None:
    """The pixel size that the list states is another one's."""
    if dialect in (*IN_A, "dynamo", "csv"):
        return None
    factor = float(rng.choice([0.5, 2.0, 4.0, 0.1, 1.01, 0.99, 10.0]))
    said = _said(rng, here, dialect)
    return _pair(f"binning: × {factor:g}", here, replace(said, pixel_A=said.pixel_A * factor))


def _rounded_header(rng: np.random.Generator, here: _World, dialect: str) -> Pair | None:
    """The tomogram's header is rounded, or has another binning's size."""
    factor = float(rng.choice([1.01, 0.985, 2.0, 0.5]))
    if dialect in ("dynamo", "csv", "relion5"):
        return None  # they count in its voxels, or from its centre
    said = _said(rng, here, dialect)
    size_A = here.tomogram.voxel_size_A * factor
    shown = replace(here.tomogram, voxel_size_A=size_A)
    pair = _pair(f"header: × {factor:g}", here, said)
    return replace(pair, tomogram=shown, truth_A=here.truth_A * factor)


def _origin(rng: np.random.Generator, here: _World, dialect: str) -> Pair:
    """Counted from one, from the other corner's side, or from another centre."""
    said = _said(rng, here, dialect)
    name = str(rng.choice(["one-based", "corner for centre", "other corner"]))
    unit_A = {"dynamo": here.tomogram.voxel_size_A, "csv": here.tomogram.voxel_size_A}
    one = here.tomogram.voxel_size_A if dialect in IN_A else unit_A.get(dialect, here.pixel_A)
    moved = {
        "one-based": np.full(3, one if dialect in IN_A else 1.0),
        "corner for centre": here.sides_A / 2 * (1 if dialect == "relion5" else -1),
        "other corner": here.sides_A * [0, 0, 1],
    }[name]
    if name != "one-based" and dialect not in IN_A:
        moved = moved / one
    numbers = said.numbers + moved
    if name == "other corner":
        numbers = said.numbers.copy()
        last = {"relion5": np.zeros(3)}.get(dialect, here.tomogram.last_A)
        in_unit = last if dialect in IN_A else last / one
        numbers[:, 2] = in_unit[2] - numbers[:, 2] + (dialect == "dynamo")
    return _pair(f"origin: {name}", here, replace(said, numbers=numbers))


def _axes(rng: np.random.Generator, here: _World, dialect: str) -> Pair:
    """x, y and z in the order of arrays, or x and y exchanged."""
    order = [2, 1, 0] if rng.random() < 0.6 else [1, 0, 2]
    said = _said(rng, here, dialect)
    numbers = said.numbers[:, order]
    name = "".join("xyz"[i] for i in order)
    return _pair(f"axes: {name}", here, replace(said, numbers=numbers))


def _same_name(rng: np.random.Generator, here: _World, dialect: str) -> Pair | None:
    """Two tomograms of the same file name, in other folders than this one's."""
    if dialect in ("dynamo", "copick", "warp"):
        return None
    name = here.tomogram.name
    said, owner = _joined_names(rng, here, dialect, other=f"day2/{name}.mrc")
    both = zip(owner, said.names, strict=True)
    names = [f"day1/{name}.mrc" if own else given for own, given in both]
    said = replace(said, names=names)
    return replace(_pair("name: same in two folders", here, said), owner=owner)


def _another_tomogram(rng: np.random.Generator, here: _World, dialect: str) -> Pair:
    """The list of another tomogram of the same session."""
    elsewhere = rng.uniform(0.05, 0.95, here.truth_A.shape) * here.sides_A
    numbers, pixel_A = _right_numbers(here, dialect, elsewhere)
    other = rng.random() < 0.5
    name = "TS_98" if other else here.tomogram.name
    said = _Said(dialect, numbers, pixel_A, [name] * len(numbers))
    return _pair(f"name: {'another' if other else 'this one'}'s, places of another", here, said)


def _thickness(rng: np.random.Generator, here: _World, dialect: str) -> Pair | None:
    """Picked in a volume of another thickness: cut about its centre, or at one side."""
    thicker_A = float(rng.choice([60.0, 120.0, -60.0, 40.0]))
    moved = np.array([0, 0, thicker_A / 2])
    said = _said(rng, here, dialect)
    said = replace(said, names=[here.tomogram.name] * len(here.truth_A))
    unit_A = {"dynamo": here.tomogram.voxel_size_A, "csv": here.tomogram.voxel_size_A}
    unit = 1.0 if dialect in IN_A else unit_A.get(dialect, here.pixel_A)
    said = replace(said, numbers=said.numbers + moved / unit)
    files = {}
    if dialect in ("relion4", "relion5") and rng.random() < 0.5:
        files["tomograms_star"] = _tomograms_star(here, thicker_A=thicker_A)
    return _pair(f"thickness: {'stated' if files else 'not stated'}", here, said, **files)


_RIGHT = (_plain, _plain, _plain, _stated_pixel, _several, _named_elsewhere, _volume_thinner)
_CONFUSED = (
    _units, _units, _binning, _rounded_header, _origin, _axes, _same_name, _another_tomogram,
    _thickness,
)  # fmt: skip
