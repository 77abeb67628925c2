"""Spoilt folders and archives: OME-Zarr, NumPy's files, and extracted particles."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from corrupt_bench import (
    BOMB_BYTES,
    BOX,
    SIZE,
    Bench,
    Commands,
    Make,
    Mutant,
    Spoilt,
    cubes,
    deflated_zeros,
    flipped,
    in_the_way,
    named,
    patched,
)


def zarr(change: Callable[[Path], object]) -> Make:
    def make(bench: Bench) -> Commands:
        path = bench.copy("t.zarr")
        change(path)
        return bench.pick(path)

    return make


def edited(name: str, change: Callable[[Any], object]) -> Make:
    """JSON of a store with something else in it."""

    def edit(path: Path) -> None:
        content = json.loads((path / name).read_text())
        change(content)
        (path / name).write_text(json.dumps(content))

    return zarr(edit)


def attributes(change: Callable[[Any], object]) -> Make:
    return edited(".zattrs", lambda content: change(content["multiscales"][0]))


def array(**values: Any) -> Make:
    return edited("0/.zarray", lambda content: content.update(values))


def metadata(name: str, text: str | bytes) -> Make:
    content = text if isinstance(text, bytes) else text.encode()
    return zarr(lambda path: (path / name).write_bytes(content))


CHUNK = "0/0/0/0"


def chunk(content: Callable[[bytes], bytes], **codec: Any) -> Make:
    """The store's one chunk with these bytes, or these unpacked by another codec."""

    def change(path: Path) -> None:
        (path / CHUNK).write_bytes(content((path / CHUNK).read_bytes()))
        if codec:
            about = json.loads((path / "0/.zarray").read_text())
            (path / "0/.zarray").write_text(json.dumps(about | {"compressor": codec}))

    return zarr(change)


def in_place_of_chunk(change: Callable[[Path], object]) -> Make:
    return zarr(lambda path: ((path / CHUNK).unlink(), change(path / CHUNK)))


def scale(*values: Any) -> Callable[[Any], object]:
    def change(content: Any) -> None:
        content["datasets"][0]["coordinateTransformations"][0]["scale"] = list(values)

    return change


ZSTD_BOMB = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", BOMB_BYTES)
"""The header of a frame that announces what no chunk holds."""


def zstd_zeros(size: int, *, announced: bool) -> bytes:
    """A frame of runs of zeros, which takes four bytes for each 128 kB (RFC 8878)."""
    descriptor, rest = (
        (b"\xc0", b"\x58" + struct.pack("<Q", size)) if announced else (b"\x00", b"\x58")
    )
    runs = size // 2**17
    block = struct.pack("<I", 2**17 << 3 | 1 << 1)[:3] + b"\0"
    last = struct.pack("<I", 2**17 << 3 | 1 << 1 | 1)[:3] + b"\0"
    return b"\x28\xb5\x2f\xfd" + descriptor + rest + block * (runs - 1) + last


def blosc(size: int) -> bytes:
    """A header that announces so many bytes (all of them one repeated value where it can)."""
    return struct.pack("<BBBBiii", 2, 1, 0x91, 4, size, 2**18, 16 + 9) + bytes(9)


