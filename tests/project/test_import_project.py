"""Projects of each ecosystem, imported without an option: every cell of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import project_writers as made
import pytest

from tomadapt.errors import ConfigError, InputError
from tomadapt.project import Project, TomogramEntry, import_project
from tomadapt.project.model import UNITS


@pytest.fixture(scope="module")
def twelve() -> list[made.Truth]:
    return made.truths()


def check_series(
    entry: TomogramEntry, truth: made.Truth, *, angles: np.ndarray | None = None
) -> None:
    """All fields of the tilt series and its optics."""
    angles = truth.angles_deg if angles is None else angles
    assert entry.tilt_angles_deg == pytest.approx(angles.tolist(), abs=0.011)
    assert entry.pre_exposure_e_per_A2 == pytest.approx(truth.before.tolist(), abs=1e-3)
    assert entry.exposure_per_tilt_e_per_A2 == pytest.approx(made.EXPOSURE)
    assert entry.defocus_per_tilt_um == pytest.approx(truth.defocus_um.tolist(), abs=2e-4)
    assert entry.defocus_um == pytest.approx(np.median(truth.defocus_um), abs=2e-4)
    assert entry.astigmatism_um == pytest.approx(made.HALF_ASTIGMATISM_UM, abs=2e-4)
    assert entry.astigmatism_angle_deg == pytest.approx(made.ASTIGMATISM_DEG, abs=0.01)
    assert entry.voltage_kv == made.VOLTAGE
    assert entry.spherical_aberration_mm == made.CS
    assert entry.amplitude_contrast == made.AMPLITUDE
    assert entry.tilt_series_pixel_size_A == made.PIXEL_A
    assert entry.binning == made.BINNING
    assert entry.inverted is truth.inverted


def check_volume(entry: TomogramEntry, name: str) -> None:
    assert entry.volume is not None
    assert entry.volume.name == name
    assert entry.volume.exists()
    assert entry.voxel_size_A == made.VOXEL_A
    assert entry.size_xyz == made.SIZE_XYZ


def check_clean(project: Project, *missing: str) -> None:
    """No contradictions; nothing is missing but what is named, and all else has a source."""
    for entry in project.tomograms:
        assert entry.contradictions == ()
        assert entry.unreadable == ()
        assert set(entry.missing) == set(missing)
        assert set(entry.sources) == set(UNITS) - set(missing)


class TestEveryCell:
    def test_relion_5(self, tmp_path: Path, twelve: list[made.Truth]) -> None:
        made.write_relion5(tmp_path, twelve)
        project = import_project(tmp_path)
        assert project.ecosystem == "RELION"
        check_clean(project)
        for entry, truth in zip(project.tomograms, twelve, strict=True):
            assert entry.name == truth.name
            check_series(entry, truth)
            check_volume(entry, f"rec_{truth.name}.mrc")
        assert sum(entry.inverted or False for entry in project.tomograms) == 1
        sources = project.tomograms[0].sources
        assert sources["tilt_angles_deg"] == f"{made.JOB}/tilt_series/TS_01.star (rlnTomoYTilt)"
        assert sources["inverted"] == f"{made.JOB}/tomograms.star (rlnTomoHand -1)"

    def test_relion_5_from_its_star_file_and_an_optimisation_set(
        self, tmp_path: Path, twelve: list[made.Truth]
    ) -> None:
        star = made.write_relion5(tmp_path, twelve[:2])
        made.write(
            tmp_path / "Extract/job009/optimisation_set.star",
            f"\ndata_\n\n_rlnTomoTomogramsFile   {made.JOB}/tomograms.star\n"
            "_rlnTomoParticlesFile   Extract/job009/particles.star\n",
        )
        for path in (star, tmp_path / "Extract/job009/optimisation_set.star"):
            for entry, truth in zip(import_project(path).tomograms, twelve[:2], strict=True):
                check_series(entry, truth)

    def test_relion_5_with_the_pretilt_of_a_lamella(
        self, tmp_path: Path, twelve: list[made.Truth]
    ) -> None:
        made.write_relion5(tmp_path, twelve[:1], pre_tilt_deg=9.0)
        entry = import_project(tmp_path).tomograms[0]
        check_series(entry, twelve[0], angles=twelve[0].angles_deg + 9)
        assert entry.contradictions == ()

    def test_relion_4(self, tmp_path: Path, twelve: list[made.Truth]) -> None:
        made.write_relion4(tmp_path, twelve)
        project = import_project(tmp_path)
        check_clean(project, "volume", "voxel_size_A", "size_xyz", "binning")
        for entry, truth in zip(project.tomograms, twelve, strict=True):
            check_series(entry.model_copy(update={"binning": made.BINNING}), truth)

    def test_warptools(self, tmp_path: Path, twelve: list[made.Truth]) -> None:
        made.write_warp(tmp_path, twelve)
        project = import_project(tmp_path)
        assert project.ecosystem == "WarpTools"
        check_clean(project)
        for entry, truth in zip(project.tomograms, twelve, strict=True):
            check_series(entry, truth)
            check_volume(entry, f"{truth.name}_10.00Apx.mrc")
            assert entry.other_volumes == ()

    def test_warptools_leaves_out_tilts_that_are_not_used(
        self, tmp_path: Path, twelve: list[made.Truth]
    ) -> None:
        made.write_warp(tmp_path, twelve[:1])
        xml = made.warp_xml(twelve[0], unused=(0, 40))
        made.write(tmp_path / "warp_tiltseries/TS_01.xml", xml)
        entry = import_project(tmp_path).tomograms[0]
        assert entry.tilt_angles_deg == tuple(twelve[0].angles_deg[1:-1])
        assert entry.defocus_per_tilt_um == pytest.approx(twelve[0].defocus_um[1:-1].tolist())
        assert entry.contradictions == ()

    def test_warptools_before_the_ctf_has_no_defocus(
        self, tmp_path: Path, twelve: list[made.Truth]
    ) -> None:
        made.write_warp(tmp_path, twelve[:1])
        (tmp_path / "warp_tiltseries/TS_01.xml").unlink()
        entry = import_project(tmp_path).tomograms[0]
        assert entry.defocus_um is None
        assert entry.tilt_series_pixel_size_A == made.PIXEL_A  # of the settings
        assert entry.pre_exposure_e_per_A2 == pytest.approx(twelve[0].before.tolist())

    def test_imod(self, tmp_path: Path, twelve: list[made.Truth]) -> None:
        made.write_imod(tmp_path, twelve)
        project = import_project(tmp_path)
        assert project.ecosystem == "IMOD"
        check_clean(project)
        for entry, truth in zip(project.tomograms, twelve, strict=True):
            check_series(entry, truth, angles=made.imod_angles(truth))
            check_volume(entry, f"{truth.name}_rec.mrc")

    def test_aretomo_3(self, tmp_path: Path, twelve: list[made.Truth]) -> None:
        made.write_aretomo(tmp_path, twelve)
        project = import_project(tmp_path)
        assert project.ecosystem == "AreTomo"
        check_clean(project)
        for entry, truth in zip(project.tomograms, twelve, strict=True):
            check_series(entry, truth)
            check_volume(entry, f"{truth.name}_Vol.mrc")

    def test_aretomo_3_without_its_dark_tilts(
        self, tmp_path: Path, twelve: list[made.Truth]
    ) -> None:
        made.write_aretomo(tmp_path, twelve[:2], dark=3)
        project = import_project(tmp_path)
        check_clean(project)
        for entry, truth in zip(project.tomograms, twelve[:2], strict=True):
            assert entry.tilt_angles_deg == tuple(truth.angles_deg[3:])
            assert entry.pre_exposure_e_per_A2 == pytest.approx(truth.before[3:].tolist())
            assert entry.defocus_per_tilt_um == pytest.approx(truth.defocus_um[3:].tolist())

    def test_aretomo_2(self, tmp_path: Path, twelve: list[made.Truth]) -> None:
        made.write_aretomo(tmp_path, twelve[:2])
        for name in ("TiltSeries_Metrics.csv", "AreTomo3_Session.json"):
            (tmp_path / name).unlink()
        for truth in twelve[:2]:
            (tmp_path / f"{truth.name}_TLT.txt").rename(tmp_path / f"{truth.name}.rawtlt")
            (tmp_path / f"{truth.name}_CTF_Imod.txt").unlink()
            text = (tmp_path / f"{truth.name}_CTF.txt").read_text()
            seven = [" ".join(line.split()[:7]) for line in text.splitlines()[1:]]
            made.write(tmp_path / f"{truth.name}_ctf.txt", "# Columns: …\n" + "\n".join(seven))
            (tmp_path / f"{truth.name}_CTF.txt").unlink()
            (tmp_path / f"{truth.name}_Vol.mrc").rename(tmp_path / f"{truth.name}_rec.mrc")
            made.write(tmp_path / f"{truth.name}.mdoc", made.mdoc(truth))
        project = import_project(tmp_path)
        lacking = ("spherical_aberration_mm", "amplitude_contrast", "inverted")
        check_clean(project, *lacking)
        entry = project.tomograms[1]
        assert entry.pre_exposure_e_per_A2 == pytest.approx(twelve[1].before.tolist())
        assert entry.voltage_kv == 300
        assert entry.exposure_per_tilt_e_per_A2 == made.EXPOSURE
        assert entry.defocus_per_tilt_um == pytest.approx(twelve[1].defocus_um.tolist(), abs=1e-5)

    def test_copick(self, tmp_path: Path, twelve: list[made.Truth]) -> None:
        pytest.importorskip("zarr")
        made.write_copick(tmp_path, twelve)
        known = ("volume", "voxel_size_A", "size_xyz")
        for path in (tmp_path, tmp_path / "config.json", tmp_path / "static"):
            project = import_project(path)
            assert project.ecosystem == "copick"
            check_clean(project, *(field for field in UNITS if field not in known))
            for entry, truth in zip(project.tomograms, twelve, strict=True):
                assert entry.name == truth.name
                check_volume(entry, "wbp.zarr")
                others = [f"{p.parent.name}/{p.name}" for p in entry.other_volumes]
                assert others == [
                    "VoxelSpacing10.000/denoised.zarr",
                    "VoxelSpacing5.000/wbp.zarr",
                    "VoxelSpacing5.000/denoised.zarr",
                ]

    def test_the_portal(self, tmp_path: Path, twelve: list[made.Truth]) -> None:
        made.write_portal(tmp_path, twelve)
        project = import_project(tmp_path)
        assert project.ecosystem == "the CryoET Data Portal"
        check_clean(project, "amplitude_contrast", "inverted")
        for entry, truth in zip(project.tomograms, twelve, strict=True):
            known = {"amplitude_contrast": made.AMPLITUDE, "inverted": truth.inverted}
            check_series(entry.model_copy(update=known), truth)
            check_volume(entry, f"{truth.name}.mrc")


class TestContradictions:
    """Planted, and found: each names both files."""

    def one(self, folder: Path, *parts: str) -> str:
        entry = import_project(folder).tomograms[0]
        assert len(entry.contradictions) == 1, entry.contradictions
        for part in parts:
            assert part in entry.contradictions[0]
        return entry.contradictions[0]

    def test_voxel_size_of_a_header_and_of_the_star_file(self, tmp_path: Path) -> None:
        made.write_relion5(tmp_path, made.truths(1))
        made.volume(tmp_path / made.JOB / "tomograms/rec_TS_01.mrc", voxel_A=8.0)
        self.one(tmp_path, "voxel_size_A: 10", "tomograms.star", "8 in", "rec_TS_01.mrc (header)")

    def test_voxel_size_of_a_header_and_of_a_folder(self, tmp_path: Path) -> None:
        made.write_portal(tmp_path, made.truths(1))
        made.volume(next(tmp_path.rglob("TS_01.mrc")), voxel_A=7.84)
        self.one(tmp_path, "voxel_size_A: 10 in", "VoxelSpacing10.000 (name)", "7.84 in")

    def test_pixel_size_of_the_stack_and_of_the_mdoc(self, tmp_path: Path) -> None:
        made.write_imod(tmp_path, made.truths(1))
        made.write(tmp_path / "TS_01/TS_01.mrc.mdoc", made.mdoc(made.truths(1)[0], pixel_A=2.5))
        (tmp_path / "TS_01/ctfcorrection.com").unlink()
        self.one(tmp_path, "tilt_series_pixel_size_A: 2.5 in", "1.25 in", "TS_01.mrc (header)")

    def test_tilts_of_tlt_and_mdoc(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_imod(tmp_path, [truth])
        (tmp_path / "TS_01/TS_01.rawtlt").unlink()
        wrong = truth.angles_deg.copy()
        wrong[5] += 2.9
        text = made.mdoc(replace(truth, angles_deg=wrong))
        made.write(tmp_path / "TS_01/TS_01.mrc.mdoc", text)
        self.one(tmp_path, "tilt_angles_deg: -45.25° in TS_01/TS_01.tlt", "-42.0988° in", ".mdoc")

    def test_tilts_of_rawtlt_and_mdoc_are_the_same_stage_angles(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_imod(tmp_path, [truth])
        (tmp_path / "TS_01/TS_01.tlt").unlink()
        text = made.mdoc(replace(truth, angles_deg=truth.angles_deg + 0.5))
        made.write(tmp_path / "TS_01/TS_01.mrc.mdoc", text)
        self.one(tmp_path, "tilt_angles_deg: ", "in TS_01/TS_01.rawtlt", ".mdoc (TiltAngle)")

    def test_tilts_with_the_opposite_sign(self, tmp_path: Path) -> None:
        truth = made.truths(3)[2]
        made.write_imod(tmp_path, [truth])
        text = made.mdoc(replace(truth, angles_deg=-truth.angles_deg))
        made.write(tmp_path / "TS_03/TS_03.mrc.mdoc", text)
        self.one(tmp_path, "have the opposite sign", "TS_03.tlt", ".mdoc")

    def test_number_of_tilts(self, tmp_path: Path) -> None:
        made.write_imod(tmp_path, made.truths(1))
        raw = tmp_path / "TS_01/TS_01.rawtlt"
        made.write(raw, "".join(raw.read_text().splitlines(keepends=True)[:-1]))
        self.one(tmp_path, "41 tilts in TS_01/TS_01.tlt, 40 in TS_01/TS_01.rawtlt")

    def test_number_of_rows_of_defocus(self, tmp_path: Path) -> None:
        made.write_imod(tmp_path, made.truths(1))
        path = tmp_path / "TS_01/TS_01.defocus"
        made.write(path, "".join(path.read_text().splitlines(keepends=True)[:-3]))
        self.one(
            tmp_path, "38 rows in TS_01/TS_01.defocus (version 3), 41 tilts in TS_01/TS_01.tlt"
        )
        entry = import_project(tmp_path).tomograms[0]
        assert entry.defocus_per_tilt_um is None
        assert entry.defocus_um == pytest.approx(2.0, abs=0.02)

    def test_defocus_of_two_files(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_aretomo(tmp_path, [truth])
        text = (tmp_path / "TS_01_CTF_Imod.txt").read_text().replace("  20", "  30")
        text = text.replace("  19", "  29")
        made.write(tmp_path / "TS_01_CTF_Imod.txt", text)
        self.one(tmp_path, "defocus_um: 2 in TS_01_CTF.txt", "3 in TS_01_CTF_Imod.txt")

    def test_a_measured_defocus_far_from_the_target(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_imod(tmp_path, [truth])
        far = replace(truth, defocus_um=truth.defocus_um + 3)
        made.write(tmp_path / "TS_01/TS_01.defocus", made.defocus_file(far))
        self.one(tmp_path, "defocus_um: 5 in", "2 in", "(TargetDefocus, not measured)")

    def test_defocus_of_warps_grid_and_of_its_ctf(self, tmp_path: Path) -> None:
        made.write_warp(tmp_path, made.truths(1))
        path = tmp_path / "warp_tiltseries/TS_01.xml"
        mean = made.truths(1)[0].defocus_um.mean()
        made.write(
            path, path.read_text().replace(f'"Defocus" Value="{mean}"', '"Defocus" Value="4"')
        )
        self.one(tmp_path, "defocus_um: 2 in", "GridCTF", "4 in", "CTF Defocus")

    def test_hand_of_a_defocus_file_and_of_a_command_file(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_imod(tmp_path, [truth])
        made.write(tmp_path / "TS_01/TS_01.defocus", made.defocus_file(truth, flags=17))
        self.one(tmp_path, "inverted: true in", "false in TS_01/ctfcorrection.com")

    def test_size_of_a_volume(self, tmp_path: Path) -> None:
        star = made.write_relion5(tmp_path, made.truths(1))
        made.write(star, star.read_text().replace(" 128 160 48 ", " 128 160 480 "))
        self.one(tmp_path, "size_xyz: 16 × 20 × 60", "16 × 20 × 6 in")

    def test_order_of_recording(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_aretomo(tmp_path, [truth])
        upwards = replace(truth, order=np.arange(len(truth.order)))
        made.write(tmp_path / "TS_01.mdoc", made.mdoc(upwards))
        self.one(tmp_path, "pre_exposure_e_per_A2: at", "TS_01_TLT.txt", "TS_01.mdoc")

    def test_exposure_of_a_tilt(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_aretomo(tmp_path, [truth])
        text = made.mdoc(truth).replace(f"ExposureDose = {made.EXPOSURE}", "ExposureDose = 3.4")
        made.write(tmp_path / "TS_01.mdoc", text)
        found = import_project(tmp_path).tomograms[0].contradictions
        assert any("exposure_per_tilt_e_per_A2: 2.9 in TS_01_TLT" in text for text in found)

    def test_tilts_of_tomostar_and_xml(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_warp(tmp_path, [truth])
        path = tmp_path / "tomostar/TS_01.tomostar"
        made.write(path, path.read_text().replace(" -30.00 ", " -31.00 "))
        self.one(tmp_path, "-30° in warp_tiltseries/TS_01.xml (Angles)", "-31° in tomostar/TS_01")

    def test_amplitude_contrast_and_cs_of_two_command_files(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_imod(tmp_path, [truth])
        text = made.ctf_command(truth).replace("Contrast\t0.1", "Contrast\t0.07")
        text = text.replace("Aberration\t2.7", "Aberration\t2.0")
        made.write(tmp_path / "TS_01/ctfplotter.com", text)
        found = import_project(tmp_path).tomograms[0].contradictions
        assert [text.partition(":")[0] for text in found] == [
            "spherical_aberration_mm",
            "amplitude_contrast",
        ]

    def test_voltage(self, tmp_path: Path) -> None:
        made.write_aretomo(tmp_path, made.truths(1))
        path = tmp_path / "AreTomo3_Session.json"
        made.write(path, path.read_text().replace('"kV": 300', '"kV": 200'))
        self.one(tmp_path, "voltage_kv: 300 in TiltSeries_Metrics.csv", "200 in AreTomo3_Session")


class TestDefocusFiles:
    """IMOD's versions 1, 2 and 3, with all flags that change a value."""

    @pytest.mark.parametrize(
        ("version", "flags"), [(1, 0), (2, 0), (3, 0), (3, 1), (3, 3), (3, 16), (3, 17)]
    )
    def test_versions(self, tmp_path: Path, version: int, flags: int) -> None:
        truth = made.truths(3)[2]
        made.write_imod(tmp_path, [truth])
        (tmp_path / "TS_03/ctfcorrection.com").unlink()
        text = made.defocus_file(truth, version=version, flags=flags)
        made.write(tmp_path / "TS_03/TS_03.defocus", text)
        entry = import_project(tmp_path).tomograms[0]
        assert entry.contradictions == ()
        assert entry.defocus_per_tilt_um == pytest.approx(truth.defocus_um.tolist(), abs=2e-4)
        assert entry.inverted is (True if flags & 16 else None)
        if flags & 1:
            assert entry.astigmatism_angle_deg == pytest.approx(made.ASTIGMATISM_DEG, abs=0.01)
        else:
            assert entry.astigmatism_um is None

    def test_ranges_of_views_are_interpolated(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_imod(tmp_path, [truth])
        rows = "1 21 -60.0 0.0 4000.0 2\n21 41 0.0 60.0 5000.0\n"
        made.write(tmp_path / "TS_01/TS_01.defocus", rows)
        (tmp_path / "TS_01/TS_01.mrc.mdoc").unlink()
        entry = import_project(tmp_path).tomograms[0]
        assert entry.defocus_per_tilt_um is not None
        assert entry.defocus_per_tilt_um[0] == 4.0
        assert entry.defocus_per_tilt_um[20] == pytest.approx(4.5)
        assert entry.defocus_per_tilt_um[-1] == 5.0

    def test_a_target_counts_where_nothing_was_measured(self, tmp_path: Path) -> None:
        made.write_imod(tmp_path, made.truths(1))
        (tmp_path / "TS_01/TS_01.defocus").unlink()
        entry = import_project(tmp_path).tomograms[0]
        assert entry.defocus_um == pytest.approx(2.0, abs=0.01)
        assert entry.sources["defocus_um"].endswith("(TargetDefocus, not measured)")
        assert "defocus_per_tilt_um" in entry.missing


def damaged(folder: Path, name: str, text: str) -> tuple[str, ...]:
    """What is told where one file of the first tomogram is damaged; the others are imported."""
    made.write(sorted(folder.rglob(name))[0], text)
    project = import_project(folder)
    assert [entry.unreadable for entry in project.tomograms[1:]] == [()]
    return project.tomograms[0].unreadable


class TestDamage:
    @pytest.mark.parametrize(
        ("writer", "name", "text", "told"),
        [
            (made.write_relion5, "TS_01.star", "", "an empty file"),
            (made.write_relion5, "TS_01.star", "data_other\n\n_a 1\n", "no table data_TS_01"),
            (made.write_warp, "TS_01.xml", "<TiltSeries><Angles>1", "XML of WarpTools"),
            (made.write_warp, "TS_01.xml", "<TiltSeries><Angles>1\nx</Angles></TiltSeries>", "'x'"),
            (
                made.write_warp,
                "TS_01.xml",
                '<!DOCTYPE a [<!ENTITY b "c">]><TiltSeries>&b;</TiltSeries>',
                "a document type",
            ),
            (made.write_warp, "TS_01.tomostar", "\ndata_\n\nloop_\n_wrpDose #1\n1\n", "no tilts"),
            (made.write_imod, "TS_01.tlt", "-60.0\nabc\n", "line 2"),
            (made.write_imod, "TS_01.rawtlt", "-60.0\nnan\n", "not finite"),
            (made.write_imod, "TS_01.mrc.mdoc", "PixelSpacing = 1\n", "no images"),
            (made.write_imod, "TS_01.mrc.mdoc", "[ZValue = 0]\nTiltAngle = up\n", "'up'"),
            (made.write_imod, "TS_01.defocus", "1 1 0 0 3000 7\n", "version 7"),
            (made.write_imod, "TS_01.defocus", "1 0 0 0 0 3\n1 1 0 0 3000\n", "7 numbers a row"),
            (made.write_aretomo, "TS_01.aln", "# AreTomo Alignment\n", "no tilts"),
            (made.write_aretomo, "TS_01.aln", "1 2 3\n", "10 numbers"),
            (made.write_aretomo, "TS_01_CTF.txt", "1 2 3\n", "7 numbers"),
            (made.write_portal, "tiltseries_metadata.json", "{", "a JSON object"),
            (made.write_relion5, "rec_TS_01.mrc", "no MRC", "header"),
        ],
    )
    def test_a_file_of_one_tomogram_is_told(
        self,
        tmp_path: Path,
        writer: Callable[[Path, list[made.Truth]], Path],
        name: str,
        text: str,
        told: str,
    ) -> None:
        writer(tmp_path, made.truths(2))
        found = damaged(tmp_path, name, text)
        assert any(told in sentence for sentence in found), found

    def test_a_volume_that_is_gone(self, tmp_path: Path) -> None:
        made.write_relion5(tmp_path, made.truths(1))
        next(tmp_path.rglob("rec_TS_01.mrc")).unlink()
        entry = import_project(tmp_path).tomograms[0]
        assert entry.volume is None
        assert "does not exist" in entry.unreadable[0]

    def test_an_angle_that_cannot_be(self, tmp_path: Path) -> None:
        made.write_imod(tmp_path, made.truths(1))
        made.write(tmp_path / "TS_01/TS_01.tlt", "-60\n0\n200\n")
        entry = import_project(tmp_path).tomograms[0]
        assert "tilt_angles_deg: 200 in TS_01/TS_01.tlt cannot be" in entry.unreadable[0]
        assert entry.sources["tilt_angles_deg"] == "TS_01/TS_01.rawtlt"

    def test_a_word_in_the_row_of_one_tomogram_is_told(self, tmp_path: Path) -> None:
        star = made.write_relion5(tmp_path, made.truths(2))
        made.write(star, star.read_text().replace(" 300.0 ", " x ", 1))
        one, other = import_project(tmp_path).tomograms
        assert "rlnVoltage is no number" in one.unreadable[0]
        assert one.voltage_kv is None
        assert other.unreadable == ()

    def test_a_file_of_all_tomograms_is_an_error(self, tmp_path: Path) -> None:
        star = made.write_relion5(tmp_path, made.truths(1))
        made.write(star, star.read_text().replace(" 300.0 ", " "))
        with pytest.raises(InputError, match="line "):
            import_project(tmp_path)

    @pytest.mark.parametrize("name", ["nothing", "empty", "other.star", "other.txt"])
    def test_what_is_no_project(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "empty").mkdir()
        made.write(tmp_path / "other.star", "data_a\n\n_b 1\n")
        made.write(tmp_path / "other.txt", "text")
        with pytest.raises(InputError, match="expected a folder or STAR file of RELION"):
            import_project(tmp_path / name)


class TestWhichFile:
    def test_the_last_job_counts_and_is_told(self, tmp_path: Path) -> None:
        made.write_relion5(tmp_path, made.truths(2))
        later = tmp_path / "Denoise/job010/tomograms.star"
        made.write(later, (tmp_path / made.JOB / "tomograms.star").read_text())
        project = import_project(tmp_path)
        assert project.notes == ("read Denoise/job010/tomograms.star, the last of 2 such files",)

    def test_two_files_of_the_same_rank_are_refused(self, tmp_path: Path) -> None:
        star = made.write_relion5(tmp_path, made.truths(1))
        for name in ("a_tomograms.star", "b_tomograms.star"):
            made.write(tmp_path / name, star.read_text())
        with pytest.raises(ConfigError, match=r"a_tomograms.star, b_tomograms.star"):
            import_project(tmp_path)

    def test_a_folder_of_two_programs_is_told(self, tmp_path: Path) -> None:
        made.write_warp(tmp_path, made.truths(1))
        made.write_imod(tmp_path / "imod", made.truths(1))
        project = import_project(tmp_path)
        assert project.notes == ("read as a project of WarpTools; it has files of IMOD, too",)

    def test_series_of_one_name_in_two_folders(self, tmp_path: Path) -> None:
        for session in ("a", "b"):
            made.write_imod(tmp_path / session, made.truths(1))
        names = [entry.name for entry in import_project(tmp_path).tomograms]
        assert names == ["a_TS_01", "b_TS_01"]


class TestFolders:
    def test_links_are_followed_once(self, tmp_path: Path) -> None:
        made.write_relion5(tmp_path / "disk", made.truths(1))
        project = tmp_path / "project"
        (project / "Tomograms").mkdir(parents=True)
        (project / "Tomograms/job006").symlink_to(tmp_path / "disk" / made.JOB)
        (project / "Tomograms/mine").symlink_to(project / "Tomograms/job006")
        (project / "Tomograms/job006/loop").symlink_to(project)
        assert import_project(project).notes == ()

    def test_overviews_are_left_out_with_a_warning(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_imod(tmp_path, [truth])
        flat = replace(truth, angles_deg=np.zeros(4), order=np.arange(4))
        made.write(tmp_path / "overview.mrc.mdoc", made.mdoc(flat))
        with pytest.warns(UserWarning, match="overview is no tilt series"):
            assert len(import_project(tmp_path).tomograms) == 1

    def test_a_command_file_of_another_series_is_not_read(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_imod(tmp_path, [truth])
        other = replace(truth, name="TS_010")
        made.write(tmp_path / "TS_01/ctfcorrection.com", made.ctf_command(other))
        entry = import_project(tmp_path).tomograms[0]
        assert entry.amplitude_contrast is None
        assert entry.inverted is None

    def test_of_two_files_of_a_series_the_other_is_told(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_warp(tmp_path, [truth])
        older = replace(truth, defocus_um=truth.defocus_um + 1)
        made.write(tmp_path / "warp_tiltseries/old/TS_01.xml", made.warp_xml(older))
        with pytest.warns(UserWarning, match=r"and not .*old/TS_01.xml of the same name"):
            entry = import_project(tmp_path).tomograms[0]
        assert entry.defocus_um == pytest.approx(2.0, abs=0.01)

    def test_of_a_resumed_session_the_last_row_of_the_metrics_counts(self, tmp_path: Path) -> None:
        made.write_aretomo(tmp_path, made.truths(1))
        path = tmp_path / "TiltSeries_Metrics.csv"
        head, row = path.read_text().splitlines()
        made.write(path, f"{head}\n{row.replace('1.25', '2.50')}\n{row}\n")
        assert import_project(tmp_path).tomograms[0].contradictions == ()

    def test_half_maps_are_listed_and_not_taken(self, tmp_path: Path) -> None:
        star = made.write_relion5(tmp_path, made.truths(1))
        text = star.read_text().replace("Tomogram #14", "TomogramHalf1 #14")
        made.write(star, text)
        entry = import_project(tmp_path).tomograms[0]
        assert entry.volume is None
        assert [path.name for path in entry.other_volumes] == ["rec_TS_01.mrc"]


class TestWhatRecordedProjectsShow:
    """Regressions: files of recorded data that the first version read wrongly."""

    def test_a_few_wrong_fits_of_steep_tilts_do_not_move_the_defocus(self, tmp_path: Path) -> None:
        # As in RELION's test project, whose mean is 0.6 µm below what most tilts have.
        truth = made.truths(1)[0]
        wrong = truth.defocus_um.copy()
        wrong[:8] -= 1.8
        made.write_relion5(tmp_path, [replace(truth, defocus_um=wrong)])
        entry = import_project(tmp_path).tomograms[0]
        assert entry.defocus_um == pytest.approx(2.0, abs=0.02)
        assert len(entry.contradictions) == 1
        assert "8 of 41 tilts" in entry.contradictions[0]

    def test_dark_tilts_are_those_of_the_stage_though_the_others_were_offset(
        self, tmp_path: Path
    ) -> None:
        # As in teamtomo/alnfile's test data: AlphaOffset 12.30, dark tilts from −68° to −42°.
        truth = made.truths(1)[0]
        made.write_aretomo(tmp_path, [truth], dark=5)
        lines = (tmp_path / "TS_01.aln").read_text().splitlines()
        rows = [line.split() for line in lines]
        moved = [
            " ".join([*row[:-1], f"{float(row[-1]) + 12.3:.2f}"]) if line[0] != "#" else line
            for line, row in zip(lines, rows, strict=True)
        ]
        made.write(tmp_path / "TS_01.aln", "\n".join(moved) + "\n")
        entry = import_project(tmp_path).tomograms[0]
        assert entry.contradictions == ()
        assert entry.tilt_angles_deg == pytest.approx((truth.angles_deg[5:] + 12.3).tolist())
        assert entry.pre_exposure_e_per_A2 == pytest.approx(truth.before[5:].tolist())

    def test_the_ctf_of_all_tilts_is_matched_to_those_that_were_aligned(
        self, tmp_path: Path
    ) -> None:
        # AreTomo3 estimates the CTF before it leaves dark tilts out.
        truth = made.truths(1)[0]
        made.write_aretomo(tmp_path, [truth])
        whole = (tmp_path / "TS_01_CTF.txt").read_text()
        made.write_aretomo(tmp_path, [truth], dark=5)
        made.write(tmp_path / "TS_01_CTF.txt", whole)
        entry = import_project(tmp_path).tomograms[0]
        assert entry.contradictions == ()
        assert entry.defocus_per_tilt_um == pytest.approx(truth.defocus_um[5:].tolist(), abs=1e-5)

    def test_a_processing_folder_of_warptools_without_tomostar(self, tmp_path: Path) -> None:
        made.write_warp(tmp_path, made.truths(2))
        project = import_project(tmp_path / "warp_tiltseries")
        assert project.ecosystem == "WarpTools"
        check_volume(project.tomograms[1], "TS_02_10.00Apx.mrc")
        assert project.tomograms[1].tilt_series_pixel_size_A == made.PIXEL_A

    def test_warptools_before_the_fit_writes_a_grid_of_zeros(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_warp(tmp_path, [truth])
        xml = made.warp_xml(truth)
        start, end = xml.index("\t<OptionsCTF"), xml.index("\t<GridCTFDefocusDelta")
        ctf = '\t<CTF>\n\t\t<Param Name="Defocus" Value="1" />\n\t</CTF>\n'
        xml = xml[:start] + ctf + made.grid("GridCTF", [0.0]) + xml[end:]
        made.write(tmp_path / "warp_tiltseries/TS_01.xml", xml)
        entry = import_project(tmp_path).tomograms[0]
        assert entry.defocus_um is None
        assert entry.contradictions == ()
