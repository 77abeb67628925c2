"""Whole STAR files of each dialect: what we do not own comes back as it was, row for row.

The files are made line by line, so the tests know what each line is without parsing any, and
coordinates are computed again in the plainest way: with decimal numbers and three turns about axes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tomadapt.io.particle_lists import ParticleList, read_particles, write_csv, write_star

Doubles = NDArray[np.float64]

PLAIN = ["007", "0.50", "-1e-3", "x.mrc", "12@stack.mrcs", "[0,1,1]", "it's", "a#b", "data_1/x.mrc"]
QUOTED = ["'two words'", '"it\'s it"', "''", '"a # b"', "' edge '", '"data_x"']
COMMENTS = ["# version 30001", "#", "   # 'open quote", "# data_particles", "# loop_"]
UNKNOWN = [
    "rlnCtfMaxResolution",
    "myOwn",
    "emClarity_x.1",
    "rlnImageName",
    "rlnRandomSubset",
    "class",
]
PIXELS = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
CENTERED = tuple(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")
ORIGINS_A = tuple(f"rlnOrigin{a}Angst" for a in "XYZ")
ORIGINS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
BOX = tuple(f"rlnTomoSubtomogram{a}" for a in ("Rot", "Tilt", "Psi"))
DIALECTS = ["relion3.0", "relion3.1", "relion4", "relion5", "warp", "m", "star"]
Values = dict[str, list[str]]


def turn(axis: str, degrees: float) -> Doubles:
    """Turns about an axis, right-handed."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    if axis == "z":
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def pose(angles: Sequence[float]) -> Doubles:
    """RELION's matrix of rot, tilt and psi, as turns of the frame one after the other."""
    rot, tilt, psi = angles
    return turn("z", -psi) @ turn("y", -tilt) @ turn("z", -rot)


@dataclass
class Made:
    """A file, and what its lines are."""

    dialect: str
    lines: list[str]
    end: str
    row_lines: list[int]
    last_label: int
    labels: list[str]
    cells: list[list[str]]
    names: list[str]
    coordinates_A: Doubles
    poses: Doubles | None
    options: dict[str, Any] = field(default_factory=dict)
    tomograms: str | None = None

    def content(self) -> bytes:
        return self.end.join(self.lines).encode()


def words(line: str) -> list[str]:
    """Values as they stand in a line, with their quotes, up to a comment."""
    found = []
    while line := line.lstrip(" \t\r"):
        if line[0] == "#":
            break
        quoted = re.match(r"""'.*?'(?=[ \t\r]|$)|".*?"(?=[ \t\r]|$)""", line)
        word = quoted.group() if quoted else re.split(r"[ \t\r]", line, maxsplit=1)[0]
        found.append(word)
        line = line[len(word) :]
    return found


def bare(word: str) -> str:
    return word[1:-1] if word[0] in "'\"" else word


def number(rng: random.Random, low: int, high: int) -> str:
    """A number in hundredths, as one program or another would write it."""
    value = Decimal(rng.randint(low * 100, high * 100)) / 100
    form = rng.choice(["{}", "{:.6f}", "{:e}", "+{}", "{:.2f}"])
    return form.format(value).replace("+-", "-")


def decimals(values: Values, labels: Sequence[str]) -> Doubles:
    return np.array([[float(Decimal(v)) for v in values[label]] for label in labels]).T


def some(rng: random.Random, choices: list[str]) -> list[str]:
    return rng.choices(choices, k=rng.randint(0, 1))


def shuffled(rng: random.Random, items: Sequence[Any]) -> list[Any]:
    return rng.sample(items, len(items))


def loop_lines(rng: random.Random, values: Values) -> tuple[list[str], int, list[int]]:
    """Lines of a loop, the number of its last label's line, and those of its rows."""
    labels = list(values)
    tail = rng.choice(["", " ", "\t"])
    numbered = rng.random() < 0.5
    lines = [rng.choice(["loop_", "loop_ ", "  loop_"])]
    lines += [f"_{name}" + f" #{n}" * numbered + tail for n, name in enumerate(labels, start=1)]
    last, rows = len(lines) - 1, []
    gap = rng.choice([" ", "  ", "\t", "     "])
    edge = rng.choice(["", " ", "\t "])
    lines += some(rng, ["", *COMMENTS])
    for cells in zip(*values.values(), strict=True):
        lines += some(rng, ["", " ", *COMMENTS])
        rows.append(len(lines))
        lines.append(edge + gap.join(cells) + rng.choice(["", " ", "  # why 'not"]))
    return lines, last, rows


