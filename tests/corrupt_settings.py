"""Spoilt configurations and models."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from corrupt_bench import (
    RUN,
    SIMULATION,
    Bench,
    Commands,
    Make,
    Mutant,
    Spoilt,
    flipped,
    in_the_way,
    named,
)


def config(old: str, new: str | Callable[[], str]) -> Make:
    assert old in SIMULATION
    return lambda b: b.simulate(
        b.file("s.toml", SIMULATION.replace(old, new() if callable(new) else new, 1))
    )


def config_with(content: str | bytes | Callable[[], str]) -> Make:
    return lambda b: b.simulate(b.file("s.toml", content() if callable(content) else content))


def run_with(old: str, new: str) -> Make:
    assert old in RUN
    return lambda b: b.run(b.file("r.toml", RUN.replace(old, new, 1)))


def structure(change: Callable[[Any], object], name: str = "a.pdb") -> Make:
    """A configuration that names a structure file, which is something else."""

    def make(bench: Bench) -> Commands:
        change(bench.folder / name)
        text = SIMULATION.replace('"apoferritin"', f'"./{name}"')
        return bench.simulate(bench.file("s.toml", text))[:1]

    return make


def run_target(change: Callable[[Any], object], name: str = "target.npy") -> Make:
    def make(bench: Bench) -> Commands:
        change(bench.folder / name)
        return bench.run(bench.file("r.toml", RUN.replace("target.npy", name)))[:1]

    return make


TOMLS: dict[str, Spoilt] = {
    "arrays nested deep": (config('"batch_b"', "[" * 50_000 + "]" * 50_000), "refused"),
    "arrays nested deep, open": (config_with("a = " + "[" * 100_000), "refused"),
    "tables nested deep": (config('"batch_b"', "{a=" * 5000 + "1" + "}" * 5000), "refused"),
    "keys of 9 000 dots": (config_with("a." * 9000 + "a = 1\n"), "refused"),
    "headers of 9 000 dots": (config_with("[" + "a." * 9000 + "a]\n"), "refused"),
    "dotted key of 900 dots": (
        config_with(SIMULATION + "acquisitions." + "a." * 900 + "a=1\n"),
        "refused",
    ),
    "path nested in tables": (config_with("a." * 900 + 'path = "x"\n'), "refused"),
    "zero byte": (config("0.5", "0.5\0"), "refused"),
    "zero byte in a path": (config('"apoferritin"', '"./a\\u0000.pdb"'), "refused"),
    "no UTF-8": (config_with(SIMULATION.encode() + b"# \xff\n"), "refused"),
    "UTF-16": (config_with(SIMULATION.encode("utf-16")), "refused"),
    "integer of 9 000 digits": (config("per_class = 2", "per_class = " + "9" * 9000), "refused"),
    "integer of 300 digits": (config("per_class = 2", "per_class = " + "9" * 300), "refused"),
    "float 1e999": (config("0.5", "1e999"), "refused"),
    "float NaN for a count": (config("per_class = 2", "per_class = nan"), "refused"),
    "box 2⁶³": (config("box = 24", f"box = {2**63}"), "refused"),
    "key twice": (config_with(SIMULATION + "box = 24\n"), "refused"),
    "key of control characters": (config_with(SIMULATION + '"\\u001b[31m" = 1\n'), "refused"),
    "value of control characters": (config('"batch_b"', '"\\u001b[31m\\n\\u0007"'), "refused"),
    "value of 5 MB": (config('"batch_b"', lambda: f'"{"x" * 5_000_000}"'), "refused"),
    "20 000 classes": (
        config('["apoferritin", "null"]', lambda: str([f"a{n}" for n in range(20_000)])),
        "refused",
        False,
    ),
    "20 MB": (config_with(lambda: SIMULATION + "# " + "x" * 20_000_000), "refused"),
    "tilts a million": (
        config(
            '"batch_b"',
            "{ defocus_um = 5.0, tilt_angles_deg = { first = -60, last = 60, step = 1e-9 } }",
        ),
        "refused",
    ),
    "tilts NaN": (
        config(
            '"batch_b"',
            "{ defocus_um = 5.0, tilt_angles_deg = { first = nan, last = 60, step = 3 } }",
        ),
        "refused",
    ),
    "tilts by step 0": (
        config(
            '"batch_b"',
            "{ defocus_um = 5.0, tilt_angles_deg = { first = -60, last = 60, step = 0 } }",
        ),
        "refused",
    ),
    "tilts 1e300": (
        config(
            '"batch_b"',
            "{ defocus_um = 5.0, tilt_angles_deg = { first = -1e300, last = 1e300, step = 1 } }",
        ),
        "refused",
    ),
    "date for a number": (config("0.5", "1979-05-27T07:32:00Z"), "refused"),
    "folder a device": (
        config_with('folder = "/dev/null"\n' + SIMULATION.replace("apoferritin", "1abc")),
        "refused",
        False,
    ),
    "structure a pipe": (structure(os.mkfifo), "refused"),
    "structure a folder": (structure(lambda p: p.mkdir()), "refused"),
    "structure linked to itself": (structure(lambda p: p.symlink_to(p)), "refused"),
    "structure a device": (structure(lambda p: p.symlink_to("/dev/zero")), "refused"),
    "structure of noise": (
        structure(lambda p: p.write_bytes(np.random.default_rng(0).bytes(9000))),
        "refused",
    ),
    "structure a map of noise": (
        structure(lambda p: p.write_bytes(np.random.default_rng(0).bytes(9000)), "a.mrc"),
        "refused",
    ),
    "structure a map in a pipe": (structure(os.mkfifo, "a.mrc"), "refused"),
    "run: section a number": (run_with("[source]", "[[source]]"), "refused"),
    "run: target a pipe": (run_target(os.mkfifo), "refused"),
    "run: target an archive in a pipe": (run_target(os.mkfifo, "target.npz"), "refused"),
    "run: target linked to itself": (run_target(lambda p: p.symlink_to(p)), "refused"),
    "run: target is not there": (run_with("target.npy", "gone.npy"), "refused"),
    "run: target named long": (run_with("target.npy", "t" * 5000 + ".npy"), "refused"),
    "run: target with a zero byte": (run_with("target.npy", "t\\u0000.npy"), "refused"),
}


def model_bytes(change: Callable[[bytes], bytes]) -> Make:
    return lambda b: b.by_model(b.file("m.safetensors", change(b.bytes("m.safetensors"))))


def with_header(change: Callable[[dict[str, Any]], object]) -> Make:
    """A model whose header, in JSON, says something else."""

    def spoil(content: bytes) -> bytes:
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return model_bytes(spoil)


def model_card(**values: Any) -> Make:
    def change(header: dict[str, Any]) -> None:
        fields = json.loads(header["__metadata__"]["tomadapt"]) | values
        header["__metadata__"]["tomadapt"] = json.dumps(fields)

    return with_header(change)


def card_text(text: str) -> Make:
    return with_header(lambda header: header["__metadata__"].update(tomadapt=text))


def tensor(**values: Any) -> Make:
    return with_header(lambda header: header["classifier.weight"].update(values))


def nan_weights(content: bytes) -> bytes:
    return content[:-4000] + np.full(1000, np.nan, "<f4").tobytes()


MODELS: dict[str, Spoilt] = {
    "header of 2⁶³ bytes": (model_bytes(lambda c: struct.pack("<Q", 2**63) + c[8:]), "refused"),
    "header longer than the file": (
        model_bytes(lambda c: struct.pack("<Q", len(c)) + c[8:]),
        "refused",
    ),
    "header of 0 bytes": (model_bytes(lambda c: bytes(8) + c[8:]), "refused"),
    "header no JSON": (model_bytes(lambda c: c[:8] + b"x" + c[9:]), "refused"),
    "one byte short": (model_bytes(lambda c: c[:-1]), "refused"),
    "one byte more": (model_bytes(lambda c: c + b"\0"), "refused"),
    "tensor of huge shape": (tensor(shape=[2**40, 128]), "refused"),
    "tensor of negative shape": (tensor(shape=[-2, 128]), "refused"),
    "tensor turned": (tensor(shape=[128, 2]), "refused"),
    "tensor of another type": (tensor(dtype="I32"), "refused"),
    "tensor of an unknown type": (tensor(dtype="F33"), "refused"),
    "tensors one on the other": (tensor(data_offsets=[0, 1024]), "refused"),
    "tensors left out": (with_header(lambda h: h.pop("classifier.bias")), "refused"),
    "card nested deep": (card_text('{"a":' * 100_000), "refused"),
    "card a number": (card_text("5"), "refused"),
    "card a list of pairs": (card_text('[["format", "tomadapt-model-1"]]'), "refused"),
    "card empty": (card_text(""), "refused"),
    "box 10⁶": (model_card(box=10**6), "refused"),
    "box 0": (model_card(box=0), "refused"),
    "box negative": (model_card(box=-24), "refused"),
    "box 10³⁰⁰": (model_card(box=10**300), "refused"),
    "voxel size NaN": (model_card(voxel_size_A=float("nan")), "refused"),
    "voxel size infinite": (model_card(voxel_size_A=float("inf")), "refused"),
    "voxel size 0": (model_card(voxel_size_A=0), "refused"),
    "network unknown": (model_card(network="transformer"), "refused"),
    "network another": (model_card(network="paper"), "refused"),
    "no classes": (model_card(class_names=[]), "refused"),
    "a million classes": (model_card(class_names=["a"] * 1_000_000), "refused"),
    "classes twice": (model_card(class_names=["a", "a"]), "refused"),
    "classes of line ends": (model_card(class_names=["a\n\x1b[31m", 'b,"']), "accepted"),
    "classes of lone surrogates": (model_card(class_names=["\ud800", "b"]), "either"),
    "acquisition of texts": (model_card(acquisition={"defocus_um": "much"}), "refused"),
    "training a list": (model_card(training=[1]), "refused"),
    "weights NaN": (model_bytes(nan_weights), "refused"),
    **{
        f"flips in header {n}": (
            model_bytes(lambda c, n=n: flipped(c, n, within=slice(0, 2500), count=2)),
            "either",
        )
        for n in range(12)
    },
}


def classified(name: str) -> Make:
    """``classify`` reads tomograms and lists by the readers of ``pick`` and ``extract``."""

    def make(bench: Bench) -> Commands:
        tomogram = bench.good / "t.mrc"
        path = bench.folder / name
        os.mkfifo(path)
        files = [tomogram, "--particles", path] if name.endswith(".star") else [path]
        options = ["--structures", "apoferritin,null", "--defocus", 5, "--tilt-range", -60, 60]
        return [["classify", *files, *options, "--out", "OUT/c"]]

    return make


def classified_cut(bench: Bench) -> Commands:
    path = bench.file("t.mrc", bench.bytes("t.mrc")[:-9])
    options = ["--structures", "apoferritin,null", "--defocus", 5, "--tilt-range", -60, 60]
    return [["classify", path, *options, "--out", "OUT/c"]]


SETTINGS: dict[str, Mutant] = {
    "good toml": Mutant("TOML", lambda b: b.simulate(b.copy("s.toml")), "accepted"),
    "good model": Mutant("model", lambda b: b.by_model(b.copy("m.safetensors")), "accepted"),
    **in_the_way("TOML", "s.toml", Bench.simulate),
    **in_the_way("model", "m.safetensors", Bench.by_model),
    **named("TOML", TOMLS),
    **named("model", MODELS),
    "classify: tomogram a pipe": Mutant("MRC", classified("t.mrc")),
    "classify: tomogram cut": Mutant("MRC", classified_cut),
    "classify: list a pipe": Mutant("STAR", classified("l.star")),
}
