"""Good files of every kind, and ways to spoil them; see ``test_corrupt_inputs``."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import emfile
import h5py
import mrcfile
import numpy as np
from numpy.typing import NDArray

from tomadapt.learn.model import Model, ModelCard
from zarr_images import write_ome_zarr

VOXEL_A = 10.0
BOX = 24
SHAPE = (28, 36, 40)
BOMB_BYTES = 4_000_000_000
SIZE = ("--voxel-size", VOXEL_A)
Commands = Sequence[Sequence[object]]
Make = Callable[["Bench"], Commands]
Expected = Literal["refused", "accepted", "either"]
Spoilt = tuple[Make, Expected] | tuple[Make, Expected, bool]
"""How to make a mutant, and the rest of its fields but the kind."""

SIMULATION = """\
classes = ["apoferritin", "null"]
acquisition = "batch_b"
per_class = 2
snr = 0.5
box = 24
voxel_size_A = 16.0
resolution_A = 20.0
"""
RUN = """\
[structures]
classes = ["apoferritin", "null"]
box = 24
voxel_size_A = 10.0
resolution_A = 20.0
[source]
acquisition = "batch_b"
snr = 0.5
per_class = 3
[target]
path = "target.npy"
voxel_size_A = 10.0
"""
STAR = """\
# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnImagePixelSize #2
1 10.0

data_particles

loop_
_rlnMicrographName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnCoordinateZ #4
_rlnOpticsGroup #5
_rlnAngleRot #6
_rlnAngleTilt #7
_rlnAnglePsi #8
t 12.0 12.0 12.0 1 0.0 10.0 20.0
t 20.0 18.0 14.0 1 5.0 15.0 25.0
t 30.0 20.0 14.0 1 5.0 15.0 25.0
"""
CSV = "tomogram,x,y,z,class,note\nt,12,12,12,a,one\nt,20,18,14,b,two\nt,30,20,14,b,three\n"
DYNAMO = "".join(
    f"{n} 1 1 0 0 0 0 10 20 0.5 0 0 1 -60 60 -60 60 0 0 1 0 1 0 {x} {y} 14 0 0 0 0 0 0 0 0 0\n"
    for n, (x, y) in enumerate([(12, 12), (20, 18), (30, 20)], start=1)
)
COPICK = json.dumps(
    {
        "pickable_object_name": "ribosome",
        "user_id": "u",
        "session_id": "0",
        "run_name": "t",
        "unit": "angstrom",
        "points": [
            {"location": {"x": x, "y": y, "z": 140.0}, "instance_id": 0, "score": 1.0}
            for x, y in [(120.0, 120.0), (200.0, 180.0), (300.0, 200.0)]
        ],
    }
)


@dataclass(frozen=True)
class Mutant:
    """A spoilt file.

    Attributes
    ----------
    kind
        The format that it is, or should be.
    make
        Writes it; gives the commands that are to read it, ``OUT`` being a folder for results.
    expected
        Whether these refuse it.
    seen
        Whether ``doctor`` finds a problem in what is refused.
    """

    kind: str
    make: Callable[[Bench], Commands]
    expected: Expected = "refused"
    seen: bool = True


class Bench:
    """A folder to spoil files in, and the commands that read them."""

    def __init__(self, folder: Path, good: Path) -> None:
        self.folder, self.good = folder, good

    def bytes(self, name: str) -> bytes:
        return (self.good / name).read_bytes()

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def copy(self, name: str, to: str | None = None) -> Path:
        """A good file or folder, to be spoilt in its place."""
        path = self.folder / (to or name)
        if (self.good / name).is_dir():
            shutil.copytree(self.good / name, path)
        else:
            shutil.copy(self.good / name, path)
        return path

    def pick(self, path: Path, *options: object) -> Commands:
        picking = ["pick", path, "--out", "OUT/p.star", "--contrast", "positive", *options]
        return [picking, ["doctor", "--json", path]]

    def extract(self, particles: Path, *options: object) -> Commands:
        fixed = ["--box", 8, "--out", "OUT/x", "--contrast", "positive"]
        tomogram = self.good / "t.mrc"
        return [
            ["extract", tomogram, "--particles", particles, *fixed, *options],
            ["doctor", "--json", particles],
        ]

    def predict(self, target: Path, *options: object) -> Commands:
        model = self.good / "m.safetensors"
        fixed = ["--out", "OUT/p.csv", "--contrast", "positive"]
        return [
            ["predict", model, target, *fixed, *options],
            ["doctor", "--json", target],
        ]

    def by_model(self, model: Path) -> Commands:
        fixed = [self.good / "x.npy", "--voxel-size", VOXEL_A, "--contrast", "positive"]
        return [
            ["predict", model, *fixed, "--out", "OUT/p.csv"],
            ["doctor", "--json", model],
        ]

    def simulate(self, config: Path) -> Commands:
        return [["simulate", config, "--out", "OUT/set"], ["doctor", "--json", config]]

    def run(self, config: Path) -> Commands:
        return [["run", config, "--out", "OUT/run"], ["doctor", "--json", config]]


def density(seed: int = 0) -> NDArray[np.float32]:
    """Noise with some bright balls in it."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=SHAPE)
    grid = np.indices(SHAPE)
    for x, y, z in [(12, 12, 14), (20, 18, 14), (30, 20, 14), (12, 28, 12)]:
        volume += 4 * (sum((g - c) ** 2 for g, c in zip(grid, (z, y, x), strict=True)) < 16)
    return volume.astype(np.float32)


def cubes() -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(3, BOX, BOX, BOX)).astype(np.float32)


