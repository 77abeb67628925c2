"""The paper's three experimental sets (section 3.2), and simulated stand-ins for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tomadapt.acquisition import PSEUDO_EXPERIMENTAL, Acquisition, tilt_range
from tomadapt.experiments.complexes import Complex, structure_files
from tomadapt.experiments.scales import SMOKE, Scale
from tomadapt.experiments.tasks import LabelledFolder, Particles, SimulateTask
from tomadapt.simulate.dataset import SimulationConfig
from tomadapt.simulate.simulator import NULL_CLASS

TEMPLATE_RESOLUTION_A = 40.0
"""Of the source's templates (section 3.2: 4 nm)."""


@dataclass(frozen=True)
class ExperimentalSet:
    """One of S_e1, S_e2, S_e3.

    Attributes
    ----------
    name
        As the paper calls it.
    box, voxel_size_A
        Voxels; Å.
    per_class
        Particles of each class in the paper's set.
    complexes
        Its classes with a structure; a NULL class is added where ``has_null``.
    builtin
        What the smoke scale uses instead.
    acquisition
        As far as the paper states it; of S_e2 and S_e3 it does not state the defocus.
    snr
        Of the stand-in.
    """

    name: str
    box: int
    voxel_size_A: float
    per_class: int
    complexes: tuple[Complex, ...]
    builtin: tuple[str, ...]
    acquisition: Acquisition
    snr: float
    has_null: bool = False

    def classes(self, scale: Scale, data: Path | None) -> dict[str, str]:
        """Label → structure."""
        names = {name: name for name in self.builtin}
        found = names if scale is SMOKE else structure_files(self.complexes, data)
        return found | ({NULL_CLASS: NULL_CLASS} if self.has_null else {})

    def source(self, scale: Scale, data: Path | None, snr: float, *, seed: int) -> Particles:
        """The simulated source: 1000 of each class at paper scale (3000 in all)."""
        n = SOURCE_PER_CLASS[scale.name]
        return self._simulated(scale, data, self.acquisition, n, snr, seed=2 * seed)

    def target(
        self, scale: Scale, data: Path | None, *, seed: int
    ) -> tuple[Particles | LabelledFolder, bool]:
        """The real volumes where the user has them (``DATA/S_e1/CLASS/…``), else the stand-in.

        Returns
        -------
        target
            The particles.
        is_stand_in
            Whether they are simulated.
        """
        if data is not None and (data / self.name).is_dir():
            classes = tuple(self.classes(scale, data))
            return LabelledFolder(
                path=data / self.name, classes=classes, voxel_size_A=self.voxel_size_A
            ), False
        n = min(self.per_class, SOURCE_PER_CLASS[scale.name])
        pseudo = pseudo_experimental(self.acquisition)
        return self._simulated(
            scale, data, pseudo, n, self.snr, seed=2 * seed + 1, neighbours=NEIGHBOURS
        ), True

    def _simulated(
        self,
        scale: Scale,
        data: Path | None,
        acquisition: Acquisition,
        n: int,
        snr: float,
        *,
        seed: int,
        neighbours: int = 0,
    ) -> Particles:
        simulation = SimulationConfig(
            classes=self.classes(scale, data),
            acquisition=acquisition,
            per_class=n,
            snr=snr,
            seed=seed,
            box=self.box,
            voxel_size_A=self.voxel_size_A,
            resolution_A=self.voxel_size_A if neighbours else TEMPLATE_RESOLUTION_A,
            neighbours=neighbours,
        )
        return Particles(made=SimulateTask.of(simulation), snr=snr, per_class=n)


SOURCE_PER_CLASS = {"smoke": 6, "reduced": 100, "paper": 1000}
NEIGHBOURS = 3
"""Neighbouring macromolecules in a stand-in's box."""


def pseudo_experimental(planned: Acquisition) -> Acquisition:
    """What a source's simulation does not know: detector, envelope, exposure, ice, true defocus."""
    found = (
        "mtf",
        "b_factor_A2",
        "exposure_per_tilt_e_per_A2",
        "thickness_in_mean_free_paths",
        "amplitude_contrast",
    )
    changes = {name: getattr(PSEUDO_EXPERIMENTAL, name) for name in found}
    changes |= {"name": f"pseudo_{planned.name}", "defocus_um": planned.defocus_um + 0.5}
    return planned.model_copy(update=changes)


SETS = (
    ExperimentalSet(
        name="S_e1",
        box=36,
        voxel_size_A=9.2,
        per_class=100,
        complexes=(Complex("1fnt", "3j9i", "similar"), Complex("4v4q", "4v5d", "similar")),
        builtin=("apoferritin", "ribosome_70s"),
        acquisition=Acquisition(
            name="S_e1", spherical_aberration_mm=2.0, defocus_um=5.5, amplitude_contrast=0.0
        ),
        snr=0.01,
        has_null=True,
    ),
    ExperimentalSet(
        name="S_e2",
        box=40,
        voxel_size_A=13.68,
        per_class=80,
        complexes=(
            Complex("4ug0", "6qzp", "same"),  # human 80S (the paper's 4GU0 is most likely 4UG0)
            Complex("4v94", "4v94", "same"),  # TRiC
            Complex("6epf", "4cr2", "similar"),  # 26S proteasomes
        ),
        builtin=("ribosome_80s", "tric", "spliceosome"),
        acquisition=Acquisition(
            name="S_e2",
            defocus_um=4.0,
            amplitude_contrast=0.0,
            tilt_angles_deg=tilt_range(-50, 70, 3),
        ),
        snr=0.05,
    ),
    ExperimentalSet(
        name="S_e3",
        box=28,
        voxel_size_A=9.4,
        per_class=400,
        complexes=(
            Complex("3lzg", "3lzg", "same"),
            Complex("4v1w", "4v1w", "same"),
            Complex("4zxb", "4zxb", "same"),
        ),
        builtin=("apoferritin", "ribosome_30s", "tric"),
        acquisition=Acquisition(name="S_e3", defocus_um=4.0, amplitude_contrast=0.0),
        snr=0.05,
    ),
)