def unknown_block(rng: random.Random, name: str) -> list[str]:
    lines = [f"data_{name}", *some(rng, ["", *COMMENTS])]
    cell = [*PLAIN, *QUOTED]
    if rng.random() < 0.5:
        lines += [f"_rlnPipeLine{n}   {rng.choice(cell)}" for n in range(rng.randint(1, 2))]
    else:
        # Of two columns: a value alone on its line could be the name of a block.
        rows = rng.randint(0, 2)
        lines += loop_lines(
            rng, {a: [rng.choice(cell) for _ in range(rows)] for a in ("own", "rlnJob")}
        )[0]
    return [*lines, *some(rng, ["", "  ", *COMMENTS])]


def particle_values(rng: random.Random, dialect: str, n: int) -> Values:
    """Columns of a dialect, with those that not all of its files have, and unknown ones."""
    suffix = ".tomostar" if dialect == "warp" else rng.choice(["", ".mrc", ".tomostar"])
    if dialect != "warp" and suffix == ".tomostar" and dialect not in ("m", "relion5"):
        suffix = ""  # or it would be Warp's
    label = {"m": "wrpSourceName"}.get(dialect, "rlnMicrographName")
    if dialect in ("relion4", "relion5") or (dialect == "warp" and rng.random() < 0.5):
        label = "rlnTomoName"
    values: Values = {label: [rng.choice(["007", "7", "TS_01"]) + suffix for _ in range(n)]}
    coordinates = {
        "relion5": CENTERED,
        "m": ("wrpCoordinateX1", "wrpCoordinateY1", "wrpCoordinateZ1"),
    }
    wanted = [(label, 0, 900) for label in coordinates.get(dialect, PIXELS)]
    if dialect == "m" and rng.random() < 0.5:
        wanted += [(f"wrpCoordinate{a}2", 0, 900) for a in "XYZ"]
    angles = ("wrpAngleRot1", "wrpAngleTilt1", "wrpAnglePsi1") if dialect == "m" else ANGLES
    if rng.random() < 0.5:
        wanted += [(label, -180, 180) for label in angles]
    if dialect in ("relion4", "relion5") and rng.random() < 0.5:
        wanted += [(label, -180, 180) for label in BOX]
    if dialect != "m" and rng.random() < 0.5:
        in_pixels = dialect in ("relion3.0", "star")
        wanted += [(label, -9, 9) for label in (ORIGINS if in_pixels else ORIGINS_A)]
    for label, low, high in wanted:
        values[label] = [number(rng, low, high) for _ in range(n)]
    if dialect == "relion3.0":
        values["rlnMagnification"] = ["20000.0"] * n
        values["rlnDetectorPixelSize"] = ["5.0"] * n
    for label in rng.sample(UNKNOWN, rng.randint(0, 3)):
        values[label] = [rng.choice(PLAIN + QUOTED) for _ in range(n)]
    if rng.random() < 0.5:
        values["rlnClassNumber"] = [str(rng.randint(0, 12)) for _ in range(n)]
    return values


SIZES_A = {1: Decimal("2.5"), 2: Decimal("3.25")}
"""Pixels of the two optics groups."""


def optics_values(rng: random.Random, dialect: str) -> Values:
    pixels = (
        "rlnTomoTiltSeriesPixelSize" if dialect in ("relion4", "relion5") else "rlnImagePixelSize"
    )
    groups = shuffled(rng, [1, 2])
    values = {"rlnOpticsGroup": [str(g) for g in groups], pixels: [str(SIZES_A[g]) for g in groups]}
    if dialect == "relion4":  # of subtomograms, in which no coordinate counts
        values["rlnImagePixelSize"] = ["10.0", "10.0"]
    values["rlnOpticsGroupName"] = [rng.choice(["og1", "'my group'"]) for _ in range(2)]
    return values


HALVES = {"007": (500, 600, 150), "7": (400, 600, 150), "TS_01": (512, 512, 128)}
"""Half the size of RELION 5's tomograms, in pixels of 2 Å, by the start of their names."""


