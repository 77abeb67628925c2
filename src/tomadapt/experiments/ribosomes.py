"""Real ribosomes: how many are called ribosome, and how their scores part from decoys'.

One class only is known of the real particles, so recall says little without its counterpart: (a)
the same particles with randomised phases; (b) simulated noise; (c) simulated particles of other
classes. The source's noise has the real particles' power spectrum. The paper has no such thing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from tomadapt.acquisition import Acquisition, tilt_range
from tomadapt.errors import InputError
from tomadapt.experiments.decoys import Group, against, decoy_table, phase_randomised
from tomadapt.experiments.domains import method_options
from tomadapt.experiments.models import AdaptTask, TrainTask
from tomadapt.experiments.particles import OneClassFile, RecolouredParticles, SimulateTask
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.runs.atomic import output_folder
from tomadapt.runs.digest import digest
from tomadapt.simulate.dataset import SimulationConfig
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.tomograms.tilt_stacks import reconstruct_tilt_stacks

RIBOSOME, OTHERS = "ribosome_70s", ("tric", "apoferritin", "spliceosome")
COMPARED = ("source_only", "target_statistics", "ada")
PARTICLES = "real_ribosomes/warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
# Reconstructed with CTF² weighting from CTF-premultiplied images at about 3 µm defocus, whose first
# zero lies beyond the Nyquist frequency of 12 Å voxels: the transfer that is left is flat. The
# wedge is that of three of the four series, mirrored as the cubes are.
ACQUISITION = Acquisition(
    name="matched to the ribosomes",
    spherical_aberration_mm=0.0,
    defocus_um=0.0,
    amplitude_contrast=1.0,
    mtf="none",
    tilt_angles_deg=tilt_range(-51, 60, 3),
)


def run(setting: Setting) -> list[Path]:
    """Train, adapt to the real particles, and compare their scores with the decoys'."""
    path = (setting.data / PARTICLES) if setting.data is not None else None
    if path is None or not path.is_file():
        raise InputError(
            "the real ribosomes are not at hand",
            expected=f"--data with {PARTICLES}",
            got=setting.data,
            remedy="name the folder that holds them",
        )
    classes, n = (RIBOSOME, *OTHERS, NULL_CLASS), setting.scale.experimental_per_class
    simulation = SimulationConfig(
        classes={name: name for name in classes},
        acquisition=ACQUISITION,
        per_class=n + n // 2,
        snr=0.05,
        box=32,
        voxel_size_A=12.0,
        resolution_A=12.0,
        neighbours=2,
    )
    cubes = _reconstructed(path, setting.store)
    target = OneClassFile(path=cubes, classes=classes, label=RIBOSOME, stated_voxel_size_A=12.0)
    target = target.read()
    source = RecolouredParticles(
        made=SimulateTask.of(simulation), snr=0.05, per_class=n, like=target
    )
    training = setting.scale.training.model_copy(update={"snr_range": (0.01, 0.3)})
    trained = TrainTask(data=source, training=training)
    tasks = {}
    for method in COMPARED:
        options = method_options(method, setting.scale, seed=0)
        tasks[method] = AdaptTask(
            method=method, source_model=trained, target=target, options=options
        )
    setting.finish(tasks.values(), "ribosomes")
    real = target.open(setting.store)[0].unlabelled()
    held_out = source.open(setting.store)[1]
    assert held_out is not None
    of = {name: np.flatnonzero(held_out.labels == i) for i, name in enumerate(classes)}
    groups = [
        Group("real ribosomes", real),
        Group("real, phases randomised", phase_randomised(real, seed=0)),
        Group("simulated noise", held_out.subset(of[NULL_CLASS])),
        Group("simulated, other classes", held_out.subset(np.concatenate([of[c] for c in OTHERS]))),
    ]
    results = Results.of(setting, "ribosomes", partial(decoy_table, "Real ribosomes"), "scale")
    for method, task in tasks.items():
        about: Row = {"method": method, "n_per_class": n, "run": task.key}
        found = against(task.model(setting.store), groups, label=0)
        results.add(*(about | row for row in found))
    return results.files


def _reconstructed(path: Path, store: Path) -> Path:
    """Subtomograms from the 2D tilt stacks, whose tilt angles were inverted on import: mirrored."""
    stacks = sorted(path.parent.rglob("*.mrc*")) + sorted(path.parent.glob("*.star"))
    content = digest(*(file.read_bytes() for file in stacks))
    cubes = output_folder(store) / f"real_ribosomes-{content}.npy"
    if not cubes.exists():
        reconstruct_tilt_stacks(path, contrast="measure", mirror=True, out=cubes)
    return cubes
