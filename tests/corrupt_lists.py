"""Spoilt lists of particles: STAR, CSV, Dynamo tables and copick picks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from corrupt_bench import (
    COPICK,
    CSV,
    DYNAMO,
    STAR,
    Bench,
    Commands,
    Make,
    Mutant,
    Spoilt,
    flipped,
    in_the_way,
    named,
)


def text_of(name: str, content: str | bytes | Callable[[], str]) -> Make:
    """A list with this content."""
    return lambda bench: bench.extract(
        bench.file(name, content() if callable(content) else content)
    )


def star(old: str, new: str) -> Make:
    assert old in STAR
    return text_of("l.star", STAR.replace(old, new, 1))


def star_with(content: str | bytes | Callable[[], str]) -> Make:
    return text_of("l.star", content)


def sets(*, particles: str, more: str = "", **files: str) -> Make:
    """An optimisation set that names these particles."""
    text = f"data_\n_rlnTomoParticlesFile {particles}\n{more}"

    def make(bench: Bench) -> Commands:
        for name, content in files.items():
            bench.file(f"{name}.star", content)
        return bench.extract(bench.file("set.star", text))

    return make


def piped_set(bench: Bench) -> Commands:
    os.mkfifo(bench.folder / "p.star")
    return sets(particles="p.star")(bench)


CENTRED = "data_particles\nloop_\n_rlnTomoName\n" + "".join(
    f"_rlnCenteredCoordinate{axis}Angst\n" for axis in "XYZ"
)
HEAD, ROW = STAR.split("t 12.0", 1)[0], "t 12.0 12.0 12.0 1 0.0 10.0 20.0\n"

STARS: dict[str, Spoilt] = {
    "cut in a row": (star_with(STAR[:-20]), "refused"),
    "cut in the labels": (star_with(STAR[:130]), "refused"),
    "cut after loop_": (star_with(STAR[: STAR.index("loop_") + 5]), "refused"),
    "no rows": (star_with(HEAD), "refused"),
    "zero byte": (star("20.0 18.0", "20.0\0 18.0"), "refused"),
    "zero bytes only": (star_with(b"data_\n" + bytes(5000)), "refused"),
    "no UTF-8": (star_with(STAR.encode() + b"\xff\xfe"), "refused"),
    "UTF-16": (star_with(STAR.encode("utf-16")), "refused"),
    "byte-order mark": (star_with("\ufeff" + STAR), "accepted"),
    "Windows' line ends": (star_with(STAR.replace("\n", "\r\n")), "accepted"),
    "Macintosh's line ends": (star_with(STAR.replace("\n", "\r")), "refused"),
    "line of a million words": (star_with(lambda: STAR + "1 " * 1_000_000), "refused"),
    "line of five million words": (star_with(lambda: STAR + "1 " * 5_000_000 + "'a'"), "refused"),
    "five million words before a block": (star_with(lambda: "12 " * 5_000_000 + STAR), "refused"),
    "a million labels": (
        star_with(lambda: "data_\nloop_\n" + "".join(f"_a{n}\n" for n in range(1_000_000))),
        "refused",
    ),
    "a million blocks": (
        star_with(lambda: "".join(f"data_{n}\n" for n in range(1_000_000))),
        "refused",
    ),
    "a word of 20 MB": (star_with(lambda: STAR + "x" * 20_000_000), "refused"),
    "a quote of 20 MB": (star_with(lambda: STAR + "'" + "x' " * 7_000_000), "refused"),
    "quotes that do not end": (star_with(lambda: STAR + "'a" * 5_000_000), "refused"),
    "label twice": (star("_rlnCoordinateX #2", "_rlnCoordinateY #2"), "refused"),
    "label empty": (star("_rlnCoordinateX #2", "_ #2"), "refused"),
    "label missing": (star("_rlnCoordinateX #2\n", ""), "refused"),
    "coordinate NaN": (star("t 12.0", "t nan"), "accepted"),
    "all coordinates NaN": (star_with(HEAD + ROW.replace("12.0", "nan")), "refused"),
    "coordinate 1e308": (star_with(HEAD + ROW.replace("12.0", "1e308")), "refused"),
    "coordinates 1e300": (star_with(HEAD + ROW.replace("12.0", "-1e300") * 3), "refused"),
    "coordinate a text": (star("t 12.0", "t twelve"), "refused"),
    "coordinate in hexadecimal": (star("t 12.0", "t 0x0C"), "refused"),
    "coordinate with a decimal comma": (star("t 12.0", "t 12,0"), "refused"),
    "angle infinite": (star("0.0 10.0", "inf 10.0"), "accepted"),
    "angle 1e300": (star("0.0 10.0", "1e300 10.0"), "accepted"),
    "pixel size 0": (star("1 10.0", "1 0"), "refused"),
    "pixel size NaN": (star("1 10.0", "1 nan"), "refused"),
    "pixel size negative": (star("1 10.0", "1 -10"), "refused"),
    "pixel size 1e-300": (star("1 10.0", "1 1e-300"), "refused"),
    "optics group unknown": (star("12.0 1 0.0", "12.0 7 0.0"), "refused"),
    "optics group a text": (star("12.0 1 0.0", "12.0 one 0.0"), "refused"),
    "name of control characters": (
        star_with(STAR.replace("\nt ", "\n\x1b[31mt\x07 ")),
        "accepted",
    ),
    "name of 100 kB": (star_with(STAR.replace("\nt ", f"\n{'t' * 100_000} ")), "accepted"),
    "names of other tomograms": (
        star_with(STAR.replace("\nt ", "\nu ", 1).replace("\nt ", "\nv ", 1)),
        "accepted",
    ),
    "names of other tomograms only": (
        star_with(STAR.replace("\nt 1", "\nu 1").replace("\nt ", "\nv ")),
        "refused",
        False,
    ),
    "two tables of particles": (
        star_with(
            STAR.replace("data_particles", "data_a") + STAR.replace("data_particles", "data_b")
        ),
        "refused",
    ),
    "loop without a block": (star_with(STAR.split("data_optics")[1]), "refused"),
    "comments only": (star_with("# nothing\n" * 100), "refused"),
    "centred, tomograms unknown": (star_with(CENTRED + "t 0 0 0\n"), "accepted"),
    "set that names itself": (sets(particles="set.star"), "refused"),
    "sets in a circle": (
        sets(particles="b.star", b="data_\n_rlnTomoParticlesFile set.star\n"),
        "refused",
    ),
    "set that leads nowhere": (sets(particles="gone.star"), "refused"),
    "set that leads to a folder": (sets(particles="/tmp"), "refused"),
    "set that leads to a device": (sets(particles="/dev/zero"), "refused"),
    "set that leads to a pipe": (piped_set, "refused"),
    "set that leads to a long name": (sets(particles="p" * 5000), "refused"),
    "set of tomograms that name it": (
        sets(particles="p.star", more="_rlnTomoTomogramsFile set.star\n", p=CENTRED + "t 0 0 0\n"),
        "either",
    ),
    "copick named star": (star_with(COPICK), "accepted"),
    "CSV named star": (star_with(CSV), "accepted"),
}

CSVS: dict[str, Spoilt] = {
    "no rows": (text_of("l.csv", "x,y,z\n"), "refused"),
    "row too short": (text_of("l.csv", CSV + "t,1\n"), "refused"),
    "row too long": (text_of("l.csv", CSV + "t,1,2,3,a,b,c\n"), "refused"),
    "open quote": (text_of("l.csv", CSV + 't,1,2,3,a,"open\n'), "refused"),
    "quote within": (text_of("l.csv", CSV + 't,1,2,3,a,"b"c\n'), "refused"),
    "name twice": (text_of("l.csv", CSV.replace("note", "x")), "refused"),
    "no coordinates": (text_of("l.csv", CSV.replace(",x,", ",u,")), "refused"),
    "a text": (text_of("l.csv", CSV.replace("12,12", "a,12")), "refused"),
    "underscore in a number": (text_of("l.csv", CSV.replace("12,12", "1_2,12")), "refused"),
    "all NaN": (text_of("l.csv", "x,y,z\nnan,nan,nan\n"), "refused"),
    "zero byte": (text_of("l.csv", CSV + "\0"), "refused"),
    "no UTF-8": (text_of("l.csv", CSV.encode() + b"\xe4\n"), "refused"),
    "field of 200 kB": (text_of("l.csv", CSV + f"t,1,2,3,a,{'b' * 200_000}\n"), "refused"),
    "five million columns": (text_of("l.csv", lambda: "x,y,z" + ",aa" * 5_000_000), "refused"),
    "a million names": (
        text_of("l.csv", lambda: ",".join(f"n{n}" for n in range(2_000_000)) + "\n"),
        "refused",
    ),
    "25 MB": (text_of("l.csv", lambda: CSV + "t,1,2,3,a,b\n" * 2_100_000), "refused"),
    "Macintosh's line ends": (text_of("l.csv", CSV.replace("\n", "\r")), "either"),
    "semicolons": (text_of("l.csv", CSV.replace(",", ";")), "accepted"),
}

DYNAMOS: dict[str, Spoilt] = {
    "cut": (text_of("l.tbl", DYNAMO[:-30]), "refused"),
    "25 columns": (text_of("l.tbl", " ".join(["1"] * 25) + "\n"), "refused"),
    "a text": (text_of("l.tbl", DYNAMO.replace("1 -60", "one -60", 1)), "refused"),
    "a text later": (text_of("l.tbl", DYNAMO[:-90] + "x" + DYNAMO[-89:]), "either"),
    "NaN everywhere": (text_of("l.tbl", "nan " * 35 + "\n"), "refused"),
    "infinite": (text_of("l.tbl", "inf " * 35 + "\n"), "refused"),
    "1e308": (text_of("l.tbl", "1e308 " * 35 + "\n"), "refused"),
    "three million columns": (text_of("l.tbl", lambda: "0.5 " * 3_000_000 + "\n"), "refused"),
    "nine million columns": (text_of("l.tbl", lambda: "1 " * 9_000_000 + "\n"), "refused"),
    "tomogram infinite": (
        text_of("l.tbl", DYNAMO.replace(" 0 0 1 0 1 ", " 0 0 inf 0 1 ")),
        "either",
    ),
}


def picks(**values: Any) -> Make:
    return text_of("l.json", json.dumps(json.loads(COPICK) | values))


def point(**values: Any) -> Make:
    content = json.loads(COPICK)
    content["points"][1] |= values
    return text_of("l.json", json.dumps(content))


COPICKS: dict[str, Spoilt] = {
    "cut": (text_of("l.json", COPICK[:-40]), "refused"),
    "a list": (text_of("l.json", "[1, 2]"), "refused"),
    "nested deep": (text_of("l.json", '{"points":' + "[" * 100_000), "refused"),
    "nested deep, braces": (text_of("l.json", '{"a":' * 100_000), "refused"),
    "no points": (picks(points=None), "refused"),
    "points of no list": (picks(points={"x": 1}), "refused"),
    "points of numbers": (picks(points=[1, 2]), "refused"),
    "unit another": (picks(unit="nm"), "refused"),
    "voxel spacing NaN": (picks(voxel_spacing=float("nan")), "refused"),
    "voxel spacing 1e300": (picks(voxel_spacing=1e300), "refused"),
    "voxel spacing 0": (picks(voxel_spacing=0), "refused"),
    "run name a list": (picks(run_name=["t"]), "accepted"),
    "run name of lone surrogates": (
        text_of("l.json", COPICK.replace('"t"', '"\\ud800"')),
        "either",
    ),
    "object of lone surrogates": (
        text_of("l.json", COPICK.replace('"ribosome"', '"\\udfff"')),
        "either",
    ),
    "object with a zero byte": (picks(pickable_object_name="a\0b\nc"), "either"),
    "location without z": (point(location={"x": 1, "y": 2}), "refused"),
    "location NaN": (point(location={"x": float("nan"), "y": 2, "z": 3}), "accepted"),
    "location 1e400": (
        text_of("l.json", COPICK.replace("120.0", "1e400")),
        "accepted",
    ),
    "location of digits": (text_of("l.json", COPICK.replace("120.0", "9" * 9000)), "refused"),
    "location of 400 digits": (text_of("l.json", COPICK.replace("120.0", "9" * 400)), "refused"),
    "score a text": (point(score="high"), "refused"),
    "score a list": (point(score=[1]), "refused"),
    "matrix of 3 × 3": (point(transformation_=np.eye(3).tolist()), "refused"),
    "matrix ragged": (point(transformation_=[[1], [1, 2]]), "refused"),
    "matrix that mirrors": (point(transformation_=np.diag([1, 1, -1, 1]).tolist()), "refused"),
    "matrix of NaN": (point(transformation_=np.full((4, 4), np.nan).tolist()), "refused"),
    "matrix 1e300": (point(transformation_=np.diag([1e300] * 3 + [1]).tolist()), "refused"),
    "matrix nested deep": (point(transformation_=json.loads("[" * 70 + "]" * 70)), "refused"),
    "two million points": (
        text_of("l.json", lambda: '{"points": [' + "0," * 2_000_000 + "0]}"),
        "refused",
    ),
    "two million empty points": (
        text_of("l.json", lambda: '{"points": [' + "{}," * 2_000_000 + "{}]}"),
        "refused",
    ),
    "half a million keys": (
        text_of("l.json", lambda: "{" + ",".join(f'"{n}":0' for n in range(500_000)) + "}"),
        "refused",
    ),
}


def lists_of(name: str, good: str, **others: Spoilt) -> dict[str, Spoilt]:
    """What may happen to a list of any kind whose second place is 20, 18, 14 or 200, 180, 140."""
    return {
        "good": (text_of(name, good), "accepted"),
        "cut": (text_of(name, good[:-12]), "refused"),
        "a text": (text_of(name, good.replace("20", "twenty", 1)), "refused"),
        "NaN": (text_of(name, good.replace("20", "NaN", 1)), "accepted"),
        "1e400": (text_of(name, good.replace("20", "1e400", 1)), "accepted"),
        "no UTF-8": (text_of(name, good.encode() + b"\xff\xfe"), "refused"),
        "zero byte": (text_of(name, good + "\0"), "refused"),
        "Windows' line ends": (text_of(name, good.replace("\n", "\r\n")), "accepted"),
        **others,
    }


PLACES = ((12, 12, 12), (20, 18, 14), (30, 21, 14))
PORTAL = "\n".join(
    json.dumps({"type": "point", "location": dict(zip("xyz", place, strict=True))})
    for place in PLACES
)
EMAN2 = json.dumps({"boxes_3d": [[*place, "manual", 0.5, 0] for place in PLACES]})
CBOX = "data_cryolo\n\nloop_\n" + "".join(
    f"_{label}\n" for label in ("CoordinateX", "CoordinateY", "CoordinateZ", "Width", "Height")
)
CBOX += "".join(f"{x} {y} {z} 8 8\n" for x, y, z in PLACES)
POINTS = "".join(f"{x:12.2f}{y:12.2f}{z:12.2f}\n" for x, y, z in PLACES)
FURTHER: dict[str, dict[str, Spoilt]] = {
    "portal": lists_of(
        "l.ndjson",
        PORTAL,
        **{
            "two million lines": (
                text_of("l.ndjson", lambda: '{"location":0}\n' * 1_300_000),
                "refused",
            ),
            "no location": (text_of("l.ndjson", '{"type": "point"}\n'), "refused"),
            "nested deep": (text_of("l.ndjson", '{"location":' + "[" * 100_000), "refused"),
            "matrix nested deep": (
                text_of(
                    "l.ndjson", PORTAL[:-1] + ',"xyz_rotation_matrix":' + "[" * 70 + "]" * 70 + "}"
                ),
                "refused",
            ),
        },
    ),
    "EMAN2": lists_of(
        "t_info.json",
        EMAN2,
        **{
            "boxes of numbers": (text_of("l.json", '{"boxes_3d": [1, 2]}'), "refused"),
            "two million boxes": (
                text_of("l.json", lambda: '{"boxes_3d": [' + "[]," * 2_000_000 + "[]]}"),
                "refused",
            ),
            "pixel of 0": (text_of("l.json", EMAN2[:-1] + ', "apix_unbin": 0}'), "refused"),
            "pixel NaN": (text_of("l.json", EMAN2[:-1] + ', "apix_unbin": NaN}'), "refused"),
        },
    ),
    "crYOLO": lists_of(
        "l.cbox",
        CBOX,
        **{
            "cut": (text_of("l.cbox", CBOX[:-8]), "refused"),
            "label missing": (text_of("l.cbox", CBOX.replace("_Width\n", "", 1)), "refused"),
            "label twice": (
                text_of("l.cbox", CBOX.replace("_CoordinateY", "_CoordinateX", 1)),
                "refused",
            ),
            "UTF-16": (text_of("l.cbox", CBOX.encode("utf-16")), "refused"),
            "zero bytes only": (text_of("l.cbox", b"data_\n" + bytes(5000)), "refused"),
        },
    ),
    "points": lists_of(
        "l.txt",
        POINTS,
        **{
            "NaN": (text_of("l.txt", POINTS.replace("20.00", "  NaN", 1)), "accepted"),
            "1e400": (text_of("l.txt", POINTS.replace("20.00", "1e400", 1)), "accepted"),
            "million numbers": (text_of("l.txt", lambda: "1 " * 1_000_000 + "\n"), "refused"),
            "comments only": (text_of("l.txt", lambda: "# nothing\n" * 1_000_000), "refused"),
            "two numbers a row": (text_of("l.txt", "12 12\n20 18\n"), "refused"),
            "a binary model of IMOD": (
                text_of("l.mod", b"IMODV1.2" + bytes(500)),
                "refused",
            ),
        },
    ),
}


def _flips(kind: str, name: str, content: str, count: int) -> dict[str, Mutant]:
    """Bytes changed at random, most of which then are no UTF-8, and letters that stay letters."""
    made = {}
    for n in range(count):
        spoilt = flipped(content.encode(), n, count=2)
        letters = bytes(b & 0x7F or 32 for b in flipped(content.encode(), 100 + n, count=6))
        made[f"{kind}: flips {n}"] = Mutant(kind, text_of(name, spoilt), "either")
        made[f"{kind}: flips within ASCII {n}"] = Mutant(kind, text_of(name, letters), "either")
    return made


LISTS: dict[str, Mutant] = {
    "good star": Mutant("STAR", lambda b: b.extract(b.copy("l.star")), "accepted"),
    "good csv": Mutant("CSV", lambda b: b.extract(b.copy("l.csv")), "accepted"),
    "good dynamo": Mutant("Dynamo", lambda b: b.extract(b.copy("l.tbl")), "accepted"),
    "good copick": Mutant("copick", lambda b: b.extract(b.copy("l.json")), "accepted"),
    **in_the_way("STAR", "l.star", Bench.extract),
    **in_the_way("CSV", "l.csv", Bench.extract),
    **in_the_way("Dynamo", "l.tbl", Bench.extract),
    **in_the_way("copick", "l.json", Bench.extract),
    **named("STAR", STARS),
    **named("CSV", CSVS),
    **named("Dynamo", DYNAMOS),
    **named("copick", COPICKS),
    **{id_: mutant for kind, made in FURTHER.items() for id_, mutant in named(kind, made).items()},
    **_flips("STAR", "l.star", STAR, 6),
    **_flips("CSV", "l.csv", CSV, 3),
    **_flips("Dynamo", "l.tbl", DYNAMO, 3),
    **_flips("copick", "l.json", COPICK, 3),
}