ZARR: dict[str, Spoilt] = {
    "no .zattrs": (zarr(lambda p: (p / ".zattrs").unlink()), "refused"),
    "no .zgroup": (zarr(lambda p: (p / ".zgroup").unlink()), "refused"),
    "no level": (zarr(lambda p: shutil.rmtree(p / "0")), "refused"),
    "no .zarray": (zarr(lambda p: (p / "0/.zarray").unlink()), "refused"),
    "no chunk": (zarr(lambda p: (p / CHUNK).unlink()), "refused"),
    ".zattrs is no JSON": (metadata(".zattrs", "{"), "refused"),
    ".zattrs is a list": (metadata(".zattrs", "[]"), "refused"),
    ".zattrs is no text": (metadata(".zattrs", b"\xff\xfe{}"), "refused"),
    ".zattrs nested deep": (metadata(".zattrs", '{"a":' * 20000 + "1" + "}" * 20000), "refused"),
    ".zattrs empty": (metadata(".zattrs", ""), "refused"),
    ".zattrs of 20 MB": (metadata(".zattrs", '{"a": "' + "x" * 20_000_000 + '"}'), "refused"),
    ".zarray is no JSON": (metadata("0/.zarray", "zarr"), "refused"),
    ".zarray nested deep": (metadata("0/.zarray", "[" * 50000), "refused"),
    "no multiscales": (metadata(".zattrs", '{"multiscales": []}'), "refused"),
    "no datasets": (attributes(lambda c: c.update(datasets=[])), "refused"),
    "axes of time": (attributes(lambda c: c["axes"][0].update(name="t")), "refused"),
    "axes twice": (attributes(lambda c: c["axes"][0].update(name="x")), "refused"),
    "four axes": (attributes(lambda c: c["axes"].append({"name": "c"})), "refused"),
    "level outside": (attributes(lambda c: c["datasets"][0].update(path="../../t.mrc")), "refused"),
    "level absolute": (attributes(lambda c: c["datasets"][0].update(path="/etc")), "refused"),
    "level with zero byte": (attributes(lambda c: c["datasets"][0].update(path="0\0")), "refused"),
    "level named long": (attributes(lambda c: c["datasets"][0].update(path="x" * 999)), "refused"),
    "scale NaN": (attributes(scale(float("nan"), 10, 10)), "refused"),
    "scale infinite": (attributes(scale(*[float("inf")] * 3)), "refused"),
    "scale negative": (attributes(scale(-10, -10, -10)), "refused"),
    "scale 1e30": (attributes(scale(1e30, 1e30, 1e30)), "refused"),
    "scale 1e-30": (attributes(scale(1e-30, 1e-30, 1e-30)), "refused"),
    "scale of two": (attributes(scale(10, 10)), "refused"),
    "scale of texts": (attributes(scale("a", "b", "c")), "refused"),
    "unit unknown": (attributes(lambda c: c["axes"][1].update(unit="parsec")), "refused"),
    "huge shape": (array(shape=[2**40, 2**40, 2**40]), "refused"),
    "larger shape": (array(shape=[2048, 2048, 2048]), "refused"),
    "negative shape": (array(shape=[-28, 36, 40]), "refused"),
    "shape of texts": (array(shape=["a", 36, 40]), "refused"),
    "shape of two": (array(shape=[36, 40]), "refused"),
    "shape of fractions": (array(shape=[27.5, 36, 40]), "refused"),
    "no chunks": (array(chunks=[0, 0, 0]), "refused"),
    "huge chunks": (array(chunks=[2**20, 2**20, 2**20]), "refused"),
    "small chunks": (array(chunks=[1, 1, 1]), "refused"),
    "dtype of objects": (array(dtype="|O", filters=[{"id": "pickle"}]), "refused"),
    "dtype of texts": (array(dtype="<U9"), "refused"),
    "dtype unknown": (array(dtype="<q17"), "refused"),
    "dtype complex": (array(dtype="<c8"), "refused"),
    "dtype of 8 bytes": (array(dtype="<f8"), "refused"),
    "filter that unpickles": (array(filters=[{"id": "pickle"}]), "refused"),
    "filter unknown": (array(filters=[{"id": "no-such"}]), "refused"),
    "compressor unknown": (array(compressor={"id": "no-such"}), "refused"),
    "compressor another": (array(compressor={"id": "gzip", "level": 1}), "refused"),
    "order unknown": (array(order="Q"), "refused"),
    "format 99": (array(zarr_format=99), "refused"),
    "chunk empty": (chunk(lambda _: b""), "refused"),
    "chunk cut": (chunk(lambda c: c[: len(c) // 2]), "refused"),
    "chunk of noise": (chunk(lambda c: np.random.default_rng(1).bytes(len(c))), "refused"),
    "chunk too short": (chunk(lambda _: gzip.compress(bytes(99)), id="gzip", level=1), "refused"),
    "chunk a gzip bomb": (
        chunk(lambda _: gzip_bomb(), id="gzip", level=1),
        "refused",
    ),
    "chunk a zlib bomb": (
        chunk(lambda _: deflated_zeros(BOMB_BYTES, 15), id="zlib", level=1),
        "refused",
    ),
    "chunk a zstd bomb": (
        chunk(lambda _: zstd_zeros(BOMB_BYTES, announced=True), id="zstd", level=1),
        "refused",
    ),
    "chunk a zstd bomb of unknown length": (
        chunk(lambda _: zstd_zeros(BOMB_BYTES, announced=False), id="zstd", level=1),
        "refused",
    ),
    "chunk announces 2 GB (blosc)": (chunk(lambda _: blosc(2**31 - 1)), "refused"),
    "chunk announces 600 MB (blosc)": (chunk(lambda _: blosc(600_000_000)), "refused"),
    "chunk announces 2 GB (lz4)": (
        chunk(lambda _: struct.pack("<i", 2**31 - 1) + bytes(999), id="lz4", acceleration=1),
        "refused",
    ),
    "chunk of 50 MB": (chunk(lambda _: bytes(50_000_000)), "refused"),
    "chunk a folder": (in_place_of_chunk(lambda p: p.mkdir()), "refused"),
    "chunk a pipe": (in_place_of_chunk(os.mkfifo), "refused"),
    "chunk linked out": (in_place_of_chunk(lambda p: p.symlink_to("/etc/hostname")), "refused"),
    "chunk linked to itself": (in_place_of_chunk(lambda p: p.symlink_to(p)), "refused"),
    "store linked to itself": (
        lambda b: b.pick(linked_to_itself(b.folder / "t.zarr")),
        "refused",
    ),
    "level linked to the store": (
        zarr(lambda p: (shutil.rmtree(p / "0"), (p / "0").symlink_to(p))),
        "refused",
    ),
    "an MRC file": (lambda b: b.pick(b.file("t.zarr", b.bytes("t.mrc"))), "accepted"),
    "an EM file": (lambda b: b.pick(b.file("t.zarr", b.bytes("t.em"))), "refused"),
    "an empty folder": (lambda b: b.pick(folder(b.folder / "t.zarr")), "refused"),
    **{f"flips in chunk {n}": (chunk(lambda c, n=n: flipped(c, n)), "either") for n in range(6)},
    **{
        f"flips in .zarray {n}": (zarr(lambda p, n=n: flip(p / "0/.zarray", n)), "either")
        for n in range(6)
    },
    **{
        f"flips in .zattrs {n}": (zarr(lambda p, n=n: flip(p / ".zattrs", n)), "either")
        for n in range(6)
    },
}


def gzip_bomb() -> bytes:
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + deflated_zeros(BOMB_BYTES, -15)


def flip(path: Path, seed: int) -> None:
    path.write_bytes(flipped(path.read_bytes(), seed, count=2))


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def linked_to_itself(path: Path) -> Path:
    path.symlink_to(path)
    return path


# NumPy's files


def npy(header: str | bytes, *, version: bytes = b"\x01\x00", data: int = 1000) -> Make:
    """A file with this header."""
    text = header if isinstance(header, bytes) else header.encode()
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))

    def make(bench: Bench) -> Commands:
        content = b"\x93NUMPY" + version + length + text + bytes(data)
        return bench.predict(bench.file("x.npy", content), *SIZE)

    return make


def described(shape: str, dtype: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def npz(change: Callable[[bytes], bytes]) -> Make:
    return lambda bench: bench.predict(bench.file("x.npz", change(bench.bytes("x.npz"))), *SIZE)


def archive(size: int, shape: str) -> bytes:
    """An archive whose array unpacks to so many zeros; they are not packed one by one."""
    text = described(shape).encode()
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    packed += deflated_zeros(size - 2**20, -zlib.MAX_WBITS) + b"\x03\x00"  # an empty last block
    pieces = size // 2**20
    checksum, piece = zlib.crc32(head), bytes(2**20)
    for _ in range(pieces):
        checksum = zlib.crc32(piece, checksum)
    name = b"cubes.npy"
    said = struct.pack("<3I", checksum, len(packed), len(head) + pieces * 2**20)
    said += struct.pack("<2H", len(name), 0)
    local = struct.pack("<4s5H", b"PK\x03\x04", 20, 0, 8, 0, 33) + said + name
    central = struct.pack("<4s6H", b"PK\x01\x02", 20, 20, 0, 8, 0, 33) + said + bytes(14) + name
    places = struct.pack("<2I", len(central), len(local) + len(packed))
    end = struct.pack("<4s4H", b"PK\x05\x06", 0, 0, 1, 1) + places + bytes(2)
    return local + packed + central + end


def marked(content: bytes, offset: int, form: str, value: int) -> bytes:
    """An archive whose first member's headers (its own and the central one) say something else."""
    start = content.index(b"PK\x03\x04")
    central = content.index(b"PK\x01\x02")
    content = patched(content, start + offset, form, value)
    return patched(content, central + offset + 2, form, value)


NUMPY: dict[str, Spoilt] = {
    "npy: huge shape": (npy(described(f"({2**40}, 24, 24, 24)")), "refused"),
    "npy: beyond all numbers": (npy(described(f"({10**40}, 24, 24, 24)")), "refused"),
    "npy: negative shape": (npy(described("(-3, 24, 24, 24)")), "refused"),
    "npy: shape of texts": (npy(described("('a', 24, 24, 24)")), "refused"),
    "npy: no shape": (npy("{'descr': '<f4', 'fortran_order': False}\n"), "refused"),
    "npy: code in the header": (npy("__import__('os').getpid()\n"), "refused"),
    "npy: header nested deep": (npy("(" * 5000 + ")" * 5000), "refused"),
    "npy: header of brackets": (npy("[" * 9000), "refused"),
    "npy: header of minus signs": (npy("-" * 9000 + "1"), "refused"),
    "npy: header of 4 GB": (npy("x", version=b"\x02\x00"), "refused"),
    "npy: header no text": (npy(b"\xff" * 99, version=b"\x03\x00"), "refused"),
    "npy: version 9": (npy(described("(1, 9, 9, 9)"), version=b"\x09\x00"), "refused"),
    "npy: dtype unknown": (npy(described("(1, 24, 24, 24)", "'<q9'")), "refused"),
    "npy: dtype of texts": (npy(described("(1, 2, 2, 2)", "'<U4'")), "refused"),
    "npy: dtype of fields": (npy(described("(1, 2, 2, 2)", "[('a', '<f4')]")), "refused"),
    "npy: dtype of times": (npy(described("(1, 2, 2, 2)", "'<M8[s]'")), "refused"),
    "npy: zero bytes an element": (npy(described("(9, 24, 24, 24)", "'|V0'")), "refused"),
    "npy: columns first": (
        npy(described("(1, 4, 4, 4)", order="True")),
        "refused",  # all voxels are equal
    ),
    "npz: wrong checksum": (npz(lambda c: marked(c, 14, "<I", 1)), "refused"),
    "npz: encrypted": (npz(lambda c: marked(c, 6, "<H", 1)), "refused"),
    "npz: packed in an unknown way": (npz(lambda c: marked(c, 8, "<H", 97)), "refused"),
    "npz: packed by bzip2, it says": (npz(lambda c: marked(c, 8, "<H", 12)), "refused"),
    "npz: no end": (npz(lambda c: c[:-30]), "refused"),
    "npz: bomb": (
        npz(lambda _: archive(1_400_000_000, f"(20000, {BOX}, {BOX}, {BOX})")),
        "refused",
    ),
    "npz: bomb of another shape": (
        npz(lambda _: archive(1_400_000_000, "(300000000,)")),
        "refused",
    ),
    "npz: huge shape": (npz(lambda _: archive(2**20, f"({2**40}, 24, 24, 24)")), "refused"),
    "npz: huge shape in columns": (
        npz(lambda _: archive(2**20, f"({2**31}, 24, 24, 24)")),
        "refused",
    ),
    "npz: a text in it": (npz(lambda _: zipped("readme.txt", b"hello")), "refused"),
    "npz: nothing in it": (npz(lambda _: zipped("", b"")), "refused"),
    **{f"npz: flips {n}": (npz(lambda c, n=n: flipped(c, n, count=3)), "either") for n in range(8)},
    **{
        f"npz: flips in directory {n}": (
            npz(lambda c, n=n: flipped(c, n, count=3, within=slice(-200, None))),
            "either",
        )
        for n in range(6)
    },
}


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        if name:
            made.writestr(name, content)
    return buffer.getvalue()


# Folders of extracted particles


def card(**values: Any) -> Make:
    def make(bench: Bench) -> Commands:
        path = bench.copy("x")
        content = json.loads((path / "extracted.json").read_text())
        (path / "extracted.json").write_text(json.dumps(content | values))
        return bench.predict(path)

    return make


def card_text(text: str | bytes) -> Make:
    def make(bench: Bench) -> Commands:
        path = bench.copy("x")
        content = text if isinstance(text, bytes) else text.encode()
        (path / "extracted.json").write_bytes(content)
        return bench.predict(path)

    return make


def in_folder(change: Callable[[Path], object]) -> Make:
    def make(bench: Bench) -> Commands:
        path = bench.copy("x")
        change(path)
        return bench.predict(path)

    return make


def with_cubes(values: Any) -> Make:
    return in_folder(lambda p: np.save(p / "subtomograms.npy", values))


EXTRACTED: dict[str, Spoilt] = {
    "count more": (card(count=4), "refused"),
    "count 0": (card(count=0), "refused"),
    "count 1e300": (card(count=10**300), "refused"),
    "count a fraction": (card(count=2.5), "refused"),
    "box another": (card(box=23), "refused"),
    "voxel size infinite": (card(voxel_size_A=float("inf")), "refused"),
    "voxel size NaN": (card(voxel_size_A=float("nan")), "refused"),
    "voxel size 1e30": (card(voxel_size_A=1e30), "refused"),
    "format another": (card(format="tomadapt-extracted-99"), "refused"),
    "key unknown": (card(colour="red"), "refused"),
    "acquisition a text": (card(acquisition="batch_b"), "refused"),
    "no JSON": (card_text("{"), "refused"),
    "a list": (card_text("[1, 2]"), "refused"),
    "no text": (card_text(b"\xff\xfe{}"), "refused"),
    "nested deep": (card_text('{"a":' * 90000), "refused"),
    "digits": (card_text('{"count": ' + "9" * 9000 + "}"), "refused"),
    "no cubes": (in_folder(lambda p: (p / "subtomograms.npy").unlink()), "refused"),
    "NaN": (with_cubes(cubes() * np.nan), "refused"),
    "texts": (with_cubes(np.full((3, BOX, BOX, BOX), "a")), "refused"),
    "complex": (with_cubes(cubes().astype("c8")), "refused"),
    "objects": (
        in_folder(lambda p: np.save(p / "subtomograms.npy", np.array([{}], object))),
        "refused",
    ),
    "zipped cubes": (
        in_folder(lambda p: shutil.copy(p.parents[1] / "good/x.npz", p / "subtomograms.npy")),
        "refused",
    ),
    "float64": (with_cubes(cubes().astype("f8")), "accepted"),
    "lists are gone": (in_folder(lambda p: (p / "particles.star").unlink()), "accepted"),
}


def _npy_flips(seed: int) -> Make:
    return lambda b: b.predict(
        b.file("x.npy", flipped(b.bytes("x.npy"), seed, within=slice(0, 128), count=2)), *SIZE
    )


STORES: dict[str, Mutant] = {
    "good zarr": Mutant("OME-Zarr", lambda b: b.pick(b.copy("t.zarr")), "accepted"),
    "good npy": Mutant("NumPy", lambda b: b.predict(b.copy("x.npy"), *SIZE), "accepted"),
    "good npz": Mutant("NumPy", lambda b: b.predict(b.copy("x.npz"), *SIZE), "accepted"),
    "good extracted": Mutant("extracted", lambda b: b.predict(b.copy("x")), "accepted"),
    **in_the_way("OME-Zarr", "t.zarr", Bench.pick, place=".zattrs"),
    **in_the_way("OME-Zarr", "t.zarr", Bench.pick, place="0/.zarray"),
    **in_the_way("OME-Zarr", "t.zarr", Bench.pick, place=CHUNK),
    **in_the_way("npy", "x.npy", lambda b, p: b.predict(p, *SIZE)),
    **in_the_way("npz", "x.npz", lambda b, p: b.predict(p, *SIZE)),
    **in_the_way("extracted", "x", Bench.predict, place="extracted.json"),
    **in_the_way("extracted", "x", Bench.predict, place="subtomograms.npy"),
    **named("OME-Zarr", ZARR),
    **named("NumPy", NUMPY),
    **{f"npy: flips in header {n}": Mutant("NumPy", _npy_flips(n), "either") for n in range(10)},
    **named("extracted", EXTRACTED),
}
