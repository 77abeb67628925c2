"""The ordinary list of each program finds its particles in a tomogram, with no option.

Lists are made here as the programs write them; each function names the source that says so. The
series has pixels of 1.35 Å, the tomogram voxels of 10 Å, as most reconstructions have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray

from tomadapt.doctor import examine
from tomadapt.inputs.tomogram import open_tomogram
from tomadapt.tomograms.extraction import extract
from tomadapt.tomograms.positions import Positions, listed_positions

PIXEL_A, VOXEL_A = 1.35, 10.0
UNBINNED = np.array([600, 534, 326])
"""Of RELION's bin-1 tomogram, x, y, z; an odd number of voxels of 10 Å along x."""
SHAPE = (44, 72, 81)
SIDES = np.array(SHAPE[::-1])
BOX = 16


def places() -> NDArray[np.float64]:
    """x, y, z in voxels, of which 0 is the first one's centre; all over the volume."""
    rng = np.random.default_rng(5)
    found: list[NDArray[np.float64]] = []
    while len(found) < 24:
        place = rng.uniform(7, SIDES - 8).round(1)
        if all(np.linalg.norm(place - other) > 12 for other in found):
            found.append(place)
    return np.array(found)


PLACES = places()
PLACES_A = PLACES * VOXEL_A
N = len(PLACES)
ANGLES = np.random.default_rng(6).uniform(0, 180, (N, 3)).round(3)


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball at each place."""
    grid = np.indices(SHAPE)
    volume = np.zeros(SHAPE)
    for x, y, z in PLACES:
        radius = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, (z, y, x), strict=True)))
        volume += 1 / (1 + np.exp((radius - 4) / 0.5))
    path = tmp_path_factory.mktemp("tomogram") / "TS_01.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(volume.astype(np.float32))
        mrc.voxel_size = VOXEL_A
    return path


def table(block: str, labels: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"_{label} #{n}\n" for n, label in enumerate(labels, start=1))
    body = "".join(" ".join(map(str, row)) + "\n" for row in rows)
    return f"\ndata_{block}\n\nloop_\n{head}{body}\n"


def joined(*columns: Any) -> list[list[object]]:
    """Rows of arrays (n, k), of texts that each row has, and of lists."""
    wide = [c if isinstance(c, np.ndarray | list) else [c] * N for c in columns]
    return [
        [value for part in row for value in (part if isinstance(part, np.ndarray) else [part])]
        for row in zip(*wide, strict=True)
    ]


XYZ = [f"rlnCoordinate{axis}" for axis in "XYZ"]
EULER = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def relion4(folder: Path) -> Path:
    """Pixels of the bin-1 tomogram from its corner (3dem/relion, particle_set.cpp, relion-4)."""
    optics = ["rlnOpticsGroup", "rlnOpticsGroupName", "rlnTomoTiltSeriesPixelSize"]
    optics += ["rlnImagePixelSize", "rlnTomoSubtomogramBinning"]
    text = table("optics", optics, [[1, "opticsGroup1", PIXEL_A, 5.4, 4.0]])
    rows = joined("TS_01", PLACES_A / PIXEL_A, ANGLES, np.zeros((N, 3)), "1")
    origins = [f"rlnOrigin{axis}Angst" for axis in "XYZ"]
    labels = ["rlnTomoName", *XYZ, *EULER, *origins, "rlnOpticsGroup"]
    return written(folder / "particles.star", text + table("particles", labels, rows))


def relion5(folder: Path) -> Path:
    """Å from half the bin-1 size (3dem/relion, particle_set.cpp and tomogram_set.cpp, centre)."""
    text = "\ndata_general\n\n_rlnTomoSubTomosAre2DStacks 1\n"
    optics = ["rlnOpticsGroup", "rlnOpticsGroupName", "rlnTomoTiltSeriesPixelSize"]
    text += table("optics", [*optics, "rlnImagePixelSize"], [[1, "opticsGroup1", PIXEL_A, 5.4]])
    centred = PLACES_A - UNBINNED * PIXEL_A / 2
    labels = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    rows = joined("TS_01", centred, ANGLES, "1")
    labels = ["rlnTomoName", *labels, *EULER, "rlnOpticsGroup"]
    return written(folder / "particles.star", text + table("particles", labels, rows))


def relion5_set(folder: Path) -> Path:
    """The optimisation set with its tomograms.star (metadata_label.h, rlnTomoTomogramsFile)."""
    relion5(folder)
    labels = ["rlnTomoName", "rlnTomoTiltSeriesPixelSize", "rlnTomoTomogramBinning"]
    labels += [f"rlnTomoSize{axis}" for axis in "XYZ"]
    row = ["TS_01", PIXEL_A, VOXEL_A / PIXEL_A, *UNBINNED]
    written(folder / "tomograms.star", table("global", labels, [row]))
    text = "\ndata_\n\n_rlnTomoParticlesFile particles.star\n"
    text += "_rlnTomoTomogramsFile tomograms.star\n"
    return written(folder / "optimisation_set.star", text)


def warp1(folder: Path) -> Path:
    """Volumes of Warp 1 and ``ts_export_particles --3d``: pixels of rlnPixelSize.

    warpem/warp, WarpTools/Commands/Tiltseries/ExportParticlesTiltseries.cs,
    ConstructSubvolumeOutputTable, and Warp's DialogTomoParticleExport.xaml.cs.
    """
    rows = joined(
        (PLACES_A / 5.0).round(3), ANGLES, "TS_01.tomostar", "10000.0", "5.00000", "5.00000"
    )
    names = ["rlnMicrographName", "rlnMagnification", "rlnDetectorPixelSize", "rlnPixelSize"]
    return written(folder / "matching.star", table("", [*XYZ, *EULER, *names], rows))


def warp2(series_pixel_A: float) -> Callable[[Path], Path]:
    """2D series of WarpTools: pixels of rlnImagePixelSize.

    Up to July 2026 it named the series' own pixels beside them, then the same size twice (as
    above, Construct2DOpticsTable).
    """

    def make(folder: Path) -> Path:
        optics = ["rlnOpticsGroup", "rlnTomoTiltSeriesPixelSize", "rlnImagePixelSize"]
        text = "\ndata_general\n\n_rlnTomoSubTomosAre2DStacks 1\n"
        text += table("optics", optics, [[1, f"{series_pixel_A:.5f}", "5.00000"]])
        names = [f"TS_01/{n}" for n in range(N)]
        rows = joined("TS_01.tomostar", names, (PLACES_A / 5.0).round(3), ANGLES, "1")
        labels = ["rlnTomoName", "rlnTomoParticleName", *XYZ, *EULER, "rlnOpticsGroup"]
        return written(folder / "matching.star", text + table("particles", labels, rows))

    return make


def warp_matching(folder: Path) -> Path:
    """Template matching: place / physical size (warpem/warp, TiltSeries.MatchFull.cs, 2026)."""
    return matching(folder, PLACES_A / (SIDES * VOXEL_A))


def warp_matching_2024(folder: Path) -> Path:
    """The same up to September 2025: whole voxel / (voxels − 1)."""
    return matching(folder, PLACES.round() / (SIDES - 1))


def matching(folder: Path, fractions: NDArray[np.float64]) -> Path:
    scores = [f"{10 - n / 10:.4f}" for n in range(N)]
    rows = joined(fractions.astype(np.float32), ANGLES, "TS_01.tomostar", scores)
    labels = [*XYZ, *EULER, "rlnMicrographName", "rlnAutopickFigureOfMerit"]
    return written(folder / "TS_01_10.00Apx_ball.star", table("", labels, rows))


def m(folder: Path) -> Path:
    """A species' particles: Å, for samples in time (warpem/warp, Sociology/Species.cs)."""
    samples = [f"wrpCoordinate{axis}{k}" for k in (1, 2) for axis in "XYZ"]
    angles = ["wrpAngleRot1", "wrpAngleTilt1", "wrpAnglePsi1"]
    labels = [*samples, *angles, "wrpRandomSubset", "wrpSourceName", "wrpSourceHash"]
    rows = joined(PLACES_A + 2, PLACES_A - 2, ANGLES, "1", "TS_01.tomostar", "1F")
    return written(folder / "ball_particles.star", table("", labels, rows))


