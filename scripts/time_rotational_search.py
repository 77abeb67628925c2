"""Times the search over rotations: one matrix product against the fast rotational search.

The latter (Xu et al. 2012, J. Struct. Biol. 178, 152) correlates spherical harmonics by a Fourier
transform over SO(3); here PySOFFT 0.1.2 does that (``pip install pysofft==0.1.2``, GPL 3, needs
numba and numpy < 2.5; it is no dependency). With a missing wedge every shift needs two transforms,
of the correlation and of the reference's power where the particle was measured; expansion in
harmonics comes on top and is not counted. A structure that reaches r voxels from the centre, seen
up to shell k of n, has harmonics up to order 2π r k / n: about 18 here. One thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from tomadapt.acquisition import BATCH_A
from tomadapt.recover.align import Aligner
from tomadapt.recover.fourier import MeasuredPoints

N, VOXEL_A, PARTICLES = 40, 9.2, 16


def milliseconds(work: Callable[[], object], repeats: int = 10) -> float:
    work()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - started) / repeats * 1e3


def main() -> None:
    torch.set_num_threads(1)
    points = MeasuredPoints.of(BATCH_A, n=N, voxel_size_A=VOXEL_A)
    r = torch.arange(N) - N // 2
    ball = torch.exp(-(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2) / 50.0)
    aligner = Aligner(ball * torch.randn(N, N, N), points, torch.ones(N // 2))
    x = aligner.coarse.transforms(torch.randn(PARTICLES, N, N, N))
    with torch.inference_mode():
        whole = milliseconds(lambda: aligner._grid_scores(x)) / PARTICLES
    shifts, rotations = len(aligner.shifts), len(aligner.rotations)
    print(f"matrix product: {rotations} rotations and {shifts} shifts in {whole:.1f} ms a particle")
    try:
        from pysofft.soft import Soft
    except ImportError:
        print("SO(3) transforms: not measured, pysofft 0.1.2 is not installed")
        return
    for bandwidth in (8, 16):
        soft = Soft(bandwidth)
        values = np.random.default_rng(0).normal(size=soft.coeff_grid.shape[:-1]).astype(complex)
        one = milliseconds(lambda s=soft, v=values: s.inverse_cmplx(v))
        print(
            f"SO(3) transforms, bandwidth {bandwidth}: {(2 * bandwidth) ** 3} rotations and "
            f"{shifts} shifts in {2 * one * shifts:.0f} ms a particle ({one:.2f} ms a transform)"
        )


if __name__ == "__main__":
    main()
