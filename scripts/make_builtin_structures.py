"""Make the built-in structures in ``src/tomadapt/structures/data`` from PDB files.

Each becomes one ``.npz``: the mass density of the atoms at ``RESOLUTION_A`` (2σ) on ``VOXEL_A``
voxels, scaled to maximum 1, negative ripples set to 0, as 8-bit integers in a centred odd cube.
Run again it writes the same bytes (with the same numpy and zlib).

    python scripts/make_builtin_structures.py --models ../shared/data/models
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from tomadapt.structures import read_atomic_model, required_box, voxelise
from tomadapt.structures.density import extent_A

VOXEL_A = 4.0
RESOLUTION_A = 8.0
ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "src" / "tomadapt" / "structures" / "data"

# The 16S RNA and proteins S2-S20 and THX of 4V5D are chains AA to AU; AV, AW and AY are tRNAs, AX
# the mRNA; chains B* are the large subunit. The file holds one of the entry's two ribosomes.
SMALL_SUBUNIT = [f"A{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTU"]
LARGE_SUBUNIT = [f"B{letter}" for letter in "0123456789ABCDEFGHINOPQRSTUVWXYZ"]
# Of the two 16-mers of 4V8R, the first: two rings of eight (upper and lower case).
FIRST_TRIC = [f"A{letter}" for letter in "ABDEGHQZabdeghqz"]

SOURCES: dict[str, tuple[str, list[str] | None]] = {
    "ribosome_70s": ("4v5d.cif.gz", None),
    "ribosome_50s": ("4v5d.cif.gz", LARGE_SUBUNIT),
    "ribosome_30s": ("4v5d.cif.gz", SMALL_SUBUNIT),
    "ribosome_80s": ("6zu5.cif.gz", None),
    "tric": ("4v8r_hybrid36.pdb.gz", FIRST_TRIC),
    "apoferritin": ("4v1w.cif.gz", None),
    "spliceosome": ("3jb9.cif.gz", None),
}


def make(name: str, models: Path, out: Path) -> Path:
    file, chains = SOURCES[name]
    model = read_atomic_model(models / file, chains=chains)
    # Room for the Gaussian's tail, of which the 8-bit scale sees three voxels.
    box = required_box(model, VOXEL_A) + 6
    density = voxelise(model, voxel_size_A=VOXEL_A, box=box, resolution_A=RESOLUTION_A)
    stored = np.round(density / density.max() * 255).clip(0, 255).astype(np.uint8)
    path = out / f"{name}.npz"
    numbers = np.array([VOXEL_A, RESOLUTION_A, extent_A(model)])
    np.savez_compressed(path, density=stored, voxel_resolution_extent_A=numbers)
    return path


def main() -> None:
    data = Path(os.environ.get("TOMADAPT_DATA", ROOT.parent / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=data / "models", help="folder of PDB files")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        path = make(name, options.models, options.out)
        print(f"{name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