def dynamo(folder: Path) -> Path:
    """Voxels, a centre has ½ (Dynamo's wiki, ``Table convention`` and ``Volume center``)."""
    rows = []
    for n, place in enumerate(PLACES, start=1):
        row = ["0"] * 35
        row[0], row[1], row[2], row[19], row[21] = str(n), "1", "1", "1", "1"
        row[6:9] = [str(angle) for angle in ANGLES[n - 1]]
        row[3:6] = ["1.25", "-2", "0.5"]
        row[23:26] = [f"{c + 0.5:.4f}" for c in place - [1.25, -2, 0.5]]
        rows.append(" ".join(row) + "\n")
    return written(folder / "crop.tbl", "".join(rows))


def copick(folder: Path) -> Path:
    """Å from the corner (copick/copick, models.py, CopickPicksFile)."""
    points = [
        {"location": dict(zip("xyz", at.tolist(), strict=True)), "instance_id": 0, "score": 1.0}
        for at in PLACES_A
    ]
    content = {"pickable_object_name": "ball", "user_id": "u", "session_id": "1"}
    content |= {"run_name": "TS_01", "voxel_spacing": VOXEL_A, "unit": "angstrom"}
    return written(folder / "u_1_ball.json", json.dumps(content | {"points": points}, indent=4))


def cryolo(folder: Path) -> Path:
    """Corner in x and y, centre in z (MPI-Dortmund/napari-boxmanager, io/cbox.py)."""
    text = "\ndata_global\n\n_cbox_format_version   1.0 \n"
    labels = [f"Coordinate{a}" for a in "XYZ"] + ["Width", "Height", "Depth"]
    labels += ["EstWidth", "EstHeight", "Confidence", "NumBoxes", "Angle"]
    corners = PLACES - [18.5, 18.5, 0]
    rows = joined(corners, np.full((N, 3), 37.0), "<NA>", "<NA>", "0.75", "7", "<NA>")
    text += table("cryolo", labels, rows)
    slices = [[z] for z in sorted({*PLACES[:, 2]})]
    text += table("cryolo_include", ["slice_index"], slices)
    return written(folder / "TS_01.cbox", text)