def oracle_A(dialect: str, values: Values, names: list[str]) -> tuple[Doubles, Doubles | None]:
    """Positions in Å and poses, from the texts alone."""
    n = len(names)
    sizes = {"relion3.0": Decimal("2.5"), "star": Decimal("1.5"), "m": Decimal(1)}
    if "rlnOpticsGroup" in values:
        pixels = np.array([float(SIZES_A[int(g)]) for g in values["rlnOpticsGroup"]]).reshape(n, 1)
    else:
        pixels = np.full((n, 1), float(sizes[dialect]))
    boxes = np.tile(np.eye(3), (n, 1, 1))
    if BOX[0] in values:
        boxes = np.array([pose(a) for a in decimals(values, BOX)]).reshape(n, 3, 3)
    if dialect == "m":
        samples = [k for k in "12" if f"wrpCoordinateX{k}" in values]
        parts = [decimals(values, [f"wrpCoordinate{a}{k}" for a in "XYZ"]) for k in samples]
        at = np.add.reduce(parts) / len(parts)
    elif dialect == "relion5":
        halves = [[2.0 * side for side in HALVES[name.split(".")[0]]] for name in names]
        at = decimals(values, CENTERED) + np.array(halves).reshape(n, 3)
    else:
        at = decimals(values, PIXELS) * pixels
    shift = np.zeros((n, 3))
    if ORIGINS_A[0] in values:
        shift = decimals(values, ORIGINS_A)
    elif ORIGINS[0] in values:
        shift = decimals(values, ORIGINS) * pixels
    at = at - np.einsum("nij,nj->ni", boxes, shift)
    angles = next(
        (a for a in (ANGLES, ("wrpAngleRot1", "wrpAngleTilt1", "wrpAnglePsi1")) if a[0] in values),
        None,
    )
    own = (
        boxes
        if angles is None
        else boxes @ np.array([pose(a) for a in decimals(values, angles)]).reshape(n, 3, 3)
    )
    return at, None if angles is None and BOX[0] not in values else own


@st.composite
def files(draw: st.DrawFn, dialect: str) -> Made:
    # Most is left to one seed: a draw for each word would take ten times as long.
    rng = random.Random(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1 if dialect == "warp" else 0, 4))  # names alone tell Warp's
    values = particle_values(rng, dialect, n)
    has_optics = dialect in ("relion3.1", "relion4", "relion5", "warp")
    if has_optics:
        values["rlnOpticsGroup"] = [rng.choice("12") for _ in range(n)]
    order = shuffled(rng, list(values))
    values = {label: values[label] for label in order}
    if n > 1 and rng.randint(0, 4) == 0:  # the same particle twice
        for column in values.values():
            column[-1] = column[0]
    name = next(
        label for label in ("rlnTomoName", "rlnMicrographName", "wrpSourceName") if label in values
    )
    at, poses = oracle_A(dialect, values, values[name])

    lines = some(rng, ["", *COMMENTS])
    blocks: list[list[str]] = [unknown_block(rng, "general")] if rng.random() < 0.5 else []
    if has_optics:
        optics = ["data_optics", "", *loop_lines(rng, optics_values(rng, dialect))[0], ""]
        blocks.append(optics)
    block = "particles" if has_optics or rng.random() < 0.5 else ""
    particles = [f"data_{block}", *some(rng, ["", *COMMENTS])]
    loop, last, rows = loop_lines(rng, values)
    blocks.append(["PARTICLES"])
    if rng.random() < 0.5:
        blocks.append(unknown_block(rng, "job.7"))
    first = 0
    for part in shuffled(rng, blocks):
        if part == ["PARTICLES"]:
            first = len(lines) + len(particles)
            part = [*particles, *loop, *some(rng, ["", "  ", *COMMENTS])]  # noqa: PLW2901
        lines += part
    made = Made(
        dialect,
        lines if draw(st.booleans()) else [*lines, ""],
        draw(st.sampled_from(["\n", "\r\n"])),
        [first + row for row in rows],
        first + last,
        list(values),
        [list(row) for row in zip(*values.values(), strict=True)],
        values[name],
        at,
        poses,
    )
    if dialect == "star":
        made.options["voxel_size_A"] = 1.5
    if dialect == "relion5":
        sizes = {
            f"rlnTomoSize{a}": [str(2 * h[k]) for h in HALVES.values()] for k, a in enumerate("XYZ")
        }
        sizes["rlnTomoTiltSeriesPixelSize"] = ["2.0"] * len(HALVES)
        suffix = made.names[0].removeprefix(made.names[0].split(".")[0]) if made.names else ""
        sizes["rlnTomoName"] = [start + suffix for start in HALVES]
        made.tomograms = "\n".join(["data_global", *loop_lines(rng, sizes)[0], ""])
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dialects")


