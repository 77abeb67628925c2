"""How many of 40 real ribosomes are called ribosome, against decoys of the same box.

Usage: tomadapt run examples/real_ribosomes.toml --out RUN
       python examples/real_ribosomes.py RUN

One class only is known of the real particles, so recall says little without its counterpart: the
same fraction among (a) the same particles with their Fourier phases randomised, which keeps the
power spectrum, missing wedge included, and destroys the structure; (b) simulated noise; and
(c) simulated particles of the other classes, each at the source's SNR.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tomadapt import (
    Model,
    RunConfig,
    Subtomograms,
    TargetStatistics,
    open_set,
    open_target,
    predict,
)
from tomadapt.config import FileDomain, parse
from tomadapt.io.volumes import ArrayVolumes
from tomadapt.metrics import binomial_interval

RIBOSOME = "ribosome_70s"


def phase_randomised(data: Subtomograms, *, seed: int) -> Subtomograms:
    """Particles with the amplitudes of the given ones and the phases of white noise."""
    cubes = data.read(range(len(data))).numpy()
    noise = np.random.default_rng(seed).normal(size=cubes.shape)
    amplitude = np.abs(np.fft.fftn(cubes, axes=(1, 2, 3)))
    phase = np.fft.fftn(noise, axes=(1, 2, 3))
    mixed = np.fft.ifftn(amplitude * phase / np.abs(phase), axes=(1, 2, 3)).real
    return Subtomograms(ArrayVolumes(mixed.astype(np.float32), data.voxel_size_A))


def shell_ratio(data: Subtomograms) -> float:
    """Mean power at a quarter of the box's frequencies (shell d/4) over that at shell d/16."""
    cubes = data.read(range(min(len(data), 40))).numpy()
    power = (np.abs(np.fft.fftn(cubes, axes=(1, 2, 3))) ** 2).mean(axis=0)
    k = np.fft.fftfreq(data.box, 1 / data.box)
    radius = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k[None, None, :] ** 2)
    shell = np.rint(radius).astype(int)
    return float(power[shell == data.box // 4].mean() / power[shell == data.box // 16].mean())


def main(run: Path) -> None:
    """Print the table."""
    import json

    config = parse(json.loads((run / "config.json").read_text()), RunConfig, where=str(run))
    assert isinstance(config.target, FileDomain)
    real = open_target(config.target.path, voxel_size_A=config.target.voxel_size_A)
    simulated = open_set(run / "source")
    _, held_out = simulated.first_of_each_class(config.source.per_class)
    assert held_out is not None
    names = held_out.class_names
    is_ribosome, is_null = names.index(RIBOSOME), names.index("null")
    others = ~np.isin(held_out.labels, [is_ribosome, is_null])
    groups = {
        "real ribosomes": real,
        "real, phases randomised": phase_randomised(real, seed=0),
        "simulated noise": held_out.subset(np.flatnonzero(held_out.labels == is_null)).unlabelled(),
        "simulated, other classes": held_out.subset(np.flatnonzero(others)).unlabelled(),
    }
    source = Model.load(run / "source.safetensors")
    models = {
        "source only": source,
        "statistics": TargetStatistics(source).fit(held_out, real).model,
        "3D-ADA": Model.load(run / "adapted.safetensors"),
    }
    print(f"{'labelled as ribosome':<26}" + "".join(f"{name:>22}" for name in models))
    for title, data in groups.items():
        cells = []
        for model in models.values():
            called = predict(model, data).labels == is_ribosome
            low, high = binomial_interval(float(called.mean()), len(called))
            cells.append(f"{called.sum()}/{len(called)} ({low:.2f}–{high:.2f})")
        print(f"{title:<26}" + "".join(f"{cell:>22}" for cell in cells))
    for title in ("real ribosomes", "simulated noise"):
        print(f"{title}: power in shell 8 / shell 2 = {shell_ratio(groups[title]):.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