def eman2(folder: Path) -> Path:
    """Unbinned pixels from voxel n // 2 (cryoem/eman2, programs/e2spt_boxer.py, SaveJson)."""
    boxes = (PLACES - SIDES // 2) * VOXEL_A / PIXEL_A
    content = {
        "apix_unbin": PIXEL_A,
        "boxes_3d": [[*box.tolist(), "tm", 4.5, 0] for box in boxes],
        "class_list": {"0": {"name": "ball", "boxsize": 60}},
        "tlt_params": [[0.0, 0.0, 0.0, -60.0, 0.0]],
    }
    return written(folder / "TS_01_info.json", json.dumps(content, indent=1))


def eman2_before_2018(folder: Path) -> Path:
    """Voxels of the tomogram from its corner, where ``apix_unbin`` is absent (as above)."""
    content = {"boxes_3d": [[*place, "manual", 0.0, 0] for place in PLACES.round().tolist()]}
    return written(folder / "TS_01_info.json", json.dumps(content))


def portal(folder: Path) -> Path:
    """Voxels from 0 to n − 1 (chanzuckerberg/cryoet-data-portal-backend, helper_point.py)."""
    return ndjson(folder, "point")


def portal_oriented(folder: Path) -> Path:
    """The same with a rotation (point_converter.py, OrientedPoint)."""
    return ndjson(folder, "orientedPoint", xyz_rotation_matrix=np.eye(3).tolist())


def ndjson(folder: Path, kind: str, **more: Any) -> Path:
    points = [
        {"type": kind, "location": dict(zip("xyz", place, strict=True)), **more}
        for place in PLACES.tolist()
    ]
    # The portal's files end without a line end.
    return written(folder / "101-ball-1.0.ndjson", "\n".join(map(json.dumps, points)))


def imod(folder: Path) -> Path:
    """½ at the first pixel's centre, 0 at the first section (LabShare-Archive/IMOD, imodauto.c)."""
    form = "{:12.2f}{:12.2f}{:12.2f}\n"
    return written(
        folder / "TS_01.txt", "".join(form.format(x + 0.5, y + 0.5, z) for x, y, z in PLACES)
    )


LISTS = {
    make.__name__.replace("_", " "): make
    for make in (
        relion4,
        relion5,
        relion5_set,
        warp1,
        warp_matching,
        warp_matching_2024,
        m,
        dynamo,
        copick,
        cryolo,
        eman2,
        eman2_before_2018,
        portal,
        portal_oriented,
        imod,
    )
} | {"warp2": warp2(PIXEL_A), "warp2 of July 2026": warp2(5.0)}


def off_voxels(tomogram: Path, coordinates_A: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) x, y, z: how far from the middle of its cube each ball is."""
    opened = open_tomogram(tomogram, contrast="positive")
    found = extract(opened, coordinates_A, box=BOX, voxel_size_A=VOXEL_A)
    assert found.dropped == {}
    steps = np.indices((BOX,) * 3)[::-1] - BOX // 2
    near = np.sum(steps**2, axis=0) < 49
    weights = np.where(near, np.maximum(found.volumes, 0), 0)
    sums = np.einsum("nzyx,kzyx->nk", weights, steps)
    offsets: NDArray[np.float64] = sums / weights.sum(axis=(1, 2, 3))[:, None]
    return offsets


def positions_of(path: Path, tomogram: Path) -> Positions:
    return listed_positions(path, open_tomogram(tomogram, contrast="positive"))


def test_the_measure_sees_parts_of_a_voxel(tomogram: Path) -> None:
    shift = np.array([0.6, -0.4, 0.2])
    off = off_voxels(tomogram, PLACES_A + shift * VOXEL_A)
    np.testing.assert_allclose(off, -np.tile(shift, (N, 1)), atol=0.1)


@pytest.mark.parametrize("name", LISTS)
def test_ordinary_lists_find_their_particles(name: str, tomogram: Path, tmp_path: Path) -> None:
    path = LISTS[name](tmp_path)
    found = positions_of(path, tomogram)
    assert found.rows.tolist() == list(range(N))
    assert found.rejected == {}
    off = off_voxels(tomogram, found.coordinates_A)
    # Whole voxels are rounded; RELION's size in pixels is no whole number of voxels.
    rounded = name in ("warp matching 2024", "eman2 before 2018")
    assert np.abs(off).max() < (0.55 if rounded else 0.15)
    assert np.abs(off.mean(axis=0)).max() < 0.15


@pytest.mark.parametrize("name", LISTS)
def test_doctor_reads_what_the_commands_read(name: str, tomogram: Path, tmp_path: Path) -> None:
    path = LISTS[name](tmp_path)
    report = examine([path, tomogram]).files[0]
    assert [f.text for f in report.findings if f.level == "problem"] == []
    assert report.value("particles") == N
    assert report.value("inside") == {}
    assert report.value("format") == positions_of(path, tomogram).particles.dialect
