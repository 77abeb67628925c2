"""Collects the numbers of finished runs into one JSON-lines record, and prints a table of them.

Usage: python scripts/summarise_runs.py RUN [RUN ...] --out results/demo.jsonl
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

KEPT = ("title", "seed", "n_source", "n_target", "source_held_out_accuracy", "stages", "versions")


def record(run: Path, commit: str) -> dict:
    """What is kept of a run's summary."""
    summary = json.loads((run / "summary.json").read_text())
    kept = {key: summary[key] for key in KEPT}
    kept["torch_threads"] = summary["torch_threads"]
    kept["target"] = {
        method: {k: v for k, v in scores.items() if "fraction" not in k}
        for method, scores in summary["target"].items()
    }
    return kept | {"commit": commit}


def main() -> None:
    """Write the record, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    records = [record(run, commit) for run in arguments.runs]
    arguments.out.write_text("".join(json.dumps(r) + "\n" for r in records))
    print("| seed | source, held out | method | target, transductive | target, held out |")
    print("|---|---|---|---|---|")
    for r in records:
        for method, scores in r["target"].items():
            cells = [f"{scores[part]:.3f}" for part in ("transductive", "held_out")]
            source = f"{r['source_held_out_accuracy']:.3f}"
            print(f"| {r['seed']} | {source} | {method} | {cells[0]} | {cells[1]} |")
    for r in records:
        times = ", ".join(f"{k} {v['seconds']:.0f}" for k, v in r["stages"].items())
        peak = max(v["peak_memory_mb"] for v in r["stages"].values())
        print(f"seed {r['seed']}: {times} s; peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
