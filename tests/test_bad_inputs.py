"""Mistakes through the real command line: one line, a remedy, the documented exit code, no debris.

Tests run as root in containers, where permission bits do not bite; an output that cannot be
written is one below a regular file, or in /proc.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import mrcfile
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tomadapt.cli import main
from tomadapt.errors import (
    ConfigError,
    InputError,
    MismatchError,
    OfflineError,
    OutputError,
    TomadaptError,
)
from tomadapt.learn.model import Model, ModelCard
from tomadapt.simulate.dataset import SimulationConfig, simulate_set
from tomadapt.workflows.config import RunConfig, load_config

BOX, VOXEL_A = 24, 16.0
SIMULATION = """\
classes = ["apoferritin", "tric", "null"]
acquisition = "batch_b"
per_class = 3
snr = 0.5
box = 24
voxel_size_A = 16.0
resolution_A = 20.0
"""
RUN = """\
seed = 0
[structures]
classes = ["apoferritin", "tric", "null"]
box = 24
voxel_size_A = 16.0
resolution_A = 20.0
[source]
acquisition = "batch_b"
snr = 0.5
per_class = 3
[target]
acquisition = "batch_a"
snr = 0.5
per_class = 3
[train]
epochs = 1
[adapt]
epochs = 1
"""
ACQUISITION = 'acquisition = "batch_b"'


@dataclass(frozen=True)
class Made:
    """A small set and an untrained model that fits it, shared by all tests here."""

    set: Path
    model: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    (folder / "simulation.toml").write_text(SIMULATION)
    config = load_config(folder / "simulation.toml", SimulationConfig)
    simulate_set(config, folder / "set")
    card = ModelCard(
        class_names=tuple(config.classes),
        box=BOX,
        voxel_size_A=VOXEL_A,
        network="default",
        acquisition=config.acquisition,
    )
    Model.new(card).save(folder / "model.safetensors")
    return Made(folder / "set", folder / "model.safetensors")


class Bench:
    """A folder to make bad inputs in, and ways to make them."""

    def __init__(self, folder: Path, made: Made) -> None:
        self.folder, self.set, self.model = folder, made.set, made.model
        self.out = folder / "out"

    def simulation(self, old: str = "", new: str = "") -> Path:
        return self.text("simulation.toml", SIMULATION, old, new)

    def run_config(self, old: str = "", new: str = "") -> Path:
        return self.text("run.toml", RUN, old, new)

    def text(self, name: str, text: str, old: str = "", new: str = "") -> Path:
        assert old in text
        (self.folder / name).write_text(text.replace(old, new, 1) if old else text)
        return self.folder / name

    def structure(self, name: str, content: bytes) -> Path:
        (self.folder / name).write_bytes(content)
        return self.simulation('"apoferritin"', f'"./{name}"')

    def npy(self, cubes: np.ndarray) -> Path:
        np.save(self.folder / "target.npy", cubes)
        return self.folder / "target.npy"

    def mrc(self, name: str, data: np.ndarray, voxel_size_A: float) -> Path:
        with mrcfile.new(self.folder / name) as mrc:
            mrc.set_data(data.astype(np.float32))
            mrc.voxel_size = voxel_size_A
        return self.folder / name

    def safetensors(self, metadata: dict[str, str] | None) -> Path:
        save_file({"w": torch.zeros(2)}, self.folder / "bad.safetensors", metadata)
        return self.folder / "bad.safetensors"

    def simulate(self, config: Path, *options: object) -> list[object]:
        return ["simulate", config, "--out", self.out, *options]

    def train(self, source: Path | None = None, *options: object) -> list[object]:
        return ["train", source or self.set, "--out", self.out / "m.safetensors", *options]

    def predict(
        self, target: Path | None = None, *options: object, model: Path | None = None
    ) -> list[object]:
        csv = self.out / "p.csv"
        return ["predict", model or self.model, target or self.set, "--out", csv, *options]

    def adapt(self, target: Path, *options: object) -> list[object]:
        fixed = ["--source", self.set, "--target", target, "--out", self.out / "m.safetensors"]
        return ["adapt", self.model, *fixed, *options]

    def run(self, config: Path, *options: object) -> list[object]:
        return ["run", config, "--out", self.out, *options]


@pytest.fixture
def bench(tmp_path: Path, made: Made) -> Bench:
    return Bench(tmp_path, made)


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str, timeout: float) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setenv("TOMADAPT_CACHE", str(tmp_path / "cache"))


Refuse = Callable[..., str]


@pytest.fixture
def refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refuse:
    """Run a command that must fail with this kind of error; gives the line it printed."""

    def check(arguments: list[object], kind: type[TomadaptError], *words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tomadapt", *map(str, arguments)])
        before = files_in(tmp_path)
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        assert end.value.code == kind.exit_code, printed.err
        assert printed.out == ""
        lines = printed.err.splitlines()
        assert len(lines) == 1, printed.err
        line = lines[0]
        assert line.startswith("tomadapt: error: ")
        assert ". Remedy: " in line
        for word in words:
            assert word in line
        assert files_in(tmp_path) == before, "something was left behind"
        return line

    return check


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def balls(n: int = 12, box: int = BOX, sign: float = 1.0) -> np.ndarray:
    """Bright (or dark) balls in noise."""
    rng = np.random.default_rng(0)
    axis = np.arange(box) - box // 2
    radius2 = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2
    ball = 3.0 * (radius2 < (box / 6) ** 2)
    return (sign * (ball + rng.normal(size=(n, box, box, box)))).astype(np.float32)


def spoilt(value: float) -> np.ndarray:
    cubes = balls()
    cubes[5, 3, 3, 3] = value
    return cubes


def constant() -> np.ndarray:
    cubes = balls()
    cubes[7] = 2.5
    return cubes


PDB = b"ATOM      1  CA  ALA A   1       0.000   0.000   0.000  1.00 20.00           C\n"

Case = tuple[Callable[[Bench], list[object]], type[TomadaptError], tuple[str, ...]]

SIMULATIONS: dict[str, Case] = {
    "missing configuration": (
        lambda b: b.simulate(b.folder / "no.toml"),
        InputError,
        ("no.toml", "expected a TOML file", "got nothing"),
    ),
    "configuration is a folder": (
        lambda b: b.simulate(b.folder),
        InputError,
        ("expected a TOML file", "got a folder"),
    ),
    "invalid TOML": (
        lambda b: b.simulate(b.simulation("snr = 0.5", "snr = = 0.5")),
        ConfigError,
        ("simulation.toml is not valid TOML", "expected", "got", "line 4"),
    ),
    "not text": (
        lambda b: b.simulate(binary(b)),
        ConfigError,
        ("not valid TOML", "utf-8"),
    ),
    "typo in a key": (
        lambda b: b.simulate(b.simulation("per_class", "per_clas")),
        ConfigError,
        ("unknown key 'per_clas'", "expected 'per_class'?"),
    ),
    "missing key": (
        lambda b: b.simulate(b.simulation("snr = 0.5\n")),
        ConfigError,
        ("simulation.toml: snr: Field required", "Remedy: add it"),
    ),
    "wrong type": (
        lambda b: b.simulate(b.simulation("per_class = 3", 'per_class = "many"')),
        ConfigError,
        ("per_class", "valid integer", "got 'many'"),
    ),
    "class is a number": (
        lambda b: b.simulate(
            b.simulation('["apoferritin", "tric", "null"]', "{ apoferritin = 3 }")
        ),
        ConfigError,
        ("classes.apoferritin", "valid string", "got 3"),
    ),
    "duplicate class": (
        lambda b: b.simulate(b.simulation('"tric"', '"apoferritin"')),
        ConfigError,
        ("classes", "repeated: apoferritin"),
    ),
    "only null": (
        lambda b: b.simulate(b.simulation('"apoferritin", "tric", ')),
        ConfigError,
        ("classes", "at least one class with a structure"),
    ),
    "snr zero": (
        lambda b: b.simulate(b.simulation("snr = 0.5", "snr = 0.0")),
        ConfigError,
        ("snr", "greater than 0", "got 0.0"),
    ),
    "snr negative": (
        lambda b: b.simulate(b.simulation("snr = 0.5", "snr = -1")),
        ConfigError,
        ("snr", "greater than 0", "got -1"),
    ),
    "snr nan": (
        lambda b: b.simulate(b.simulation("snr = 0.5", "snr = nan")),
        ConfigError,
        ("snr", "got nan"),
    ),
    "unknown acquisition": (
        lambda b: b.simulate(b.simulation("batch_b", "bathc_b")),
        ConfigError,
        ("unknown acquisition 'bathc_b'", "batch_a, batch_b"),
    ),
    "tilts reversed": (
        lambda b: b.simulate(tilts(b, "[60, 0, -60]")),
        ConfigError,
        ("acquisition: tilt_angles_deg must increase", "60 … -60"),
    ),
    "single tilt": (
        lambda b: b.simulate(tilts(b, "[0]")),
        ConfigError,
        ("tilt_angles_deg needs at least 3 angles", "got 1"),
    ),
    "tilt table with a typo": (
        lambda b: b.simulate(tilts(b, "{ frist = -60, last = 60, step = 3 }")),
        ConfigError,
        ("first, last, step", "got frist, last, step"),
    ),
    "tilt table backwards": (
        lambda b: b.simulate(tilts(b, "{ first = 60, last = -60, step = 3 }")),
        ConfigError,
        ("tilt range runs upwards", "first 60"),
    ),
    "key of an acquisition misspelt": (
        lambda b: b.simulate(b.simulation(ACQUISITION, "acquisition = { defocus_mu = 5.0 }")),
        ConfigError,
        ("unknown key 'acquisition.defocus_mu'", "expected 'defocus_um'?"),
    ),
    "unknown structure": (
        lambda b: b.simulate(b.simulation('"tric"', '"trik"')),
        ConfigError,
        ("unknown structure 'trik'", "expected a built-in name"),
    ),
    "missing structure file": (
        lambda b: b.simulate(b.simulation('"tric"', '"models/none.pdb.gz"')),
        InputError,
        ("models/none.pdb.gz does not exist", "expected"),
    ),
    "missing structure folder": (
        lambda b: b.simulate(with_folder(b, "nowhere")),
        ConfigError,
        ("nowhere", "expected a folder"),
    ),
    "home of no one": (
        lambda b: b.simulate(with_folder(b, "~no-such-user/x")),
        ConfigError,
        ("~no-such-user/x", "expected a folder"),
    ),
    "PDB ID without a network": (
        lambda b: b.simulate(b.simulation('"tric"', '"1bxn"')),
        OfflineError,
        ("1bxn", "expected an answer from", "got no network"),
    ),
    "truncated gzip": (
        lambda b: b.simulate(b.structure("a.pdb.gz", gzip.compress(PDB * 999, mtime=0)[:-20])),
        InputError,
        ("a.pdb.gz is not a complete gzip file", "got"),
    ),
    "empty PDB": (
        lambda b: b.simulate(b.structure("a.pdb", b"")),
        InputError,
        ("a.pdb holds no atoms", "expected"),
    ),
    "box too small for the structure": (
        lambda b: b.simulate(large_structure(b)),
        ConfigError,
        ("ribosome_80s", "expected", "box"),
    ),
    "box out of range": (
        lambda b: b.simulate(b.simulation("box = 24", "box = 100")),
        ConfigError,
        ("box", "less than or equal to 64", "got 100"),
    ),
    "voxel size nan": (
        lambda b: b.simulate(b.simulation("16.0", "nan")),
        ConfigError,
        ("voxel_size_A", "got nan"),
    ),
    "unknown device": (
        lambda b: b.simulate(b.simulation(), "--device", "gpu"),
        ConfigError,
        ("--device", "expected auto or cpu", "got gpu"),
    ),
}


def binary(b: Bench) -> Path:
    (b.folder / "x.toml").write_bytes(b"\xff\xfe\x00")
    return b.folder / "x.toml"


def with_folder(b: Bench, folder: str) -> Path:
    text = SIMULATION.replace('"tric"', '"1abc"')
    return b.text("s.toml", f'folder = "{folder}"\n{text}')


def large_structure(b: Bench) -> Path:
    text = SIMULATION.replace('"tric"', '"ribosome_80s"')
    return b.text("s.toml", text.replace("16.0", "9.2"))


def tilts(b: Bench, value: str) -> Path:
    acquisition = f"acquisition = {{ defocus_um = 5.0, tilt_angles_deg = {value} }}"
    return b.simulation(ACQUISITION, acquisition)


@pytest.mark.parametrize("name", SIMULATIONS)
def test_simulate(name: str, bench: Bench, refuse: Refuse) -> None:
    make, kind, words = SIMULATIONS[name]
    refuse(make(bench), kind, *words)


def folder_of_cubes(b: Bench) -> Path:
    (b.folder / "cubes").mkdir()
    b.mrc("cubes/a.mrc", balls(1)[0], VOXEL_A)
    b.mrc("cubes/b.mrc", balls(1, box=26)[0], VOXEL_A)
    return b.folder / "cubes"


def folder_of_voxel_sizes(b: Bench) -> Path:
    (b.folder / "cubes").mkdir()
    b.mrc("cubes/a.mrc", balls(1)[0], VOXEL_A)
    b.mrc("cubes/b.mrc", balls(1)[0], 10.0)
    return b.folder / "cubes"


def empty_folder(b: Bench) -> Path:
    (b.folder / "cubes").mkdir()
    return b.folder / "cubes"


def npz(b: Bench, **arrays: np.ndarray) -> Path:
    np.savez(b.folder / "target.npz", **arrays)
    return b.folder / "target.npz"


def truncated(b: Bench, path: Path) -> Path:
    cut = b.folder / f"cut{path.suffix}"
    cut.write_bytes(path.read_bytes()[:-5000])
    return cut


def pickled(b: Bench) -> Path:
    np.save(b.folder / "target.npy", np.array([{}], dtype=object), allow_pickle=True)
    return b.folder / "target.npy"


def archive_named_npy(b: Bench) -> Path:
    return npz(b, cubes=balls()).rename(b.folder / "archive.npy")


SIZE = ("--voxel-size", VOXEL_A)

TARGETS: dict[str, Case] = {
    "missing target": (
        lambda b: b.predict(b.folder / "no.npy"),
        InputError,
        ("no.npy", "expected a file or folder"),
    ),
    "unknown extension": (
        lambda b: b.predict(b.text("target.txt", "1 2 3")),
        InputError,
        ("unknown kind of target", "expected a set, .mrc", "got .txt"),
    ),
    "NaN voxels": (
        lambda b: b.predict(b.npy(spoilt(np.nan)), *SIZE),
        InputError,
        ("subtomogram 5", "expected finite", "got NaN or infinite"),
    ),
    "infinite voxels": (
        lambda b: b.adapt(b.npy(spoilt(np.inf)), *SIZE),
        InputError,
        ("subtomogram 5", "got NaN or infinite"),
    ),
    "constant volume": (
        lambda b: b.predict(b.npy(constant()), *SIZE),
        InputError,
        ("subtomogram 7", "varying", "got all voxels equal"),
    ),
    "unknown voxel size of npy": (
        lambda b: b.predict(b.npy(balls())),
        ConfigError,
        ("voxel size", "unknown", "got none", "give --voxel-size"),
    ),
    "MRC header says 0 Å": (
        lambda b: b.predict(b.mrc("t.mrc", balls(), 0.0)),
        ConfigError,
        ("voxel size of", "unknown"),
    ),
    "MRC header says 1 Å": (
        lambda b: b.predict(b.mrc("t.mrc", balls(), 1.0)),
        ConfigError,
        ("voxel size of", "unknown"),
    ),
    "voxel size out of range": (
        lambda b: b.predict(b.npy(balls()), "--voxel-size", "-16"),
        ConfigError,
        ("voxel size", "between 0.1 and 1000", "got -16"),
    ),
    "voxel size is nan": (
        lambda b: b.predict(b.npy(balls()), "--voxel-size", "nan"),
        ConfigError,
        ("voxel size", "got nan"),
    ),
    "stated voxel size is not the set's": (
        lambda b: b.predict(b.set, "--voxel-size", 10),
        MismatchError,
        ("expected 10 Å (stated)", "got 16 Å"),
    ),
    "voxel size is not the model's": (
        lambda b: b.predict(b.npy(balls()), "--voxel-size", 10),
        MismatchError,
        ("expected 16 Å (model)", "got 10 Å"),
    ),
    "box is not the model's": (
        lambda b: b.predict(b.npy(balls(box=26)), *SIZE),
        MismatchError,
        ("expected 24 voxels (model)", "got 26 voxels"),
    ),
    "box is not the model's, adapting": (
        lambda b: b.adapt(b.npy(balls(box=26)), *SIZE),
        MismatchError,
        ("expected 24 voxels (model)", "got 26 voxels"),
    ),
    "not cubes": (
        lambda b: b.predict(b.npy(balls()[:, :20]), *SIZE),
        InputError,
        ("not a stack of cubes", "expected an array (n, d, d, d)", "got shape (12, 20, 24, 24)"),
    ),
    "no particles": (
        lambda b: b.predict(b.npy(np.zeros((0, 24, 24, 24), np.float32)), *SIZE),
        InputError,
        ("not a stack of cubes", "(0, 24, 24, 24)"),
    ),
    "nothing at all": (
        lambda b: b.predict(b.npy(np.zeros((0, 0, 0), np.float32)), *SIZE),
        InputError,
        ("not a stack of cubes", "(0, 0, 0)"),
    ),
    "complex voxels": (
        lambda b: b.predict(b.npy(balls().astype(np.complex64)), *SIZE),
        InputError,
        ("real numbers", "got complex64"),
    ),
    "pickled objects": (
        lambda b: b.predict(pickled(b), *SIZE),
        InputError,
        ("cannot read", "expected a whole .npy array"),
    ),
    "truncated npy": (
        lambda b: b.predict(truncated(b, b.npy(balls())), *SIZE),
        InputError,
        ("cannot read", "cut.npy", "expected a whole .npy array"),
    ),
    "truncated mrc": (
        lambda b: b.predict(truncated(b, b.mrc("t.mrc", balls(), VOXEL_A))),
        InputError,
        ("cannot read", "cut.mrc", "expected a whole MRC file"),
    ),
    "truncated npz": (
        lambda b: b.predict(truncated(b, npz(b, a=balls())), *SIZE),
        InputError,
        ("cannot read", "cut.npz", "expected a whole .npz archive"),
    ),
    "archive named npy": (
        lambda b: b.predict(archive_named_npy(b), *SIZE),
        InputError,
        ("cannot read", "archive.npy"),
    ),
    "text named mrc": (
        lambda b: b.predict(b.text("t.mrc", "not a map")),
        InputError,
        ("cannot read", "t.mrc"),
    ),
    "two arrays in npz": (
        lambda b: b.predict(npz(b, train=balls(), test=balls(), y=np.arange(3)), *SIZE),
        InputError,
        ("exactly one array (n, d, d, d)", "expected one", "got 2 (train, test)"),
    ),
    "unequal cubes": (
        lambda b: b.predict(folder_of_cubes(b)),
        InputError,
        ("b.mrc is not a cube like the others", "(24, 24, 24)", "got (26, 26, 26)"),
    ),
    "unequal voxel sizes": (
        lambda b: b.predict(folder_of_voxel_sizes(b)),
        MismatchError,
        ("differ in voxel size", "10 Å", "16 Å"),
    ),
    "empty folder": (
        lambda b: b.predict(empty_folder(b)),
        InputError,
        ("no .mrc or .em cubes", "expected at least one"),
    ),
    "inverted contrast": (
        lambda b: b.predict(b.npy(balls(sign=-1)), *SIZE),
        ConfigError,
        ("seems inverted", "expected particles brighter", "give --contrast negative"),
    ),
    "unknown contrast": (
        lambda b: b.predict(b.npy(balls()), *SIZE, "--contrast", "dark"),
        ConfigError,
        ("--contrast", "measure or positive or negative", "got dark"),
    ),
    "SNR of recorded particles": (
        lambda b: b.predict(b.npy(balls()), *SIZE, "--snr", 0.1),
        ConfigError,
        ("SNR", "expected a simulated set", "leave the SNR out"),
    ),
    "negative SNR": (
        lambda b: b.predict(None, "--snr", -1),
        ConfigError,
        ("SNR is a positive number", "expected > 0", "got -1"),
    ),
    "SNR zero": (
        lambda b: b.train(None, "--snr", 0),
        ConfigError,
        ("SNR is a positive number", "got 0"),
    ),
    "SNR nan": (
        lambda b: b.adapt(b.set, "--target-snr", "nan"),
        ConfigError,
        ("SNR is a positive number", "got nan"),
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str, bench: Bench, refuse: Refuse) -> None:
    make, kind, words = TARGETS[name]
    refuse(make(bench), kind, *words)


def old_format(b: Bench) -> Path:
    return b.safetensors({"tomadapt": json.dumps({"format": "tomadapt-model-0", "classes": []})})


def other_weights(b: Bench) -> Path:
    card = ModelCard(
        class_names=("a", "b"), box=BOX, voxel_size_A=VOXEL_A, network="paper", acquisition=None
    )
    return b.safetensors({"tomadapt": card.model_dump_json()})


def interrupted(b: Bench) -> Path:
    (b.folder / "half").mkdir()
    shutil.copy(b.set / "config.json", b.folder / "half")
    shutil.copy(b.set / "shard-00000.npz", b.folder / "half")
    return b.folder / "half"


def damaged_set(b: Bench) -> Path:
    shutil.copytree(b.set, b.folder / "damaged")
    (b.folder / "damaged" / "shard-00001.npy").unlink()
    return b.folder / "damaged"


def other_set(b: Bench) -> list[object]:
    shutil.copytree(b.set, b.out)
    return b.simulate(b.simulation("snr", "seed = 5\nsnr"))


def other_run(b: Bench) -> list[object]:
    config = load_config(b.run_config(), RunConfig).with_seed(7)
    b.out.mkdir()
    (b.out / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    return b.run(b.run_config())


def damaged_run(b: Bench) -> list[object]:
    b.out.mkdir()
    (b.out / "config.json").write_text('{"seed": ')
    return b.run(b.run_config())


def other_classes(b: Bench) -> list[object]:
    card = Model.load(b.model).card.model_copy(update={"class_names": ("a", "b", "null")})
    Model.new(card).save(b.folder / "abc.safetensors")
    models = (b.folder / "abc.safetensors",) * 2
    return ["report", *models, "--source", b.set, "--target", b.set, "--out", b.out / "r.html"]


MODELS_AND_SETS: dict[str, Case] = {
    "missing model": (
        lambda b: b.predict(model=b.folder / "no.safetensors"),
        InputError,
        ("no.safetensors", "expected a file", "got nothing"),
    ),
    "model of an old format": (
        lambda b: b.predict(model=old_format(b)),
        InputError,
        ("another format", "expected tomadapt-model-1", "got tomadapt-model-0", "train it again"),
    ),
    "not a model": (
        lambda b: b.predict(model=b.text("m.safetensors", "weights, honestly" * 100)),
        InputError,
        ("is not a model file", "expected safetensors", "got"),
    ),
    "empty model file": (
        lambda b: b.predict(model=b.text("m.safetensors", "")),
        InputError,
        ("is not a model file", "expected safetensors"),
    ),
    "safetensors of another program": (
        lambda b: b.predict(model=b.safetensors(None)),
        InputError,
        ("has no tomadapt card", "expected a file written by", "got other safetensors"),
    ),
    "truncated model": (
        lambda b: b.predict(model=truncated(b, b.model)),
        InputError,
        ("cut.safetensors is not a model file", "got"),
    ),
    "weights of another network": (
        lambda b: b.predict(model=other_weights(b)),
        InputError,
        ("does not hold the weights its card announces", "got"),
    ),
    "missing set": (
        lambda b: b.train(b.folder / "no-set"),
        InputError,
        ("no-set is not a finished set", "expected a folder with set.json", "got no set.json"),
    ),
    "interrupted set": (
        lambda b: b.train(interrupted(b)),
        InputError,
        ("not a finished set", "got an interrupted simulation", "simulate` again"),
    ),
    "interrupted set as target": (
        lambda b: b.predict(interrupted(b)),
        InputError,
        ("not a finished set", "got an interrupted simulation"),
    ),
    "set with a shard missing": (
        lambda b: b.predict(damaged_set(b)),
        InputError,
        ("is damaged", "readable shards", "shard-00001.npy", "simulate it again"),
    ),
    "set folder of another configuration": (
        other_set,
        MismatchError,
        ("holds a set of another configuration", "seed", "choose another --out"),
    ),
    "run folder of another configuration": (
        other_run,
        MismatchError,
        ("holds a run of another configuration", "got a difference in seed"),
    ),
    "run folder that is damaged": (
        damaged_run,
        InputError,
        ("config.json is damaged", "expected a JSON object"),
    ),
    "report on other classes": (
        other_classes,
        MismatchError,
        ("differ in classes", "expected a, b, null", "got apoferritin, tric, null"),
    ),
    "too few particles": (
        lambda b: b.run(b.run_config("per_class = 3", "per_class = 1")),
        ConfigError,
        ("source.per_class", "greater than or equal to 2", "got 1"),
    ),
    "unknown recipe": (
        lambda b: b.train(None, "--recipe", "papper"),
        ConfigError,
        ("--recipe", "expected default or paper", "got papper"),
    ),
    "unknown device": (
        lambda b: b.train(None, "--device", "gpu"),
        ConfigError,
        ("--device", "expected auto or cpu or cuda", "got gpu"),
    ),
    "SNR range upside down": (
        lambda b: b.train(None, "--snr-range", 1, 0.1),
        ConfigError,
        ("snr_range must be 0 < low <= high",),
    ),
    "unknown acquisition to check": (
        lambda b: ["self-check", "--acquisition", "bathc_b"],
        ConfigError,
        ("--acquisition", "batch_a or batch_b", "got bathc_b"),
    ),
}


@pytest.mark.parametrize("name", MODELS_AND_SETS)
def test_models_and_sets(name: str, bench: Bench, refuse: Refuse) -> None:
    make, kind, words = MODELS_AND_SETS[name]
    refuse(make(bench), kind, *words)


class TestRunConfigurations:
    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("[train]", "[trian]", ("unknown key 'trian'", "expected 'train'?")),
            (
                'acquisition = "batch_a"\nsnr',
                'acquisition = "batch_a"\nsnrr',
                ("unknown key 'target.snrr'", "expected 'snr'?"),
            ),
            ("box = 24", "box = 23", ("structures.box", "equal to 24", "got 23")),
            ('"batch_a"', '"batch_x"', ("target.acquisition", "unknown acquisition 'batch_x'")),
            ('"tric"', '"apoferritin"', ("structures.classes", "repeated: apoferritin")),
        ],
    )
    def test_place_is_named(
        self, old: str, new: str, words: tuple[str, ...], bench: Bench, refuse: Refuse
    ) -> None:
        refuse(bench.run(bench.run_config(old, new)), ConfigError, *words)

    def test_a_mistake_does_not_claim_the_folder(self, bench: Bench, refuse: Refuse) -> None:
        """Regression: a run with a misspelt structure kept the corrected one out of its folder."""
        refuse(bench.run(bench.run_config('"tric"', '"trik"')), ConfigError, "'trik'")
        assert not (bench.out / "config.json").exists()

    @pytest.mark.parametrize(
        ("cubes", "size", "kind", "words"),
        [
            (balls(sign=-1), VOXEL_A, ConfigError, ("inverted",)),
            (balls(box=26), VOXEL_A, MismatchError, ("24³ voxels of 16 Å", "26³ voxels of 16 Å")),
            (balls(), 9.2, MismatchError, ("24³ voxels of 16 Å", "24³ voxels of 9.2 Å")),
            (spoilt(np.nan), VOXEL_A, InputError, ("subtomogram 5",)),
        ],
    )
    def test_target_files_are_judged_before_anything_is_simulated(
        self,
        cubes: np.ndarray,
        size: float,
        kind: type[TomadaptError],
        words: tuple[str, ...],
        bench: Bench,
        refuse: Refuse,
    ) -> None:
        """Regression: a wrong target file was noticed after the source had been made."""
        bench.npy(cubes)
        head, tail = RUN.split("[target]")
        target = f'[target]\npath = "target.npy"\nvoxel_size_A = {size}\n[train]'
        config = bench.text("run.toml", head + target + tail.split("[train]")[1])
        refuse(bench.run(config), kind, *words)


EXPERIMENTS: dict[str, Case] = {
    "unknown experiment": (
        lambda b: ["experiment", "table3", "--out", b.out],
        ConfigError,
        ("experiment has an unknown value", "table1 or table2", "got table3"),
    ),
    "unknown scale": (
        lambda b: ["experiment", "table1", "--scale", "full", "--out", b.out],
        ConfigError,
        ("--scale", "smoke or reduced or paper", "got full"),
    ),
    "unknown cell": (
        lambda b: ["experiment", "table1", "--cell", "0.3:0.1", "--out", b.out],
        ConfigError,
        ("no cell '0.3:0.1' at scale smoke", "mend --cell"),
    ),
    "unknown seed": (
        lambda b: ["experiment", "table1", "--seed", 2, "--out", b.out],
        ConfigError,
        ("no seed 2 at scale smoke", "expected 0 to 1", "mend --seed"),
    ),
    "unknown method": (
        lambda b: ["experiment", "table1", "--method", "dann", "--out", b.out],
        ConfigError,
        ("unknown method 'dann'", "partial_statistics, ie, sc,", "mend --method"),
    ),
    "a cell of another experiment": (
        lambda b: ["experiment", "table2", "--cell", "0.1:0.1", "--out", b.out],
        ConfigError,
        ("--method and --seed choose what table1 runs", "got `experiment table2`"),
    ),
    "no table without runs": (
        lambda b: ["experiment", "figure3", "--tables-only", "--out", b.out],
        ConfigError,
        ("figure3 makes no table from records alone", "leave --tables-only out"),
    ),
    "a method and tables only": (
        lambda b: ["experiment", "table1", "--tables-only", "--method", "ada", "--out", b.out],
        ConfigError,
        ("choose what table1 runs", "got `experiment table1` --tables-only"),
    ),
    "a data folder that is not there": (
        lambda b: ["experiment", "table2", "--data", b.folder / "typo", "--out", b.out],
        ConfigError,
        ("no data folder", "typo", "nothing there", "mend --data"),
    ),
    "no structures named": (
        lambda b: ["experiment", "table1", "--scale", "reduced", "--out", b.out],
        ConfigError,
        ("needs a folder of structures", "--data FOLDER", "--scale smoke"),
    ),
    "structures missing": (
        lambda b: ["experiment", "table2", "--scale", "reduced", "--data", b.folder],
        InputError,
        ("lacks structures", "5le5 (or its stand-in 3j9i), 4ybb", "download"),
    ),
    "no scheduler": (
        lambda b: ["experiment", "table1", "--scheduler", "tcp://127.0.0.1:1", "--out", b.out],
        ConfigError,
        ("no Dask scheduler at tcp://127.0.0.1:1", "dask scheduler"),
    ),
    "workers and a scheduler": (
        lambda b: ["experiment", "table1", "--workers", 2, "--scheduler", "tcp://h:1"],
        ConfigError,
        ("--workers and --scheduler exclude each other",),
    ),
    "no records": (
        lambda b: ["experiment", "table1", "--tables-only", "--out", b.out],
        InputError,
        ("no records at", "table1_smoke.jsonl", "run the experiment first"),
    ),
    "adapting by an unknown method": (
        lambda b: b.adapt(b.set, "--method", "dann"),
        ConfigError,
        ("--method", "partial_statistics or ie or sc or", "got dann"),
    ),
    "epochs of a method that has none": (
        lambda b: b.adapt(b.set, "--method", "sc", "--epochs", 3),
        ConfigError,
        ("method sc has neither epochs nor recipes", "with --method ada"),
    ),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_and_methods(
    name: str, bench: Bench, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    make, kind, words = EXPERIMENTS[name]
    refuse(make(bench), kind, *words)


class TestOutputs:
    @pytest.mark.parametrize("place", ["file", "proc"])
    @pytest.mark.parametrize("command", ["simulate", "train", "predict", "run", "benchmark"])
    def test_not_writable(self, place: str, command: str, bench: Bench, refuse: Refuse) -> None:
        bench.text("file", "in the way")
        bench.out = Path("/proc/out") if place == "proc" else bench.folder / "file" / "out"
        arguments = {
            "simulate": lambda: bench.simulate(bench.simulation()),
            "train": lambda: bench.train(None, "--epochs", 1),
            "predict": bench.predict,
            "run": lambda: bench.run(bench.run_config()),
            "benchmark": lambda: ["benchmark", "--json", bench.out / "figures.json"],
        }[command]()
        refuse(arguments, OutputError, str(bench.out), "expected a writable place", "got")

    def test_a_folder_is_in_the_way(self, bench: Bench, refuse: Refuse) -> None:
        (bench.out / "p.csv").mkdir(parents=True)
        refuse(bench.predict(), OutputError, "p.csv", "expected a file", "got a folder")

    @pytest.mark.parametrize("command", ["simulate", "run"])
    def test_disk_too_small(
        self, command: str, bench: Bench, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
        arguments = (
            bench.simulate(bench.simulation())
            if command == "simulate"
            else bench.run(bench.run_config())
        )
        refuse(arguments, OutputError, "not enough room", "expected", "MB free", "got 0 MB")

    def test_disk_full_in_the_middle_of_a_shard(
        self, bench: Bench, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def half(file: Path, array: np.ndarray) -> None:
            Path(file).write_bytes(array.tobytes()[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

        bench.out.mkdir()
        config = load_config(bench.simulation(), SimulationConfig)
        (bench.out / "config.json").write_text(json.dumps(config.identity))
        monkeypatch.setattr(np, "save", half)
        refuse(
            bench.simulate(bench.simulation()),
            OutputError,
            "no space left while writing",
            "shard-00000.npy",
            "free some space and run it again",
        )

    def test_disk_full_while_predictions_are_written(
        self, bench: Bench, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: Path, target: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "replace", full)
        refuse(bench.predict(), OutputError, "no space left while writing", "p.csv")

    def test_any_other_full_disk(
        self, bench: Bench, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Regression: an OSError that no module translates was a traceback."""

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")

        monkeypatch.setattr(Model, "load", full)
        refuse(bench.predict(), OutputError, "no space left while writing /tmp/x")

    def test_any_other_unreadable_file(
        self, bench: Bench, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def denied(self: Path, **_: object) -> str:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

        config = bench.simulation()
        monkeypatch.setattr(Path, "read_text", denied)
        refuse(bench.simulate(config), InputError, "simulation.toml", "got Permission denied")
        refuse(bench.predict(), InputError, "set.json", "got Permission denied")


@pytest.mark.parametrize("command", ["simulate", "train", "predict", "run"])
def test_no_such_gpu(
    command: str, bench: Bench, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = {
        "simulate": lambda: bench.simulate(bench.simulation()),
        "train": bench.train,
        "predict": bench.predict,
        "run": lambda: bench.run(bench.run_config()),
    }[command]()
    refuse([*arguments, "--device", "cuda"], ConfigError, "--device cuda", "use --device cpu")
    assert not bench.out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "--no-such-option"],
        ["no-such-command"],
        ["train"],
        ["simulate", "x.toml", "--out", "y", "--seed"],
        ["train", "set", "--out", "m", "--seed", "-1"],
        ["train", "set", "--out", "m", "--epochs", "0"],
        ["predict", "m", "t", "--out", "p.csv", "--snr", "much"],
        ["self-check", "--box", "8"],
    ],
)
def test_usage(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the parser of the command line refuses keeps its own wording, and exit code 2."""
    monkeypatch.setattr(sys, "argv", ["tomadapt", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr().err
    assert end.value.code == 2
    assert "Usage: tomadapt" in printed or "Usage: " in printed
    assert "Error: " in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["simulate", "no.toml", "--out", "out"], InputError.exit_code),
        (["predict", "--nonsense"], 2),
    ],
)
def test_in_a_process_of_its_own(arguments: list[str], code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from tomadapt.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    if code != 2:
        assert done.stderr.startswith("tomadapt: error: no configuration at no.toml; expected")
        assert done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_interrupt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: typer swallowed Ctrl-C before the message for it could be printed."""

    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "load", pressed)
    monkeypatch.setattr(sys, "argv", ["tomadapt", *map(str, bench.predict())])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    expected = "tomadapt: interrupted; run the same command again to go on\n"
    assert capsys.readouterr().err == expected


