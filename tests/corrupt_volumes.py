"""Spoilt tomograms in one file: MRC, packed or not, EM and HDF5."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from corrupt_bench import (
    BOMB_BYTES,
    SHAPE,
    SIZE,
    Bench,
    Commands,
    Make,
    Mutant,
    Spoilt,
    deflated_zeros,
    flipped,
    in_the_way,
    named,
    patched,
    write_hdf,
)

# MRC


def mrc(offset: int, form: str, *values: float) -> Make:
    """A header in which something else stands."""

    def make(bench: Bench) -> Commands:
        return bench.pick(bench.file("t.mrc", patched(bench.bytes("t.mrc"), offset, form, *values)))

    return make


def mrc_bytes(change: Callable[[bytes], bytes], name: str = "t.mrc") -> Make:
    return lambda bench: bench.pick(bench.file(name, change(bench.bytes("t.mrc"))))


def voxels(value: float) -> Make:
    """All voxels alike, or all beyond numbers."""
    filling = np.full(SHAPE, value, "<f4").tobytes()
    return mrc_bytes(lambda content: content[:1024] + filling)


def voxel_sizes(x: float, y: float, z: float) -> Make:
    nz, ny, nx = SHAPE
    return mrc(40, "<3f", x * nx, y * ny, z * nz)


def swap_stamp(content: bytes) -> bytes:
    return patched(content, 212, "4B", 0x11, 0x11, 0, 0)


MRC_HEADERS: dict[str, Spoilt] = {
    "huge sides": (mrc(0, "<3i", 2**31 - 1, 2**31 - 1, 2**31 - 1), "refused"),
    "one huge side": (mrc(8, "<i", 2**30), "refused"),
    "negative sides": (mrc(0, "<3i", -40, -36, 28), "refused"),
    "no sections": (mrc(8, "<i", 0), "refused"),
    "one section less": (mrc(8, "<i", SHAPE[0] - 1), "refused"),
    "mode 3": (mrc(12, "<i", 3), "refused"),
    "mode 4": (mrc(12, "<i", 4), "refused"),
    "mode 1 of float voxels": (mrc(12, "<i", 1), "refused"),
    "mode 0 of float voxels": (mrc(12, "<i", 0), "refused"),
    "mode -1": (mrc(12, "<i", -1), "refused"),
    "mode 99": (mrc(12, "<i", 99), "refused"),
    "grid of zeros": (mrc(28, "<3i", 0, 0, 0), "refused"),
    "negative grid": (mrc(28, "<3i", -1, -1, -1), "refused"),
    "NaN voxel size": (voxel_sizes(np.nan, 10, 10), "refused"),
    "infinite voxel size": (voxel_sizes(np.inf, np.inf, np.inf), "refused"),
    "negative voxel size": (voxel_sizes(-10, -10, -10), "refused"),
    "voxels of 1e30 Å": (voxel_sizes(1e30, 1e30, 1e30), "refused"),
    "voxels of 1e-30 Å": (voxel_sizes(1e-30, 1e-30, 1e-30), "refused"),
    "voxels of 1e-3 Å": (voxel_sizes(1e-3, 1e-3, 1e-3), "refused"),
    "anisotropic voxels": (voxel_sizes(10, 10, 20), "refused"),
    "axes twice": (mrc(64, "<3i", 1, 1, 3), "refused"),
    "axes beyond": (mrc(64, "<3i", 7, 8, 9), "refused"),
    "axes turned": (mrc(64, "<3i", 3, 1, 2), "accepted"),
    "stack of volumes of 0 sections": (mrc(88, "<i", 401), "refused"),
    "extended header of 2 GB": (mrc(92, "<i", 2**31 - 1), "refused"),
    "extended header of −1024": (mrc(92, "<i", -1024), "refused"),
    "extended header that is not there": (mrc(92, "<i", 1024), "refused"),
    "space group 7000": (mrc(88, "<i", 7000), "accepted"),
    "IMOD's stamp of another order": (mrc(152, ">i", 1146047817), "accepted"),
    "NaN origin": (mrc(196, "<3f", np.nan, np.inf, -np.inf), "accepted"),
    "stamp of another order": (mrc_bytes(swap_stamp), "refused"),
    "stamp unknown": (mrc(212, "4B", 1, 2, 3, 4), "refused"),
    "no MAP": (mrc(208, "4B", 0, 0, 0, 0), "refused"),
    "labels of no text": (
        mrc_bytes(lambda c: c[:224] + b"\x1b[31m\xff" * 100 + c[824:]),
        "accepted",
    ),
    "all voxels equal": (voxels(3.0), "refused"),
    "all voxels NaN": (voxels(np.nan), "refused"),
    "all voxels infinite": (voxels(np.inf), "refused"),
    "voxels of 3e38": (voxels(3e38), "refused"),
    "one byte short": (mrc_bytes(lambda c: c[:-1]), "refused"),
    "header only": (mrc_bytes(lambda c: c[:1024]), "refused"),
    "half a header": (mrc_bytes(lambda c: c[:500]), "refused"),
    "other data behind": (mrc_bytes(lambda c: c + c), "refused"),
    "zeros behind": (mrc_bytes(lambda c: c + bytes(1000)), "accepted"),
    "name that is no UTF-8": (mrc_bytes(lambda c: c, "\udcff\udcfe.mrc"), "either"),
    "name of control characters": (mrc_bytes(lambda c: c[:500], "\x1b[31m\n\x07.mrc"), "refused"),
    "name with line ends": (mrc_bytes(lambda c: c, "a\nb\" 'c.mrc"), "either"),
    "NaN in some voxels": (
        mrc_bytes(lambda c: c[:9000] + np.full(100, np.nan, "<f4").tobytes() + c[9400:]),
        "either",
    ),
    "EM named mrc": (lambda b: b.pick(b.file("t.mrc", b.bytes("t.em"))), "refused"),
    "HDF5 named mrc": (lambda b: b.pick(b.file("t.mrc", b.bytes("t.hdf"))), "refused"),
    "packed but named mrc": (lambda b: b.pick(b.file("t.mrc", b.bytes("t.mrc.gz"))), "refused"),
    "MRC named star": (lambda b: b.pick(b.file("t.star", b.bytes("t.mrc"))), "accepted"),
}


def packed(change: Callable[[bytes], bytes]) -> Make:
    return lambda bench: bench.pick(bench.file("t.mrc.gz", change(bench.bytes("t.mrc.gz"))))


def packed_header(*sides: int, filling: int = 0) -> Make:
    """A packed header of these sides, and zeros behind it."""

    def make(bench: Bench) -> Commands:
        header = patched(bench.bytes("t.mrc")[:1024], 0, "<3i", *sides)
        content = gzip.compress(header, mtime=0) + gzip.compress(bytes(filling), 9, mtime=0)
        return bench.pick(bench.file("t.mrc.gz", content))

    return make


GZ: dict[str, Spoilt] = {
    "not packed": (lambda b: b.pick(b.file("t.mrc.gz", b.bytes("t.mrc"))), "refused"),
    "cut before its checksum": (packed(lambda c: c[:-8]), "refused"),
    "wrong checksum": (packed(lambda c: c[:-8] + bytes(8)), "refused"),
    "noise behind": (packed(lambda c: c + b"\x01noise" * 9), "refused"),
    "packed twice": (packed(lambda c: gzip.compress(c, 1, mtime=0)), "refused"),
    "bomb behind small sides": (packed_header(40, 36, 28, filling=50_000_000), "refused"),
    "huge sides": (packed_header(2**30, 2**30, 2**30), "refused"),
    "sides that could just be": (packed_header(300, 300, 1000, filling=400_000), "refused"),
    "flipped in the middle": (packed(lambda c: flipped(c, 3, within=slice(2000, 9000))), "refused"),
}


# EM


def em(offset: int, form: str, *values: float) -> Make:
    return lambda bench: bench.pick(
        bench.file("t.em", patched(bench.bytes("t.em"), offset, form, *values)), *SIZE
    )


def em_bytes(change: Callable[[bytes], bytes], name: str = "t.em") -> Make:
    return lambda bench: bench.pick(bench.file(name, change(bench.bytes("t.em"))), *SIZE)


EM: dict[str, Spoilt] = {
    "huge sides": (em(4, "<3i", 2**31 - 1, 2**31 - 1, 2**31 - 1), "refused"),
    "negative sides": (em(4, "<3i", -40, -36, 28), "refused"),
    "no rows": (em(8, "<i", 0), "refused"),
    "machine 200": (em(0, "B", 200), "refused"),
    "machine of another order": (em(0, "B", 3), "refused"),
    "type 0": (em(3, "B", 0), "refused"),
    "type 8, complex": (em(3, "B", 8), "refused"),
    "type 9 of float voxels": (em(3, "B", 9), "refused"),
    "type 1 of float voxels": (em(3, "B", 1), "refused"),
    "int32 of float voxels": (em(3, "B", 4), "accepted"),
    "one byte short": (em_bytes(lambda c: c[:-1]), "refused"),
    "one byte more": (em_bytes(lambda c: c + b"\0"), "refused"),
    "header only": (em_bytes(lambda c: c[:512]), "refused"),
    "packed, cut": (em_bytes(lambda c: gzip.compress(c, 1, mtime=0)[:-99], "t.em.gz"), "refused"),
    "packed bomb": (
        em_bytes(lambda c: gzip.compress(c[:512] + bytes(50_000_000), 9, mtime=0), "t.em.gz"),
        "refused",
    ),
    "MRC named em": (lambda b: b.pick(b.file("t.em", b.bytes("t.mrc")), *SIZE), "refused"),
    "voxel size unknown": (lambda b: b.pick(b.copy("t.em"))[:1], "refused"),
}

# HDF5


def hdf(change: Callable[[h5py.File], object], **storage: Any) -> Make:
    def make(bench: Bench) -> Commands:
        path = bench.copy("t.hdf")
        if storage:
            write_hdf(path, None, **storage)
        with h5py.File(path, "r+") as file:
            change(file)
        return bench.pick(path)

    return make


def no_change(_: h5py.File) -> None:
    pass


def image(file: h5py.File) -> Any:
    return file["MDF/images/0/image"]


def replaced(**storage: Any) -> Make:
    return hdf(no_change, **storage)


def attribute(name: str, value: Any) -> Make:
    return hdf(lambda file: file["MDF/images/0"].attrs.__setitem__(f"EMAN.{name}", value))


def linked(link: Any) -> Make:
    def change(file: h5py.File) -> None:
        del file["MDF/images/0/image"]
        file["MDF/images/0/image"] = link

    return hdf(change)


def hdf_chunks(content: Callable[[], bytes], *, side: int, chunk: int) -> Make:
    """A file whose chunks all hold these bytes, as they are."""

    def change(file: h5py.File) -> None:
        raw = content()
        for place in np.ndindex((side // chunk,) * 3):
            image(file).id.write_direct_chunk(tuple(chunk * n for n in place), raw)

    shape, chunks = (side,) * 3, (chunk,) * 3
    return hdf(change, shape=shape, chunks=chunks, dtype="<f4", compression="gzip")


def hdf_flips(seed: int, *, metadata: bool) -> Make:
    """Metadata lie between and before the chunks: the first kilobytes hold most of them."""
    within = slice(0, 4000) if metadata else slice(None)
    return lambda bench: bench.pick(
        bench.file("t.hdf", flipped(bench.bytes("t.hdf"), seed, within=within, count=4))
    )


HDF: dict[str, Spoilt] = {
    "no images": (hdf(lambda file: file.__delitem__("MDF/images/0")), "refused"),
    "no MDF": (hdf(lambda file: file.__delitem__("MDF")), "refused"),
    "image is a group": (
        hdf(lambda f: (f.__delitem__("MDF/images/0/image"), f.create_group("MDF/images/0/image"))),
        "refused",
    ),
    "2D": (replaced(shape=(40, 40), dtype="f4"), "refused"),
    "4D": (replaced(shape=(2, 4, 40, 40), dtype="f4"), "refused"),
    "scalar": (replaced(shape=(), dtype="f4"), "refused"),
    "no space": (hdf(no_change, shape=None, dtype="f4"), "refused"),
    "empty": (replaced(shape=(0, 4, 4), dtype="f4"), "refused"),
    "texts": (replaced(shape=(4, 4, 4), dtype="S8"), "refused"),
    "variable texts": (replaced(shape=(4, 4, 4), dtype=h5py.string_dtype()), "refused"),
    "complex": (replaced(shape=(40, 40, 40), dtype="c8"), "refused"),
    "compound": (replaced(shape=(40, 40, 40), dtype=[("a", "f4"), ("b", "i4")]), "refused"),
    "never written": (replaced(shape=(400, 400, 400), dtype="f4"), "refused"),
    "never written, chunks": (
        replaced(shape=(4000, 4000, 4000), chunks=(64, 64, 64), dtype="f4"),
        "refused",
    ),
    "huge chunks": (
        replaced(shape=(2000, 2000, 2000), chunks=(1000, 1000, 400), dtype="f4"),
        "refused",
    ),
    "huge sides": (
        replaced(shape=(2**20,) * 3, chunks=(64, 64, 64), dtype="f4"),
        "refused",
    ),
    "link to itself": (linked(h5py.SoftLink("/MDF/images/0/image")), "refused"),
    "link to another file": (linked(h5py.ExternalLink("/dev/zero", "/x")), "refused"),
    "link to the root": (linked(h5py.SoftLink("/")), "refused"),
    "voxel size NaN": (attribute("apix_x", np.nan), "refused"),
    "voxel size 1e30": (
        hdf(lambda f: f["MDF/images/0"].attrs.update({f"EMAN.apix_{a}": 1e30 for a in "xyz"})),
        "refused",
    ),
    "voxel size 1e-30": (
        hdf(lambda f: f["MDF/images/0"].attrs.update({f"EMAN.apix_{a}": 1e-30 for a in "xyz"})),
        "refused",
    ),
    "voxel size negative": (attribute("apix_x", -10.0), "refused"),
    "voxel size a text": (attribute("apix_y", "ten"), "refused"),
    "voxel size an array": (attribute("apix_y", np.ones(9)), "refused"),
    "anisotropic": (attribute("apix_z", 20.0), "refused"),
    "a Fourier transform": (attribute("is_complex", 1), "refused"),
    "bits -5": (attribute("stored_renderbits", -5), "refused"),
    "bits 1e9": (attribute("stored_renderbits", 10**9), "refused"),
    "bits NaN": (attribute("stored_renderbits", np.nan), "refused"),
    "two volumes": (
        hdf(lambda f: f.copy("MDF/images/0", "MDF/images/1")),
        "refused",
    ),
    "image 10^300": (
        hdf(lambda f: f.move("MDF/images/0", f"MDF/images/{'9' * 300}")),
        "accepted",
    ),
    "image of too many digits": (
        hdf(lambda f: f.move("MDF/images/0", f"MDF/images/{'9' * 9000}")),
        "refused",
    ),
    "chunks of noise": (
        hdf_chunks(lambda: np.random.default_rng(0).bytes(900), side=32, chunk=16),
        "refused",
    ),
    "chunks too short": (
        hdf_chunks(lambda: zlib.compress(bytes(100)), side=32, chunk=16),
        "refused",
    ),
    "chunks that are bombs": (
        hdf_chunks(lambda: deflated_zeros(BOMB_BYTES, 15), side=32, chunk=16),
        "refused",
    ),
    "a terabyte of honest zeros": (
        hdf_chunks(lambda: zlib.compress(bytes(4 * 128**3), 9), side=1024, chunk=128),
        "refused",
    ),
    "MRC named hdf": (lambda b: b.pick(b.file("t.hdf", b.bytes("t.mrc"))), "refused"),
    "other HDF5": (
        lambda b: b.pick(write_other_hdf(b.folder / "t.h5")),
        "refused",
    ),
    **{f"flips in metadata {n}": (hdf_flips(n, metadata=True), "either") for n in range(12)},
    **{f"flips {n}": (hdf_flips(n, metadata=False), "either") for n in range(8)},
}


def write_other_hdf(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["exchange/data"] = np.zeros((4, 4, 4))
    return path


VOLUMES: dict[str, Mutant] = {
    "good mrc": Mutant("MRC", lambda b: b.pick(b.copy("t.mrc")), "accepted"),
    "good gz": Mutant("MRC.gz", lambda b: b.pick(b.copy("t.mrc.gz")), "accepted"),
    "good em": Mutant("EM", lambda b: b.pick(b.copy("t.em"), *SIZE), "accepted"),
    "good hdf": Mutant("HDF5", lambda b: b.pick(b.copy("t.hdf")), "accepted"),
    **in_the_way("MRC", "t.mrc", Bench.pick),
    **in_the_way("MRC.gz", "t.mrc.gz", Bench.pick),
    **in_the_way("EM", "t.em", lambda b, p: b.pick(p, *SIZE)),
    **in_the_way("HDF5", "t.hdf", Bench.pick),
    **named("MRC", MRC_HEADERS),
    **{
        f"MRC: flips in header {n}": Mutant(
            "MRC", mrc_bytes(lambda c, n=n: flipped(c, n, within=slice(0, 224), count=3)), "either"
        )
        for n in range(20)
    },
    **named("MRC.gz", GZ),
    **named("EM", EM),
    **{
        f"EM: flips in header {n}": Mutant(
            "EM", em_bytes(lambda c, n=n: flipped(c, n, within=slice(0, 16), count=1)), "either"
        )
        for n in range(10)
    },
    **named("HDF5", HDF),
}
