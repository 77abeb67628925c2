"""Regressions: what an import once lost, told wrongly, or stopped at."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import project_writers as made
import pytest

from command_line import call
from tomadapt.project import TomogramEntry, import_project, program_of, read_project, write_project

PHASE = "are not used: CTFs of tomograms are without a phase plate"


def first(folder: Path) -> TomogramEntry:
    return import_project(folder).tomograms[0]


def edit(path: Path, old: str, new: str, count: int = -1) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


class TestImpossibleValues:
    """One that cannot be is left out of its tomogram and told; all else is imported."""

    def check(self, folder: Path, field: str, value: str) -> tuple[TomogramEntry, TomogramEntry]:
        """The two tomograms, of which the first has the value."""
        one, other = import_project(folder).tomograms
        told = [text for text in one.unreadable if text.startswith(f"{field}: ")]
        assert len(told) == 1, one.unreadable
        assert value in told[0]
        assert "cannot be, and is left out" in told[0]
        assert other.unreadable == ()
        assert other.missing == ()
        return one, other

    def test_regression_a_defocus_of_all_tilts(self, tmp_path: Path) -> None:
        truth, other = made.truths(2)
        made.write_relion5(tmp_path, [replace(truth, defocus_um=truth.defocus_um + 29), other])
        one, other_entry = import_project(tmp_path).tomograms
        # The target is of the same number here, and cannot be, either.
        fit, target = one.unreadable
        assert fit.startswith(
            "defocus_um: 31 in Tomograms/job006/tilt_series/TS_01.star (rlnDefocus"
        )
        assert fit.endswith("it should be less than or equal to 30 (41 of 41 tilts)")
        assert target.startswith("defocus_um: 31 in ")
        assert "not measured" in target
        assert one.defocus_um is None
        assert one.defocus_per_tilt_um is None
        assert (other_entry.unreadable, other_entry.missing) == ((), ())
        assert one.tilt_angles_deg is not None
        assert one.voltage_kv == made.VOLTAGE

    def test_regression_a_defocus_of_few_tilts(self, tmp_path: Path) -> None:
        truth, other = made.truths(2)
        wrong = truth.defocus_um.copy()
        wrong[[0, -1]] = 31.5
        made.write_relion5(tmp_path, [replace(truth, defocus_um=wrong), other])
        one, _ = self.check(tmp_path, "defocus_um", "31.5 in")
        assert "(2 of 41 tilts)" in one.unreadable[0]
        assert one.defocus_per_tilt_um is None
        assert one.defocus_um == pytest.approx(2.0, abs=0.02)
        assert one.astigmatism_um == pytest.approx(made.HALF_ASTIGMATISM_UM)

    @pytest.mark.parametrize(
        ("old", "new", "field", "value"),
        [
            (" 300.0 ", " -300.0 ", "voltage_kv", "-300"),
            (" 300.0 ", " 3e5 ", "voltage_kv", "3e+05"),
            (" 2.7 ", " 270 ", "spherical_aberration_mm", "270"),
            (" 0.1 ", " 10 ", "amplitude_contrast", "10"),
            (" 1.25 ", " 1e9 ", "tilt_series_pixel_size_A", "1e+09"),
        ],
    )
    def test_regression_a_value_of_the_microscope(
        self, tmp_path: Path, old: str, new: str, field: str, value: str
    ) -> None:
        star = made.write_relion5(tmp_path, made.truths(2))
        edit(star, old, new, 1)
        one, _ = import_project(tmp_path).tomograms
        assert any(text.startswith(f"{field}: {value} in") for text in one.unreadable)
        assert one.defocus_um == pytest.approx(2.0, abs=0.02)

    def test_regression_astigmatism_of_ranges_of_views(self, tmp_path: Path) -> None:
        made.write_imod(tmp_path, made.truths(2))
        rows = ["1 15 -60 -18 3000 2900 20", "14 41 -21 60 80000 80100 20"]
        made.write(tmp_path / "TS_01/TS_01.defocus", "\n".join(["1 0 0 0 0 3", *rows]) + "\n")
        one, other = import_project(tmp_path).tomograms
        assert any("of 41 tilts)" in text for text in one.unreadable)
        assert other.unreadable == ()

    def test_regression_another_file_counts_then(self, tmp_path: Path) -> None:
        made.write_imod(tmp_path, made.truths(2))
        edit(tmp_path / "TS_01/TS_01.tlt", "  -60.25", "  -96.25")
        one, _ = self.check(tmp_path, "tilt_angles_deg", "-96.25 in TS_01/TS_01.tlt")
        assert one.sources["tilt_angles_deg"] == "TS_01/TS_01.rawtlt"
        assert one.defocus_per_tilt_um is not None

    def test_regression_an_exposure(self, tmp_path: Path) -> None:
        made.write_warp(tmp_path, made.truths(2))
        xml = tmp_path / "warp_tiltseries/TS_01.xml"
        edit(xml, f"<Dose>{made.truths(1)[0].before[0]:g}", "<Dose>-1")
        one, _ = self.check(tmp_path, "pre_exposure_e_per_A2", "-1 in")
        assert one.sources["pre_exposure_e_per_A2"].startswith("tomostar/TS_01.tomostar")

    def test_regression_what_follows_from_two_values(self, tmp_path: Path) -> None:
        made.write_portal(tmp_path, made.truths(1))
        for path in tmp_path.rglob("tiltseries_metadata.json"):
            edit(path, '"pixel_spacing": 1.25', '"pixel_spacing": 1e-9')
        entry = first(tmp_path)
        assert any(text.startswith("binning: ") for text in entry.unreadable)
        assert entry.binning is None

    def test_regression_a_setting_of_all_series(self, tmp_path: Path) -> None:
        made.write_warp(tmp_path, made.truths(2))
        settings = tmp_path / "warp_tiltseries.settings"
        edit(settings, '"PixelSize" Value="1.25"', '"PixelSize" Value="x"')
        entries = import_project(tmp_path).tomograms
        assert [entry.tilt_series_pixel_size_A for entry in entries] == [1.25, 1.25]
        assert all("PixelSize" in entry.unreadable[0] for entry in entries)

    def test_regression_sizes_without_end(self, tmp_path: Path) -> None:
        star = made.write_relion5(tmp_path, made.truths(2))
        edit(star, " 8.0 128 ", " 1e-300 1e300 ", 1)
        one, _ = import_project(tmp_path).tomograms
        assert one.size_xyz == made.SIZE_XYZ  # of the header


class TestNames:
    @pytest.mark.parametrize("writer", [made.write_imod, made.write_aretomo])
    def test_regression_a_name_that_is_there_twice_can_be_a_folder(
        self, tmp_path: Path, writer: Callable[[Path, Sequence[made.Truth]], Path]
    ) -> None:
        for session in ("A", "B"):
            writer(tmp_path / session, made.truths(2))
        project = import_project(tmp_path)
        names = [entry.name for entry in project.tomograms]
        assert sorted(names) == ["A_TS_01", "A_TS_02", "B_TS_01", "B_TS_02"]
        entry = project.entry("B_TS_02")
        assert entry.volume is not None
        assert "B" in entry.volume.relative_to(tmp_path).parts
        assert entry.notes[0].startswith("it is B/")
        assert "several folders have a series TS_02" in entry.notes[0]

    def test_regression_such_a_name_may_be_taken(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        for name, folder in (("ts", "A"), ("ts", "A/ts"), ("A_ts", ".")):
            path = tmp_path / folder / f"{name}.tlt"
            made.write(path, "".join(f"{a:8.2f}\n" for a in truth.angles_deg))
        names = [entry.name for entry in import_project(tmp_path).tomograms]
        assert sorted(names) == ["A_ts", "A_ts_2", "A_ts_3"]


class TestDefocusOfAreTomo:
    def skewed(self) -> made.Truth:
        truth = made.truths(1)[0]
        defocus = truth.defocus_um.copy()
        defocus[:4] += 3.0
        return replace(truth, defocus_um=defocus)

    def test_regression_medians_are_compared_with_medians(self, tmp_path: Path) -> None:
        truth = self.skewed()
        made.write_aretomo(tmp_path, [truth])
        (tmp_path / "TiltSeries_Metrics.csv").unlink()
        assert abs(np.mean(truth.defocus_um) - np.median(truth.defocus_um)) > 0.1
        assert first(tmp_path).contradictions == ()

    def test_regression_the_metrics_are_of_the_least_tilted_image(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        defocus = truth.defocus_um.copy()
        defocus[20] += 0.5  # at 0°
        made.write_aretomo(tmp_path, [replace(truth, defocus_um=defocus)])
        metrics = tmp_path / "TiltSeries_Metrics.csv"
        shown = f"{1e4 * defocus.mean():8.1f}"
        edit(metrics, shown, f"{1e4 * defocus[20]:8.1f}")
        assert first(tmp_path).contradictions == ()
        edit(metrics, f"{1e4 * defocus[20]:8.1f}", " 35000.0")
        assert first(tmp_path).contradictions == (
            "defocus_um: 3.5 of the least tilted image in TiltSeries_Metrics.csv (Defocus) is "
            "that of no image in TS_01_CTF.txt; the latter is taken",
        )


class TestSigns:
    """A range that is the same on both sides: only image by image the sign is seen."""

    def turned_tlt(self, folder: Path) -> made.Truth:
        truth = made.truths(1)[0]
        assert truth.angles_deg[0] == -truth.angles_deg[-1]
        order = np.arange(len(truth.order))[::-1]  # from 60° downwards: not symmetric
        truth = replace(truth, order=order, defocus_um=truth.defocus_um + 0.01 * order)
        made.write_imod(folder, [truth])
        tlt = "".join(f"{-a:8.2f}\n" for a in truth.angles_deg)
        made.write(folder / "TS_01/TS_01.tlt", tlt)
        return truth

    def test_regression_a_tlt_of_the_opposite_sign(self, tmp_path: Path) -> None:
        truth = self.turned_tlt(tmp_path)
        entry = first(tmp_path)
        told = [text for text in entry.contradictions if "opposite sign" in text]
        assert [text.partition("those in ")[2].split()[0] for text in told] == [
            "TS_01/TS_01.rawtlt;",
            "TS_01/TS_01.mrc.mdoc",
            "TS_01/TS_01.defocus",
        ]
        assert len(entry.contradictions) == 3
        # View k keeps its exposure and its defocus, whatever its angle is called.
        assert entry.pre_exposure_e_per_A2 == pytest.approx(truth.before[::-1].tolist())
        assert entry.defocus_per_tilt_um == pytest.approx(truth.defocus_um[::-1].tolist(), abs=2e-4)
        recorded = entry.acquisition().exposure_order
        assert recorded[:2] == (-60.0, -57.0)  # the first image that was recorded

    def test_regression_with_the_mdoc_alone(self, tmp_path: Path) -> None:
        truth = self.turned_tlt(tmp_path)
        (tmp_path / "TS_01/TS_01.rawtlt").unlink()
        (tmp_path / "TS_01/TS_01.defocus").unlink()
        entry = first(tmp_path)
        assert len(entry.contradictions) == 1
        assert "opposite sign" in entry.contradictions[0]
        assert entry.pre_exposure_e_per_A2 == pytest.approx(truth.before[::-1].tolist())

    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_regression_a_defocus_file_of_ranges(self, tmp_path: Path, version: int) -> None:
        self.turned_tlt(tmp_path)
        (tmp_path / "TS_01/TS_01.rawtlt").unlink()
        (tmp_path / "TS_01/TS_01.mrc.mdoc").unlink()
        rows = ["1 15 -60 -18 3000", "14 28 -21 21 4000", "27 41 18 60 5000"]
        rows[0] += "\t2" if version == 2 else ""
        text = "\n".join([*(["0 0 0 0 0 3"] if version == 3 else []), *rows])
        made.write(tmp_path / "TS_01/TS_01.defocus", text + "\n")
        entry = first(tmp_path)
        assert any("opposite sign for the views" in text for text in entry.contradictions)
        assert entry.defocus_per_tilt_um is not None
        assert entry.defocus_per_tilt_um[0] == 5.0  # view 41, which .tlt calls -60°
        assert entry.defocus_per_tilt_um[-1] == 3.0

    def test_regression_angles_of_a_range_that_is_not_the_same_on_both_sides(
        self, tmp_path: Path
    ) -> None:
        # Nothing tells which image a row is of, but the angles do.
        truth = made.truths(3)[2]
        made.write_aretomo(tmp_path, [truth])
        text = made.mdoc(replace(truth, angles_deg=-truth.angles_deg)).replace("DateTime", "Time")
        text = text.replace("ExposureDose", "PriorRecordDose")
        for row, before in enumerate(truth.before):
            text = text.replace(
                f"[ZValue = {row}]\n", f"[ZValue = {row}]\nPriorRecordDose = {before}\n"
            )
        made.write(tmp_path / "TS_03.mdoc", text)
        (tmp_path / "TS_03_TLT.txt").unlink()
        entry = first(tmp_path)
        assert any("opposite sign" in told for told in entry.contradictions)
        assert entry.pre_exposure_e_per_A2 == pytest.approx(truth.before.tolist())

    def test_regression_the_order_of_recording_tells_it_too(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_aretomo(tmp_path, [truth])
        turned = replace(truth, angles_deg=-truth.angles_deg)
        made.write(tmp_path / "TS_01.mdoc", made.mdoc(turned))
        entry = first(tmp_path)
        assert entry.contradictions == (
            "tilt_angles_deg: the angles in TS_01_TLT.txt have the opposite sign of those in "
            "TS_01.mdoc (TiltAngle); the first is taken",
        )
        assert entry.pre_exposure_e_per_A2 == pytest.approx(truth.before.tolist())

    @pytest.mark.parametrize("ranges", [True, False])
    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_angles_that_ctfplotter_inverted_are_no_contradiction(
        self, tmp_path: Path, version: int, ranges: bool
    ) -> None:
        truth = replace(made.truths(5)[4], angles_deg=made.truths(5)[0].angles_deg[:33])
        truth = replace(truth, defocus_um=truth.defocus_um[:33], order=truth.order[:33])
        made.write_imod(tmp_path, [truth])
        assert truth.inverted
        turned = replace(truth, angles_deg=-truth.angles_deg)
        text = made.defocus_file(turned, version=version, flags=0)
        if ranges:
            rows = ["1 11 30 60 3000", "12 22 -3 27 3500", "23 33 -36 -6 4000"]
            rows[0] += "\t2" if version == 2 else ""
            text = "\n".join([*(["0 0 0 0 0 3"] if version == 3 else []), *rows])
        made.write(tmp_path / "TS_05/TS_05.defocus", text)
        entry = first(tmp_path)
        assert entry.inverted
        assert [t for t in entry.contradictions if not t.startswith("defocus_um")] == []
        assert entry.defocus_per_tilt_um is not None
        if ranges:
            assert entry.defocus_per_tilt_um[0] == 3.0
            assert entry.defocus_per_tilt_um[-1] == 4.0
        else:
            assert entry.defocus_per_tilt_um == pytest.approx(truth.defocus_um.tolist(), abs=2e-4)

    def test_a_stack_that_was_sorted_since_is_no_contradiction(self, tmp_path: Path) -> None:
        # The .mdoc of the frames has its sections in the order of recording.
        truth = made.truths(1)[0]
        made.write_imod(tmp_path, [truth])
        rows = np.argsort(truth.order)
        unsorted = replace(truth, angles_deg=truth.angles_deg[rows], order=truth.order[rows])
        made.write(tmp_path / "TS_01/TS_01.mrc.mdoc", made.mdoc(unsorted))
        entry = first(tmp_path)
        assert entry.contradictions == ()
        assert entry.pre_exposure_e_per_A2 == pytest.approx(truth.before.tolist())


class TestPhaseShifts:
    def told(self, folder: Path, *parts: str) -> None:
        notes = [text for text in first(folder).notes if text.startswith("phase shifts")]
        assert len(notes) == 1, notes
        for part in (PHASE, *parts):
            assert part in notes[0]

    def test_regression_of_relion(self, tmp_path: Path) -> None:
        made.write_relion5(tmp_path, made.truths(1))
        path = next(tmp_path.rglob("tilt_series/TS_01.star"))
        edit(path, "rlnCtfScalefactor", "rlnPhaseShift")
        self.told(tmp_path, "tilt_series/TS_01.star (rlnPhaseShift)", "°")

    def test_regression_of_warptools(self, tmp_path: Path) -> None:
        made.write_warp(tmp_path, made.truths(1))
        xml = tmp_path / "warp_tiltseries/TS_01.xml"
        edit(xml, made.grid("GridCTFPhase", [0.0]), made.grid("GridCTFPhase", [0.5]))
        self.told(tmp_path, "median 90°", "TS_01.xml")
        edit(xml, made.grid("GridCTFPhase", [0.5]), "")
        edit(
            xml,
            '<Param Name="Defocus"',
            '<Param Name="PhaseShift" Value="0.25" /><Param Name="Defocus"',
        )
        self.told(tmp_path, "median 45°")

    @pytest.mark.parametrize(
        ("flags", "row"),
        [
            (4, "3000 90"),
            (12, "3000 1.5708"),
            (5, "3000 2900 20 90"),
            (36, "3000 90 0.1"),
        ],
    )
    def test_regression_of_imods_defocus_files(self, tmp_path: Path, flags: int, row: str) -> None:
        truth = made.truths(1)[0]
        made.write_imod(tmp_path, [truth])
        rows = [f"{n} {n} {a} {a} {row}" for n, a in enumerate(truth.angles_deg, start=1)]
        text = f"{flags} 0 0. 0. 0 3\n" + "\n".join(rows) + "\n"
        made.write(tmp_path / "TS_01/TS_01.defocus", text)
        self.told(tmp_path, "median 90°", "TS_01.defocus")

    @pytest.mark.parametrize("line", ["PhasePlateShift\t1.5708", "PhaseShiftInDegrees\t90"])
    def test_regression_of_imods_command_files(self, tmp_path: Path, line: str) -> None:
        made.write_imod(tmp_path, made.truths(1))
        edit(tmp_path / "TS_01/ctfcorrection.com", "Voltage\t300\n", f"Voltage\t300\n{line}\n")
        self.told(tmp_path, "median 90°", "ctfcorrection.com")

    def test_regression_of_aretomo(self, tmp_path: Path) -> None:
        made.write_aretomo(tmp_path, made.truths(1))
        metrics = tmp_path / "TiltSeries_Metrics.csv"
        edit(metrics, ",   0.0,  8.10", ",  85.0,  8.10")
        self.told(tmp_path, "median 85°", "ExtPhase")
        edit(tmp_path / "TS_01_CTF.txt", "   0.0000  ", "   1.5700  ")
        self.told(tmp_path, "median 1.57)", "TS_01_CTF.txt")

    def test_regression_of_the_portal(self, tmp_path: Path) -> None:
        made.write_portal(tmp_path, made.truths(1))
        edit(
            next(tmp_path.rglob("tiltseries_metadata.json")),
            '"phase_shift": 0.0',
            '"phase_shift": 1.5',
        )
        self.told(tmp_path, "median 1.5)", "phase_shift")


@pytest.mark.parametrize(
    "writer",
    [
        *(made.write_relion5, made.write_relion4, made.write_warp, made.write_imod),
        *(made.write_aretomo, made.write_portal),
    ],
)
def test_regression_a_byte_order_mark_is_no_damage(
    tmp_path: Path, writer: Callable[[Path, Sequence[made.Truth]], Path]
) -> None:
    writer(tmp_path / "p", made.truths(2))
    plain = import_project(tmp_path / "p")
    for path in (tmp_path / "p").rglob("*"):
        if path.is_file() and path.suffix != ".mrc":
            content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
            path.write_bytes(b"\xef\xbb\xbf" + content)
    assert import_project(tmp_path / "p") == plain
    out = tmp_path / "p.toml"
    write_project(out, plain)
    out.write_bytes(b"\xef\xbb\xbf" + out.read_bytes())
    assert read_project(out) == plain


class TestAstigmatismOfIMOD:
    """IMOD's ctfphaseflip: the angle is that of the larger defocus, from x towards y."""

    def of(self, folder: Path, rows: Sequence[str]) -> TomogramEntry:
        made.write_imod(folder, made.truths(1))
        angles = made.truths(1)[0].angles_deg
        lines = [f"{n + 1} {n + 1} {a} {a} {rows[n % len(rows)]}" for n, a in enumerate(angles)]
        text = "1 0 0. 0. 0 3\n" + "\n".join(lines) + "\n"
        made.write(folder / "TS_01/TS_01.defocus", text)
        return first(folder)

    def test_the_larger_defocus_has_the_angle(self, tmp_path: Path) -> None:
        entry = self.of(tmp_path / "a", ["2100 1900 30"])
        assert (entry.astigmatism_um, entry.astigmatism_angle_deg) == pytest.approx((0.1, 30))
        entry = self.of(tmp_path / "b", ["1900 2100 30"])
        assert (entry.astigmatism_um, entry.astigmatism_angle_deg) == pytest.approx((0.1, 120))

    def test_regression_a_second_defocus_of_0_is_none(self, tmp_path: Path) -> None:
        entry = self.of(tmp_path, ["2000 0 0"])
        assert entry.defocus_um == 2.0
        assert entry.astigmatism_um == 0