def read(made: Made, folder: Path, **options: Any) -> ParticleList:
    (folder / "in.star").write_bytes(made.content())
    return read_back(made, folder / "in.star", folder, **options)


def read_back(made: Made, path: Path, folder: Path, **options: Any) -> ParticleList:
    if made.tomograms is not None:
        (folder / "tomograms.star").write_text(made.tomograms)
        options["tomograms"] = folder / "tomograms.star"
    return read_particles(path, **made.options, **options, strict=False)


def repeated(made: Made) -> list[int]:
    """Rows of particles that an earlier row has already."""
    found = []
    for row, (name, at) in enumerate(zip(made.names, made.coordinates_A, strict=True)):
        for other in range(row):
            distance = float(np.linalg.norm(at - made.coordinates_A[other]))
            if name == made.names[other]:
                assume(distance < 1e-4 or distance > 0.05)
                if distance < 1e-4:
                    found.append(row)
                    break
    return found


each_dialect = pytest.mark.parametrize("dialect", DIALECTS)
few = settings(max_examples=25, deadline=None)


class TestReading:
    @each_dialect
    @few
    @given(data=st.data())
    def test_rows_and_places(self, dialect: str, folder: Path, data: st.DataObject) -> None:
        made = data.draw(files(dialect))
        particles = read(made, folder)
        assert particles.dialect == dialect
        assert len(particles) == len(made.row_lines)
        assert particles.tomograms == tuple(made.names)
        np.testing.assert_allclose(particles.coordinates_A, made.coordinates_A, atol=1e-6)
        assert [problem.row for problem in particles.problems] == repeated(made)
        if made.poses is not None and len(particles):
            assert particles.rotations is not None
            np.testing.assert_allclose(particles.rotations.as_matrix(), made.poses, atol=1e-9)
        if made.poses is None:
            assert particles.rotations is None
        assert particles.table is not None
        for label, texts in zip(made.labels, zip(*made.cells, strict=True), strict=False):
            assert particles.table.column(label) == tuple(map(bare, texts))

    @each_dialect
    @settings(max_examples=8, deadline=None)
    @given(data=st.data())
    def test_what_is_not_finite_is_listed(
        self, dialect: str, folder: Path, data: st.DataObject
    ) -> None:
        made = data.draw(files(dialect))
        assume(made.cells)
        row = data.draw(st.integers(0, len(made.cells) - 1))
        label = data.draw(
            st.sampled_from([c for c in made.labels if re.search("oordinate|Angle", c)])
        )
        line = made.row_lines[row]
        cells = made.cells[row].copy()
        cells[made.labels.index(label)] = data.draw(st.sampled_from(["nan", "inf", "-inf"]))
        made.lines[line] = " ".join(cells)
        problems = {problem.row: problem.reason for problem in read(made, folder).problems}
        assert f"line {line + 1})" in problems[row]
        assert "NaN or infinite" in problems[row]


