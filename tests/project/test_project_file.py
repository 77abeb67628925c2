"""The project file: what is written is read, a person's edit survives, faults are told."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path

import project_writers as made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomadapt.acquisition import Acquisition
from tomadapt.errors import ConfigError, InputError, OutputError
from tomadapt.project import Project, TomogramEntry, import_project, read_project, write_project
from tomadapt.project.model import UNITS

texts = st.text(min_size=1, max_size=30)
sentences = st.lists(texts, max_size=3).map(tuple)
numbers = st.floats(0.01, 20, allow_nan=False)
relative = st.from_regex(r"[a-z0-9_. ]{1,12}/[a-z0-9_é]{1,12}\.mrc", fullmatch=True).map(Path)


@st.composite
def entries(draw: st.DrawFn, name: str) -> TomogramEntry:
    angles = draw(st.none() | st.lists(st.floats(-90, 90), min_size=1, max_size=50))
    count = len(angles or ())
    per_tilt = st.none() | st.lists(numbers, min_size=count, max_size=count)
    optional = st.none() | numbers
    return TomogramEntry(
        name=name,
        volume=draw(st.none() | relative),
        other_volumes=tuple(draw(st.lists(relative, max_size=3))),
        voxel_size_A=draw(optional),
        size_xyz=draw(st.none() | st.tuples(*[st.integers(1, 5000)] * 3)),
        tilt_angles_deg=None if angles is None else tuple(sorted(angles)),
        pre_exposure_e_per_A2=draw(per_tilt) if angles else None,
        defocus_per_tilt_um=draw(per_tilt) if angles else None,
        defocus_um=draw(optional),
        amplitude_contrast=draw(st.none() | st.floats(0, 1)),
        inverted=draw(st.none() | st.booleans()),
        sources=draw(st.dictionaries(st.sampled_from(sorted(UNITS)), texts)),
        contradictions=draw(sentences),
        unreadable=draw(sentences),
        notes=draw(sentences),
    )


@st.composite
def projects(draw: st.DrawFn) -> Project:
    names = draw(st.lists(texts, min_size=0, max_size=3, unique=True))
    return Project(
        ecosystem=draw(texts),
        folder=Path(),
        notes=draw(sentences),
        tomograms=tuple(draw(entries(name)) for name in names),
    )


@settings(max_examples=60, deadline=None)
@given(projects())
def test_what_is_written_is_read(project: Project) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        moved = [
            entry.model_copy(
                update={
                    "volume": entry.volume and root / entry.volume,
                    "other_volumes": tuple(root / path for path in entry.other_volumes),
                }
            )
            for entry in project.tomograms
        ]
        whole = project.model_copy(update={"folder": root, "tomograms": tuple(moved)})
        write_project(root / "project.toml", whole)
        assert read_project(root / "project.toml") == whole


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """The project file of two tilt series without a CTF fit of the second."""
    made.write_warp(tmp_path / "warp", made.truths(2))
    (tmp_path / "warp/warp_tiltseries/TS_02.xml").unlink()
    write_project(tmp_path / "project.toml", import_project(tmp_path / "warp"))
    return tmp_path / "project.toml"


class TestEdits:
    def test_a_missing_value_is_written_where_the_comment_is(self, imported: Path) -> None:
        assert read_project(imported).entry("TS_02").defocus_um is None
        line = "# missing defocus_um =   # µm, median over the tilts, positive = underfocus"
        assert imported.read_text().count(line) == 1
        edited = imported.read_text().replace(line, "defocus_um = 4.2   # as of the neighbour")
        imported.write_text(edited)
        entry = read_project(imported).entry("TS_02")
        assert entry.defocus_um == 4.2
        assert "defocus_um" not in entry.missing
        assert entry.acquisition().defocus_um == 4.2

    def test_an_edit_survives_another_import(self, imported: Path) -> None:
        edited = imported.read_text().replace("voltage_kv = 300.0", "voltage_kv = 200.0")
        imported.write_text(edited)
        again = import_project(imported.parent / "warp")
        with pytest.raises(OutputError, match="was edited since its import"):
            write_project(imported, again)
        assert imported.read_text() == edited
        assert read_project(imported).entry("TS_01").voltage_kv == 200

    def test_a_file_that_is_no_project_is_not_replaced(self, imported: Path) -> None:
        other = imported.with_name("other.toml")
        other.write_bytes(b"\xff\x00")
        with pytest.raises(OutputError, match="is there already"):
            write_project(other, import_project(imported.parent / "warp"))

    def test_an_import_that_nobody_edited_is_replaced(self, imported: Path) -> None:
        made.write_warp(imported.parent / "warp", made.truths(3))
        write_project(imported, import_project(imported.parent / "warp"))
        assert len(read_project(imported).tomograms) == 3

    def test_it_may_be_moved_with_its_folder(self, imported: Path) -> None:
        moved = imported.parent.rename(imported.parent.with_name("moved"))
        project = read_project(moved / "project.toml")
        volume = project.entry("TS_01").volume
        assert volume == moved / "warp/warp_tiltseries/reconstruction/TS_01_10.00Apx.mrc"
        assert project.folder == moved / "warp"


class TestText:
    def test_each_value_names_its_file(self, imported: Path) -> None:
        text = imported.read_text()
        assert "defocus_um = 2.0  # warp_tiltseries/TS_01.xml (GridCTF)" in text
        assert "tilt_angles_deg = [  # warp_tiltseries/TS_01.xml (Angles)" in text

    def test_it_is_toml_of_readable_width(self, imported: Path) -> None:
        content = tomllib.loads(imported.read_text())
        assert [entry["name"] for entry in content["tomograms"]] == ["TS_01", "TS_02"]
        tilts = [line for line in imported.read_text().splitlines() if line.startswith("    ")]
        assert max(map(len, tilts)) <= 100


class TestFaults:
    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("voltage_kv = 300.0", "voltage_kv = -1", "TS_01: voltage_kv"),
            ("voltage_kv = 300.0", "voltage_kV = 300", "TS_01: voltage_kV: Extra inputs"),
            ("defocus_um = 2.0", 'defocus_um = "2,0"', "TS_01: defocus_um"),
            ("    -60.0,", "    60.0,", "tilt_angles_deg must ascend"),
            ("    -60.0,", "   ", "needs one number for each of the 40 tilts; got 41"),
            ('name = "TS_02"', 'name = "TS_01"', "TS_01 is there twice"),
        ],
    )
    def test_a_wrong_edit_is_named(self, imported: Path, old: str, new: str, told: str) -> None:
        text = imported.read_text()
        assert old in text
        imported.write_text(text.replace(old, new, 1))
        with pytest.raises(ConfigError) as caught:
            read_project(imported)
        assert told in str(caught.value)
        assert "Remedy: mend it" in str(caught.value)

    def test_what_is_no_toml(self, imported: Path) -> None:
        imported.write_text("[[tomograms\n")
        with pytest.raises(ConfigError, match="is no TOML"):
            read_project(imported)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="project file"):
            read_project(tmp_path / "project.toml")


class TestAcquisition:
    def entry(self, **values: object) -> TomogramEntry:
        known = {"tilt_angles_deg": (-3.0, 0.0, 3.0), "defocus_um": 4.0, **values}
        return TomogramEntry.model_validate({"name": "a", **known})

    def test_has_what_is_known_and_defaults(self) -> None:
        entry = self.entry(
            pre_exposure_e_per_A2=(4, 0, 2), exposure_per_tilt_e_per_A2=2, voltage_kv=200
        )
        assert entry.acquisition() == Acquisition(
            name="a",
            defocus_um=4.0,
            tilt_angles_deg=(-3, 0, 3),
            voltage_kv=200,
            exposure_per_tilt_e_per_A2=2,
            exposure_order=(0, 3, -3),
        )

    def test_of_all_ecosystems_tilts_and_order_are_the_series(self, tmp_path: Path) -> None:
        truth = made.truths(1)[0]
        made.write_relion5(tmp_path, [truth])
        acquisition = import_project(tmp_path).entry("TS_01").acquisition()
        assert acquisition.tilt_angles_deg == pytest.approx(truth.angles_deg.tolist())
        assert acquisition.exposure_order[:3] == pytest.approx((0, 3, -3))
        assert acquisition.astigmatism_um == pytest.approx(made.HALF_ASTIGMATISM_UM)
        assert acquisition.amplitude_contrast == made.AMPLITUDE

    @pytest.mark.parametrize(
        ("values", "told"),
        [
            ({"tilt_angles_deg": None}, "no tilt_angles_deg"),
            ({"defocus_um": None}, "no defocus_um"),
            ({"tilt_angles_deg": None, "defocus_um": None}, "tilt_angles_deg and no defocus_um"),
            ({"tilt_angles_deg": (-3.0, 0.0, 0.0, 3.0)}, "two tilts of the same angle"),
            ({"tilt_angles_deg": (-3.0, 0.0)}, "at least 3 angles"),
            ({"voltage_kv": 5.0}, "voltage_kv"),
        ],
    )
    def test_what_is_missing_or_cannot_be_is_told(
        self, values: dict[str, object], told: str
    ) -> None:
        with pytest.raises(ConfigError, match=told):
            self.entry(**values).acquisition()

    def test_a_name_that_is_not_there(self, imported: Path) -> None:
        with pytest.raises(ConfigError, match="expected TS_01, TS_02"):
            read_project(imported).entry("TS_1")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("TS_01.mdoc (TargetDefocus, not measured)", True),
        ("not measured/TS_01.star", False),
        ("TS_01.star", False),
    ],
)
def test_whether_a_defocus_is_the_target(source: str, target: bool) -> None:
    entry = TomogramEntry(name="TS_01", defocus_um=3.0, sources={"defocus_um": source})
    assert entry.defocus_is_target is target
    assert not TomogramEntry(name="TS_02").defocus_is_target
