"""The paper's three experimental sets (section 3.2), and simulated stand-ins for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tomadapt.acquisition import PSEUDO_EXPERIMENTAL, Acquisition, tilt_range
from tomadapt.experiments.complexes import Complex, structure_files
from tomadapt.experiments.particles import LabelledFolder, Particles, SimulateTask
from tomadapt.experiments.scales import Scale
from tomadapt.inputs.particles import Contrast
from tomadapt.simulate.dataset import SimulationConfig
from tomadapt.simulate.simulator import NULL_CLASS

TEMPLATE_RESOLUTION_A = 40.0
"""Of the source's templates (section 3.2: 4 nm)."""
NEIGHBOURS = 3
"""Neighbouring macromolecules that reach into a stand-in's box."""


@dataclass(frozen=True)
class ExperimentalSet:
    """One of S_e1, S_e2, S_e3.

    Attributes
    ----------
    name
        As the paper calls it; its real volumes lie in ``DATA/name/CLASS``.
    box, voxel_size_A
        Voxels; Å.
    per_class
        Particles of each class in the paper's set.
    complexes
        Its classes with a structure. S_e1's entries are ours: the paper names none.
    builtin
        What is simulated where built-in structures must do.
    acquisition
        What a source is simulated with. Tilt ranges are the paper's, and S_e1's voltage and
        defocus (5 to 6 µm); all else is assumed.
    snr
        Of the stand-in; 0.01 is the paper's estimate for S_e1.
    has_null
        Whether there is a class of boxes without a particle.
    """

    name: str
    box: int
    voxel_size_A: float
    per_class: int
    complexes: dict[str, Complex]
    builtin: tuple[str, ...]
    acquisition: Acquisition
    snr: float
    has_null: bool = False

    def structures(self, scale: Scale, data: Path | None) -> dict[str, str]:
        """Class → structure; the classes have the same names whatever is at hand."""
        if scale.builtin:
            specs = list(self.builtin)
        else:
            specs = [path for _, path in structure_files(self.complexes.values(), data)]
        null = {NULL_CLASS: NULL_CLASS} if self.has_null else {}
        return dict(zip(self.complexes, specs, strict=True)) | null

    def source(self, scale: Scale, data: Path | None, snr: float) -> Particles:
        """The simulated source: 1000 of each class at paper scale (3000 in all)."""
        simulation = self._simulation(
            scale, data, self.acquisition, resolution_A=TEMPLATE_RESOLUTION_A
        )
        made = SimulateTask.of(simulation)
        return Particles(made=made, snr=snr, per_class=simulation.per_class)

    def real(
        self,
        scale: Scale,
        data: Path | None,
        *,
        voxel_size_A: float | None = None,
        contrast: Contrast = "measure",
    ) -> LabelledFolder | None:
        """The real volumes where the user has them.

        Parameters
        ----------
        scale, data
            As of the experiment.
        voxel_size_A
            In Å, where the files do not say it.
        contrast
            As for :func:`tomadapt.inputs.particles.open_target`.
        """
        if data is None or not (data / self.name).is_dir():
            return None
        folder = LabelledFolder(
            path=data / self.name,
            classes=tuple(self.structures(scale, data)),
            stated_voxel_size_A=voxel_size_A,
            contrast=contrast,
        )
        return folder.read()

    def stand_in(self, scale: Scale, data: Path | None) -> Particles:
        """Simulated particles, recorded by another microscope than the source's."""
        simulation = self._simulation(
            scale, data, pseudo_experimental(self.acquisition), resolution_A=self.voxel_size_A
        ).model_copy(
            update={
                "seed": 1,
                "neighbours": NEIGHBOURS,
                "per_class": min(self.per_class, scale.experimental_per_class),
            }
        )
        made = SimulateTask.of(simulation)
        return Particles(made=made, snr=self.snr, per_class=simulation.per_class)

    def _simulation(
        self, scale: Scale, data: Path | None, acquisition: Acquisition, *, resolution_A: float
    ) -> SimulationConfig:
        return SimulationConfig(
            classes=self.structures(scale, data),
            acquisition=acquisition,
            per_class=scale.experimental_per_class,
            snr=self.snr,
            box=self.box,
            voxel_size_A=self.voxel_size_A,
            resolution_A=resolution_A,
        )


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
        complexes={
            "proteasome": Complex("5le5", "3j9i"),  # human 20S; archaeal
            "ribosome": Complex("4ybb", "4v5d"),  # E. coli; T. thermophilus
        },
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
        complexes={
            "ribosome": Complex("4ug0", "6qzp"),  # human 80S (the paper: 4GU0, most likely 4UG0)
            "tric": Complex("4v94", "4v94"),
            "proteasome": Complex("6epf", "4cr2"),  # 26S, rat; yeast
        },
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
        complexes={
            "hemagglutinin": Complex("3lzg", "3lzg"),
            "apoferritin": Complex("4v1w", "4v1w"),
            "insulin_receptor": Complex("4zxb", "4zxb"),
        },
        builtin=("apoferritin", "ribosome_30s", "tric"),
        acquisition=Acquisition(name="S_e3", defocus_um=4.0, amplitude_contrast=0.0),
        snr=0.05,
    ),
)