class TestWriting:
    @each_dialect
    @few
    @given(data=st.data())
    def test_only_what_was_added_differs(
        self, dialect: str, folder: Path, data: st.DataObject
    ) -> None:
        made = data.draw(files(dialect))
        particles = read(made, folder)
        write_star(folder / "out.star", particles)
        assert (folder / "out.star").read_bytes() == made.content()

        n = len(particles)
        columns = {
            "rlnClassNumber": list(range(1, n + 1)),
            "tomadaptClassName": ["ribosome 70S", "null", "it's", ""][:n],
            "tomadaptScore": [0.25] * n,
        }
        write_star(folder / "out.star", particles, columns=columns)
        lines = (folder / "out.star").read_bytes().decode().split(made.end)
        new = [label for label in columns if label not in made.labels]
        # The labels are added behind the last one, and not a line elsewhere.
        after = made.last_label + 1
        assert [words(line) for line in lines[after : after + len(new)]] == [[f"_{c}"] for c in new]
        del lines[after : after + len(new)]
        assert len(lines) == len(made.lines)
        for number, (old, line) in enumerate(zip(made.lines, lines, strict=True)):
            if number not in made.row_lines:
                assert line == old
                continue
            row = made.row_lines.index(number)
            old_words = made.cells[row]
            assert words(line)[: len(old_words)] == [
                str(row + 1) if label == "rlnClassNumber" else word
                for label, word in zip(made.labels, old_words, strict=True)
            ]
            added = [bare(word) for word in words(line)[len(old_words) :]]
            assert added == [str(columns[label][row]) for label in new]
            # Gaps between the words, and what stands behind the last, are as they were.
            assert gaps(line)[: len(old_words)] == gaps(old)[:-1]
            assert gaps(line)[-1] == gaps(old)[-1]

        again = read_back(made, folder / "out.star", folder)
        assert again.classes == tuple(columns["tomadaptClassName"])
        assert again.tomograms == particles.tomograms
        np.testing.assert_array_equal(again.coordinates_A, particles.coordinates_A)
        # Written twice, a file does not grow.
        write_star(folder / "twice.star", again, columns=columns)
        assert (folder / "twice.star").read_bytes() == (folder / "out.star").read_bytes()

    @each_dialect
    @few
    @given(data=st.data())
    def test_some_rows_in_their_order(
        self, dialect: str, folder: Path, data: st.DataObject
    ) -> None:
        made = data.draw(files(dialect))
        particles = read(made, folder)
        n = len(particles)
        rows = data.draw(st.lists(st.integers(0, n - 1), unique=True) if n else st.just([]))
        write_star(folder / "out.star", particles, rows=rows)
        lines = (folder / "out.star").read_bytes().decode().split(made.end)
        first, last = (made.row_lines[0], made.row_lines[-1]) if n else (0, 0)
        if rows == list(range(n)):
            assert lines == made.lines
        elif rows:
            kept = [made.lines[made.row_lines[row]] for row in rows]
            assert lines == made.lines[:first] + kept + made.lines[last + 1 :]
        else:
            # Comments between the labels and the rows, and behind them, move before the loop.
            others = made.lines[:first] + made.lines[last + 1 :]
            assert sorted(x for x in lines if x.strip()) == sorted(x for x in others if x.strip())
        again = read_back(made, folder / "out.star", folder)
        assert again.table is not None
        assert again.table.labels == tuple(made.labels)
        assert len(again) == len(rows)
        for k, label in enumerate(made.labels):
            assert again.table.column(label) == tuple(bare(made.cells[row][k]) for row in rows)
        # Turned in arrays of another length, the last digit may differ.
        np.testing.assert_allclose(again.coordinates_A, particles.coordinates_A[rows], rtol=1e-12)

    @each_dialect
    @settings(max_examples=12, deadline=None)
    @given(data=st.data())
    def test_as_csv(self, dialect: str, folder: Path, data: st.DataObject) -> None:
        """Names with leading zeros, quoted values and all columns of the table are in it."""
        made = data.draw(files(dialect))
        particles = read(made, folder)
        write_csv(folder / "out.csv", particles, columns={"tomadaptScore": [0.5] * len(particles)})
        again = read_particles(folder / "out.csv", strict=False)
        np.testing.assert_array_equal(again.coordinates_A, particles.coordinates_A)
        assert again.tomograms == particles.tomograms
        assert again.classes == particles.classes
        assert [p.row for p in again.problems] == [p.row for p in particles.problems]
        if particles.rotations is not None:
            assert again.rotations is not None
            np.testing.assert_allclose(
                again.rotations.as_matrix(), particles.rotations.as_matrix(), atol=1e-9
            )
        for label in set(made.labels) & set(UNKNOWN):
            name = "csv_" + re.sub(r"\W", "_", "star_class" if label == "class" else label)
            texts = [bare(cells[made.labels.index(label)]).strip() for cells in made.cells]
            assert again.extra_columns[name] == tuple(texts)


def gaps(line: str) -> list[str]:
    """What stands before each word of a line, and behind the last."""
    found = []
    for word in words(line):
        before, line = line.split(word, 1)
        found.append(before)
    return [*found, line]
