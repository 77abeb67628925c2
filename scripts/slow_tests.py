"""The tests that ``./test --fast`` leaves out because they took long, from a run of all tests.

    ./test --junit-xml tests.xml
    python scripts/slow_tests.py tests.xml

It writes ``tests/slow_tests.txt``: seconds and name of each test that took more than half a second
over all its parameters, setting up included.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tests" / "slow_tests.txt"
LONGEST_S = 0.5


def name_of(classname: str, name: str) -> str:
    """``tests/room/test_file.py::Class::test`` of a test case of the report."""
    parts = classname.split(".")
    for cut in range(len(parts), 0, -1):
        path = Path(*parts[:cut]).with_suffix(".py")
        if (ROOT / path).is_file():
            return "::".join([path.as_posix(), *parts[cut:], name.split("[", maxsplit=1)[0]])
    raise ValueError(f"no file of tests for {classname}")


def main() -> None:
    """Write the list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="what pytest wrote with --junit-xml")
    seconds: Counter[str] = Counter()
    for case in ElementTree.parse(parser.parse_args().report).iter("testcase"):
        seconds[name_of(case.attrib["classname"], case.attrib["name"])] += float(
            case.attrib["time"]
        )
    slow = [(taken, name) for name, taken in seconds.most_common() if taken > LONGEST_S]
    LIST.write_text("".join(f"{taken:.1f} {name}\n" for taken, name in slow))
    print(f"{len(slow)} tests, {sum(taken for taken, _ in slow):.0f} of {seconds.total():.0f} s")


if __name__ == "__main__":
    main()