class TestPortalRunsWithSeveral:
    def several(self, folder: Path) -> Path:
        """A run with two tilt series, of which the second is the tomogram's."""
        truth = made.truths(1)[0]
        made.write_portal(folder, [truth])
        run = folder / truth.name
        content = json.loads((run / "TiltSeries/100/tiltseries_metadata.json").read_text())
        content["spherical_aberration_constant"] = 2.0
        made.write(run / "TiltSeries/101/tiltseries_metadata.json", json.dumps(content))
        return run

    def test_regression_that_of_the_tomogram_is_taken(self, tmp_path: Path) -> None:
        run = self.several(tmp_path)
        path = "10001/TS_01/Alignments/7/alignment_metadata.json"
        metadata = next(run.rglob("tomogram_metadata.json"))
        made.write(metadata, json.dumps({"voxel_spacing": 10, "alignment_metadata_path": path}))
        named = {"tiltseries_path": "10001/TS_01/TiltSeries/101/tiltseries_metadata.json"}
        made.write(run / "Alignments/7/alignment_metadata.json", json.dumps(named))
        entry = first(tmp_path)
        assert entry.spherical_aberration_mm == 2.0
        assert entry.unreadable == ()
        assert entry.notes == (
            "of the 2 tilt series 101 is taken, which the alignment of the tomogram names, and "
            "not 100",
        )

    def test_regression_where_nothing_tells_it_is_said(self, tmp_path: Path) -> None:
        self.several(tmp_path)
        entry = first(tmp_path)
        assert entry.spherical_aberration_mm == made.CS
        assert "TiltSeries/100/tiltseries_metadata.json is taken, and not" in entry.notes[0]
        assert "nothing tells which of the tilt series" in entry.notes[1]

    @pytest.mark.parametrize("name", ["", 5, "Alignments/../../x", "Alignments/8/a.json"])
    def test_paths_that_lead_nowhere(self, tmp_path: Path, name: object) -> None:
        run = self.several(tmp_path)
        metadata = next(run.rglob("tomogram_metadata.json"))
        made.write(metadata, json.dumps({"alignment_metadata_path": name}))
        entry = first(tmp_path)
        assert entry.unreadable == ()
        assert len(entry.notes) == 2

    def test_regression_several_tomograms_are_told(self, tmp_path: Path) -> None:
        made.write_portal(tmp_path, made.truths(1))
        other = tmp_path / "TS_01/Reconstructions/VoxelSpacing10.000/Tomograms/101/TS_01.mrc"
        made.volume(other)
        entry = first(tmp_path)
        assert entry.other_volumes == (other,)
        assert entry.notes[0].startswith("of 2 volumes TS_01/Reconstructions/VoxelSpacing10.000/")


