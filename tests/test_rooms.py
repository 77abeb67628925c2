"""The order of the package's rooms: a module imports only from rooms that stand before its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "tomadapt"
ORDER = (
    *("errors", "robust", "metrics", "fsc", "acquisition", "runs", "data", "io", "project"),
    "structures",
    *(
        "simulate",
        "inputs",
        "learn",
        "tomograms",
        "recover",
        "judge",
        "report",
        "workflows",
        "classify",
    ),
    *("doctor", "experiments", "benchmark", "cli", "__main__"),
)
"""By the data's way: what the later ones may use stands before them."""


def imports(package: Path) -> Iterator[tuple[str, str, str]]:
    """Importing room, imported room, and where."""
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.level:
                names = [f"{package.name}.(relative)"]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
                if node.module == package.name:
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value] if node.value.startswith(f"{package.name}.") else []
            for name in names:
                parts = name.split(".")
                if parts[0] == package.name and len(parts) > 1 and own != "__init__":
                    yield own, parts[1], f"{path.relative_to(package)}:{node.lineno}"


def against_the_order(package: Path) -> list[str]:
    """Imports of a later room, or of one that the order does not know."""
    place = {room: number for number, room in enumerate(ORDER)}
    return [
        f"{where}: {own} imports {other}"
        for own, other, where in imports(package)
        if own != other and not place.get(other, len(ORDER)) < place.get(own, -1)
    ]


def test_no_import_runs_against_the_order_of_the_rooms() -> None:
    assert against_the_order(PACKAGE) == []


def test_every_room_has_its_place() -> None:
    rooms = {
        p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()
    }
    assert rooms - {"__init__"} == set(ORDER)


def test_an_import_against_the_order_is_named(tmp_path: Path) -> None:
    package = tmp_path / "tomadapt"
    (package / "io").mkdir(parents=True)
    (package / "io" / "star.py").write_text(
        "def late():\n    from tomadapt.learn.model import Model\n"
    )
    (package / "learn.py").write_text("from tomadapt import errors, cli\n")
    (package / "data.py").write_text("from .io import star\nimport_module('tomadapt.io.star')\n")
    assert against_the_order(package) == [
        "data.py:1: data imports (relative)",
        "data.py:2: data imports io",
        "io/star.py:2: io imports learn",
        "learn.py:1: learn imports cli",
    ]
