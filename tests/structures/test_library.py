"""Templates by name."""

from __future__ import annotations

import gzip
import importlib.util
import io
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from types import ModuleType
from typing import TypedDict

import numpy as np
import pytest

import tomadapt.structures as package
from tomadapt.errors import ConfigError, InputError, OfflineError, OutputError
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.simulate.dataset import label_of
from tomadapt.structures import (
    BUILTIN,
    centre_of_mass,
    load_builtin,
    read_atomic_model,
    template,
    voxelise,
)

DATA = Path(package.__file__).parent / "data"
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_builtin_structures.py"


class Grid(TypedDict):
    voxel_size_A: float
    box: int
    resolution_A: float


GRID: Grid = {"voxel_size_A": 9.2, "box": 40, "resolution_A": 9.2}
PDB = "".join(
    f"ATOM  {i:>5}  CA  ALA A{i:>4}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 20.00           C\n"
    for i, (x, y, z) in enumerate([(0, 0, 0), (40, 0, 0), (0, 20, 0), (0, 0, 10)], start=1)
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep tests out of the user's cache and off the network."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TOMADAPT_CACHE", str(folder))

    def unreachable(url: str, timeout: float) -> io.BytesIO:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    return folder


@pytest.fixture(scope="session")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_builtin_structures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    asked: list[str] = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return asked


class TestBuiltins:
    @pytest.mark.parametrize("name", BUILTIN)
    def test_stored_map(self, name: str) -> None:
        stored = load_builtin(name)
        n = stored.density.shape[0]
        assert stored.density.shape == (n, n, n)
        assert n % 2 == 1
        assert stored.density.min() == 0.0
        assert stored.density.max() == 1.0
        assert np.abs(centre_of_mass(stored.density, threshold=0) - n // 2).max() < 0.02
        faces = [stored.density[[0, -1]], stored.density[:, [0, -1]], stored.density[..., [0, -1]]]
        assert max(face.max() for face in faces) == 0.0
        assert stored.resolution_A <= 9.2
        assert BUILTIN[name].licence == "CC0-1.0"

    def test_size_budget_and_no_strays(self) -> None:
        files = sorted(DATA.glob("*.npz"))
        assert [f.stem for f in files] == sorted(BUILTIN)
        assert sum(f.stat().st_size for f in files) < 1.5e6

    @pytest.mark.parametrize("box", [40, 41])
    @pytest.mark.parametrize("name", BUILTIN)
    def test_template(self, name: str, box: int) -> None:
        made = template(name, voxel_size_A=9.2, box=box, resolution_A=9.2)
        assert made.name == name
        assert made.density.shape == (box,) * 3
        assert made.density.dtype == np.float32
        assert made.density.max() == 1.0
        assert made.density.min() > -0.1
        assert np.abs(centre_of_mass(made.density) - box // 2).max() < 0.03
        assert BUILTIN[name].pdb_id in made.source
        assert (made.voxel_size_A, made.resolution_A) == (9.2, 9.2)

    def test_sizes_are_ordered_as_the_structures_are(self) -> None:
        radius = {name: template(name, **GRID).radius_A for name in BUILTIN}
        assert radius["apoferritin"] < 75 < radius["tric"] < 95 < radius["ribosome_30s"]
        assert radius["ribosome_30s"] < radius["ribosome_70s"] < radius["ribosome_80s"] < 145

    def test_limits(self) -> None:
        with pytest.raises(ConfigError, match=r"at least 8 Å, as stored; got 7\.9 Å"):
            template("tric", voxel_size_A=9.2, box=40, resolution_A=7.9)
        with pytest.raises(ConfigError, match="at least 31 voxels; got 24"):
            template("ribosome_80s", voxel_size_A=9.2, box=24, resolution_A=9.2)
        with pytest.raises(ConfigError, match="weighting 'mass'"):
            template("tric", **GRID, weighting="electron")
        with pytest.raises(ConfigError, match=r"unknown structure 'ribosome'.*ribosome_70s"):
            load_builtin("ribosome")

    @pytest.mark.data
    def test_agree_with_the_atoms(self, data_folder: Path, script: ModuleType) -> None:
        assert set(script.SOURCES) == set(BUILTIN)
        for name, (file, chains) in script.SOURCES.items():
            model = read_atomic_model(data_folder / "models" / file, chains=chains)
            for voxel, resolution, box in ((9.2, 9.2, 36), (13.68, 30.0, 33)):
                direct = voxelise(model, voxel_size_A=voxel, box=box, resolution_A=resolution)
                direct = direct / direct.max()
                made = template(name, voxel_size_A=voxel, box=box, resolution_A=resolution).density
                assert np.linalg.norm(made - direct) < 0.01 * np.linalg.norm(direct), name

    @pytest.mark.data
    def test_script_makes_the_committed_maps(
        self, data_folder: Path, script: ModuleType, tmp_path: Path
    ) -> None:
        first = script.make("apoferritin", data_folder / "models", tmp_path)
        content = first.read_bytes()
        assert script.make("apoferritin", data_folder / "models", tmp_path).read_bytes() == content
        # Against the committed file by values: zlib may differ, and rounding at .5.
        with np.load(first) as new, np.load(DATA / "apoferritin.npz") as old:
            change = np.abs(new["density"].astype(int) - old["density"].astype(int))
            assert change.max() <= 1
            assert change.mean() < 1e-3


class TestLookUp:
    @pytest.mark.parametrize(
        "file", ["1bxn.pdb", "1BXN.PDB.GZ", "pdb1bxn.ent.gz", "pdb_00001bxn.pdb", "1Bxn.ent"]
    )
    @pytest.mark.parametrize("spec", ["1bxn", "1BXN", "pdb_00001bxn"])
    def test_pdb_id_in_folder(self, tmp_path: Path, file: str, spec: str) -> None:
        content = PDB.encode()
        packed = file.lower().endswith(".gz")
        (tmp_path / file).write_bytes(gzip.compress(content) if packed else content)
        made = template(spec, **GRID, folder=tmp_path)
        assert file in made.source
        assert made.density.max() == 1.0

    def test_path_stem_and_file_name(self, tmp_path: Path) -> None:
        path = tmp_path / "mine_A.pdb"
        path.write_text(PDB)
        for spec in (path, str(path), "mine_a", "mine_A.pdb", Path("mine_A.pdb")):
            made = template(spec, **GRID, folder=tmp_path)
            assert made.name == "mine_A"
            assert "mass-weighted" in made.source

    def test_cache_comes_after_the_folder(self, tmp_path: Path, cache: Path) -> None:
        cache.mkdir()
        (cache / "1bxn.pdb").write_text(PDB)
        assert str(cache) in template("1bxn", **GRID, folder=tmp_path).source
        (tmp_path / "1bxn.pdb").write_text(PDB)
        assert str(cache) not in template("1bxn", **GRID, folder=tmp_path).source

    def test_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"unknown structure 'tric2'.*ribosome_70s, .*tric"):
            template("tric2", **GRID)
        with pytest.raises(InputError, match=r"missing\.mrc does not exist"):
            template("missing.mrc", **GRID)
        with pytest.raises(ConfigError, match="expected a folder"):
            template("1bxn", **GRID, folder=tmp_path / "none")

    @pytest.mark.data
    def test_model_and_map_of_one_structure_agree(self, data_folder: Path) -> None:
        grid: Grid = {"voxel_size_A": 10.0, "box": 32, "resolution_A": 40.0}
        model = template("1bxn", **grid, folder=data_folder / "models")
        density = template("1bxn", **grid, folder=data_folder / "maps_10A")
        assert "atomic model" in model.source
        assert "map" in density.source
        assert model.radius_A == pytest.approx(density.radius_A, rel=0.15)


class TestDownload:
    def test_into_the_cache_once(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        import gemmi

        text = gemmi.read_pdb_string(PDB).make_mmcif_document().as_string()
        asked = serve(monkeypatch, gzip.compress(text.encode()))
        for _ in range(2):
            template("1bxn", **GRID)
        assert asked == ["https://files.rcsb.org/download/1bxn.cif.gz"]
        assert [p.name for p in cache.iterdir()] == ["1bxn.cif.gz"]

    def test_offline(self, cache: Path) -> None:
        with pytest.raises(
            OfflineError, match=r"files\.rcsb\.org/download/1bxn\.cif\.gz"
        ) as caught:
            template("1bxn", **GRID)
        assert "no network in tests" in str(caught.value)
        assert "local folder" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not cache.exists()

    def test_a_cut_answer_is_not_kept(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        serve(monkeypatch, gzip.compress(PDB.encode())[:-9])
        with pytest.raises(OfflineError):
            template("1bxn", **GRID)
        assert not cache.exists()

    def test_no_such_entry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(url: str, timeout: float) -> io.BytesIO:
            raise urllib.error.HTTPError(url, 404, "Not Found", None, None)  # type: ignore[arg-type]

        monkeypatch.setattr(urllib.request, "urlopen", missing)
        with pytest.raises(ConfigError, match="no entry 9zzz"):
            template("9zzz", **GRID)

    def test_cache_in_the_way(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        cache.write_text("a file where the folder should be")
        serve(monkeypatch, gzip.compress(PDB.encode()))
        with pytest.raises(OutputError, match="TOMADAPT_CACHE"):
            template("1bxn", **GRID)


class TestStatedVoxels:
    """`map.mrc@8.1A`: maps whose header says 1 Å (pytom-match-pick #144)."""

    def ball(self, folder: Path, voxel_A: float) -> Path:
        r = np.arange(32) - 16
        square = r[:, None, None] ** 2 + r[:, None] ** 2 + r**2
        path = folder / "ball.mrc"
        write_mrc(path, np.exp(-square / 32.0).astype(np.float32), voxel_size_A=voxel_A)
        return path

    def test_they_count_instead_of_the_headers(self, tmp_path: Path) -> None:
        path = self.ball(tmp_path, 10.0)
        usual = template(str(path), **GRID)
        with pytest.warns(UserWarning, match="10 Å in its header, and 5 Å are stated"):
            stated = template(f"{path}@5A", **GRID)
        assert stated.radius_A == pytest.approx(usual.radius_A / 2, rel=0.15)
        assert (stated.name, usual.name) == ("ball", "ball")
        assert "stated voxels of 5 Å" in stated.source
        assert label_of(f"{path}@5A") == "ball"

    def test_regression_a_size_that_is_not_the_headers_is_told(self, tmp_path: Path) -> None:
        """`map.mrc@4A` of a map of 8 Å made a structure of half the size, without a word."""
        path = self.ball(tmp_path, 8.0)
        with pytest.warns(UserWarning, match="8 Å in its header, and 4 Å are stated"):
            template(f"{path}@4A", **GRID)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            template(f"{path}@8A", **GRID)

    def test_an_unset_header_names_the_way(self, tmp_path: Path) -> None:
        path = self.ball(tmp_path, 1.0)
        with pytest.raises(InputError, match=r"state it: ball\.mrc@8\.1A"):
            template(str(path), **GRID)
        assert template(f"{path}@8.1", **GRID).density.max() == 1

    def test_no_sizes_and_models(self, tmp_path: Path) -> None:
        path = self.ball(tmp_path, 10.0)
        for wrong in ("0", "1e5", "1.2.3"):
            with pytest.raises((ConfigError, InputError)):
                template(f"{path}@{wrong}", **GRID)
        model = tmp_path / "model.pdb"
        model.write_text(PDB)
        with pytest.raises(ConfigError, match="has atoms"):
            template(f"{model}@5A", **GRID)

    def test_a_file_of_that_name_is_itself(self, tmp_path: Path) -> None:
        path = self.ball(tmp_path, 10.0)
        odd = path.rename(tmp_path / "ball@5.mrc")
        assert template(str(odd), **GRID).name == "ball@5"