def good_files(folder: Path) -> None:
    folder.mkdir()
    volume = density()
    with mrcfile.new(folder / "t.mrc") as mrc:
        mrc.set_data(volume)
        mrc.voxel_size = VOXEL_A
    (folder / "t.mrc.gz").write_bytes(gzip.compress((folder / "t.mrc").read_bytes(), 1, mtime=0))
    emfile.write(folder / "t.em", volume)
    write_hdf(folder / "t.hdf", volume)
    write_ome_zarr(folder / "t.zarr", volume, VOXEL_A, "t")
    for name, text in (
        ("l.star", STAR),
        ("l.csv", CSV),
        ("l.tbl", DYNAMO),
        ("l.json", COPICK),
        ("s.toml", SIMULATION),
        ("r.toml", RUN),
    ):
        (folder / name).write_text(text)
    card = ModelCard(
        class_names=("a", "b"), box=BOX, voxel_size_A=VOXEL_A, network="default", acquisition=None
    )
    Model.new(card).save(folder / "m.safetensors")
    np.save(folder / "x.npy", cubes())
    np.savez_compressed(folder / "x.npz", cubes=cubes(), labels=np.arange(3))
    extracted = folder / "x"
    extracted.mkdir()
    shutil.copy(folder / "x.npy", extracted / "subtomograms.npy")
    (extracted / "particles.star").write_text(STAR)
    (extracted / "rejected.star").write_text(STAR.split("t 12.0", maxsplit=1)[0])
    extracted_card = {"count": 3, "box": BOX, "voxel_size_A": VOXEL_A, "contrast": "positive"}
    extracted_card |= {"format": "tomadapt-extracted-1", "tomogram": "t.mrc"}
    (extracted / "extracted.json").write_text(json.dumps(extracted_card))


def write_hdf(path: Path, volume: Any, **storage: Any) -> None:
    """EMAN2's layout; ``storage`` as h5py's ``create_dataset`` takes it."""
    with h5py.File(path, "w") as file:
        group = file.create_group("MDF/images/0")
        group.attrs.update({f"EMAN.apix_{axis}": VOXEL_A for axis in "xyz"})
        data = {} if volume is None else {"data": volume}
        options = storage or {"chunks": (14, 18, 20), "compression": "gzip"}
        group.create_dataset("image", **data, **options)


def patched(content: bytes, offset: int, form: str, *values: float) -> bytes:
    packed = struct.pack(form, *values)
    return content[:offset] + packed + content[offset + len(packed) :]


def flipped(content: bytes, seed: int, *, within: slice = slice(None), count: int = 8) -> bytes:
    """Some bytes changed at random."""
    rng = np.random.default_rng(seed)
    spoilt = np.frombuffer(content, np.uint8).copy()
    part = spoilt[within]
    places = rng.integers(len(part), size=count)
    part[places] ^= rng.integers(1, 256, size=count).astype(np.uint8)
    return spoilt.tobytes()


def in_the_way(
    kind: str,
    good: str,
    read: Callable[[Bench, Path], Commands],
    *,
    place: str | None = None,
    empty: Expected = "refused",
) -> dict[str, Mutant]:
    """What may happen to a file of any format.

    Parameters
    ----------
    good
        The file's name; with ``place``, which names a file in it, a folder's.
    """
    inner = place or ""

    def spoil(change: Callable[[Path, bytes], object]) -> Callable[[Bench], Commands]:
        def make(bench: Bench) -> Commands:
            path = bench.copy(good)
            file = path / inner if inner else path
            content = file.read_bytes()
            file.unlink()
            change(file, content)
            return read(bench, path)

        return make

    def cut(fraction: float) -> Callable[[Path, bytes], object]:
        return lambda path, content: path.write_bytes(content[: int(len(content) * fraction)])

    noise = np.random.default_rng(5).bytes(5000)
    changes: dict[str, Callable[[Path, bytes], object]] = {
        "empty": lambda path, _: path.write_bytes(b""),
        "noise": lambda path, _: path.write_bytes(noise),
        "zeros": lambda path, _: path.write_bytes(bytes(5000)),
        "page of HTML": lambda path, _: path.write_text("<!DOCTYPE html><p>404</p>\n" * 99),
        "folder": lambda path, _: path.mkdir(),
        "pipe": lambda path, _: os.mkfifo(path),
        "device": lambda path, _: path.symlink_to("/dev/zero"),
        "link to itself": lambda path, _: path.symlink_to(path),
        "links in a circle": lambda path, _: (
            path.symlink_to(path.with_name("other")),
            path.with_name("other").symlink_to(path),
        ),
        "dangling link": lambda path, _: path.symlink_to("nowhere"),
        "cut to 1 %": cut(0.01),
        "cut to two fifths": cut(0.4),
    }
    label = f"{kind} {inner}" if inner else kind
    made = {f"{label}: {name}": Mutant(kind, spoil(change)) for name, change in changes.items()}
    made[f"{label}: empty"] = Mutant(kind, spoil(changes["empty"]), empty)
    return made


def named(kind: str, makes: Mapping[str, tuple[Any, ...]]) -> dict[str, Mutant]:
    """Mutants by the names of their ids, which begin with the format."""
    return {f"{kind}: {name}": Mutant(kind, *made) for name, made in makes.items()}


def deflated_zeros(size: int, wbits: int) -> bytes:
    """What unpacks to so many zeros; made from one piece, repeated, so that it takes no time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    piece = bytes(2**20)
    start = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush each piece is packed alike. The checksum at the end is never come to.
    return start + again * (size // len(piece))