class TestOrder:
    SAID = "the order of recording is assumed to be dose-symmetric"

    def test_regression_an_order_that_is_assumed_is_told(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made.write_imod(tmp_path / "p", made.truths(2))
        assert first(tmp_path / "p").assumed == ()
        for path in (tmp_path / "p").rglob("*.mdoc"):
            path.unlink()
        out = tmp_path / "p.toml"
        assert call("import", tmp_path / "p", "--out", out) == 0
        err = capsys.readouterr().err
        assert f"all tomograms: pre_exposure_e_per_A2 is missing: {self.SAID}" in err
        assert "outwards from 0° with the positive side first" in err
        missing = "# missing pre_exposure_e_per_A2 = "
        lines = [line for line in out.read_text().splitlines() if line.startswith(missing)]
        assert len(lines) == 2
        assert all(line.endswith("without it a dose-symmetric order is assumed") for line in lines)
        entry = read_project(out).tomograms[0]
        assert entry.acquisition().exposure_order == "dose_symmetric"
        # What is written into the project file later counts.
        known = entry.model_copy(update={"pre_exposure_e_per_A2": tuple(map(float, range(41)))})
        assert known.assumed == ()
        assert known.acquisition().exposure_order == entry.tilt_angles_deg

    def test_regression_the_same_exposure_twice_tells_no_order(self, tmp_path: Path) -> None:
        made.write_imod(tmp_path, made.truths(1))
        entry = first(tmp_path).model_copy(update={"pre_exposure_e_per_A2": (0.0,) * 41})
        assert self.SAID in entry.assumed[0]
        assert "the same for several tilts" in entry.assumed[0]


@pytest.mark.parametrize("mdoc", [True, False])
def test_regression_a_defocus_file_in_micrometres(tmp_path: Path, mdoc: bool) -> None:
    truth = made.truths(1)[0]
    made.write_imod(tmp_path, [truth])
    wrong = replace(truth, defocus_um=truth.defocus_um * 1e-3)
    made.write(tmp_path / "TS_01/TS_01.defocus", made.defocus_file(wrong, flags=0))
    if not mdoc:
        (tmp_path / "TS_01/TS_01.mrc.mdoc").unlink()
    entry = first(tmp_path)
    assert len(entry.unreadable) == 1
    assert "TS_01.defocus has a defocus that cannot be in nm" in entry.unreadable[0]
    assert "look like µm" in entry.unreadable[0]
    assert entry.contradictions == ()
    assert entry.defocus_um == (pytest.approx(2.0, abs=0.01) if mdoc else None)


def test_regression_a_project_that_is_to_be_classified_names_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    star = made.write_relion5(tmp_path / "relion", made.truths(1))
    made.write_imod(tmp_path / "imod", made.truths(1))
    given = ("--structures", "apoferritin", "--out", tmp_path / "out")
    for path, program in (
        (star, "RELION"),
        (tmp_path / "relion", "RELION"),
        (tmp_path / "imod", "IMOD"),
    ):
        assert program_of(path) == program
        assert call("classify", path, *given) == 3
        err = capsys.readouterr().err
        assert f"is a project of {program}" in err
        assert f"Remedy: run `tomadapt import {path} --out project.toml`" in err
    (tmp_path / "nothing").mkdir()
    assert program_of(tmp_path / "nothing") is None
    assert call("classify", tmp_path / "nothing", *given) == 3
    assert "tomadapt import" not in capsys.readouterr().err