def test_good_inputs_are_good(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the cases above spoil works as it is, so that each fails for its own reason."""
    for arguments in (
        bench.simulate(bench.simulation()),
        [*bench.predict(bench.npy(balls()), *SIZE)[:-3], bench.folder / "p.csv", *SIZE],
        ["predict", bench.model, bench.set, "--out", bench.folder / "q.csv"],
    ):
        monkeypatch.setattr(sys, "argv", ["tomadapt", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0, capsys.readouterr().err


# --- what a review and a new user found


def test_source_and_target_of_one_seed(bench: Bench, refuse: Refuse) -> None:
    """Regression: they are the same particles, seen through two microscopes."""
    refuse(bench.adapt(bench.set), MismatchError, "simulated with one seed", "0 in both")


def test_an_adapted_model_is_no_source_model(bench: Bench, refuse: Refuse) -> None:
    adapted = bench.folder / "adapted.safetensors"
    Model.load(bench.model).copy(method="ada").save(adapted)
    arguments = bench.adapt(bench.npy(balls()), "--voxel-size", VOXEL_A)
    arguments[1] = adapted
    refuse(arguments, ConfigError, "is not a source model", "a model made by ada")


@pytest.mark.parametrize("table", ["train", "adapt"])
def test_a_seed_in_a_stage(bench: Bench, refuse: Refuse, table: str) -> None:
    """Regression: it was overwritten by the run's seed without a word."""
    config = bench.run_config(f"[{table}]\n", f"[{table}]\nseed = 3\n")
    refuse(bench.run(config), ConfigError, f"not to [{table}]")


def test_several_processes(bench: Bench, refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    refuse(bench.run(bench.run_config()), ConfigError, "one process", "4 processes")


def test_a_stack_of_images(bench: Bench, refuse: Refuse) -> None:
    """Regression: 48 images of 24² were taken for two cubes."""
    with mrcfile.new(bench.folder / "images.mrcs") as mrc:
        mrc.set_data(np.concatenate(balls(2)))
        mrc.set_image_stack()
        mrc.voxel_size = VOXEL_A
    refuse(bench.predict(bench.folder / "images.mrcs"), InputError, "a stack of 2D images")


def test_other_training_data_are_warned_of(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: any set was accepted as the one that a model was trained on."""
    target = bench.npy(balls())
    arguments = bench.adapt(target, "--voxel-size", VOXEL_A, "--epochs", 1)
    monkeypatch.setattr(sys, "argv", ["tomadapt", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert "tomadapt: warning: " in (err := capsys.readouterr().err)
    assert f"was not trained on {bench.set}" in err


def test_a_target_that_was_exchanged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: a run went on with the model that was adapted to the file's former content."""
    target = bench.npy(balls())
    text = RUN.replace(
        RUN[RUN.index("[target]") : RUN.index("[train]")],
        f'[target]\npath = "{target}"\nvoxel_size_A = {VOXEL_A}\n',
    )
    config = bench.text("run.toml", text)
    codes = []
    for cubes in (balls(), balls(10)):
        bench.npy(cubes)
        monkeypatch.setattr(sys, "argv", ["tomadapt", *map(str, bench.run(config))])
        with pytest.raises(SystemExit) as end:
            main()
        codes.append(end.value.code)
    assert codes == [0, MismatchError.exit_code]
    assert "was adapted to another target" in capsys.readouterr().err
