"""What a classification is asked to do; everything has been validated before work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tomadapt.acquisition import Acquisition
from tomadapt.errors import ConfigError
from tomadapt.inputs.particles import Contrast
from tomadapt.learn.adversarial import AdversarialOptions
from tomadapt.recover.labels import UNLISTED
from tomadapt.simulate.bounds import Box, Neighbours
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.tomograms.picking import PickingConfig

Method = Literal["likelihood", "student", "ada", "target_statistics", "source_only"]
METHODS = get_args(Method)
NETWORKS: tuple[Method, ...] = ("ada", "target_statistics", "source_only")
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
InputPath = Annotated[Path, AfterValidator(Path.absolute)]
"""As a whole: the same name in another folder is another file."""


def _with_free_names(classes: dict[str, str]) -> dict[str, str]:
    """Refuse structures with the name of a kind of particles that were not named."""
    if taken := [name for name in classes if name in UNLISTED]:
        raise ValueError(
            f"{taken[0]!r} is what particles of no named structure are called: name the structure "
            f"otherwise, such as unlisted={classes[taken[0]]}"
        )
    return classes


Classes = Annotated[dict[str, str], AfterValidator(_with_free_names)]
"""Label → structure, with labels that mean nothing else."""


def require_method(found: Method, allowed: tuple[Method, ...]) -> None:
    """Refuse options of another method before work starts.

    Raises
    ------
    ConfigError
        When the method is none of those allowed.
    """
    if found not in allowed:
        raise ConfigError(
            "this function labels by another method",
            expected=f"method {', '.join(allowed)}",
            got=repr(found),
            remedy="set the options' method, or call the function of that method",
        )


class SourceOptions(BaseModel):
    """The source that is simulated for a tomogram, and the model trained on it.

    Parameters
    ----------
    classes
        Label → structure; ``null`` (no macromolecule) is added where it is missing.
    folder
        A local folder where PDB IDs are looked up first.
    acquisition
        As the user states it.
    defocus_spread_um
        The source has a third of its particles each at the stated defocus and at this much less and
        more: stated values are seldom exact, and a tomogram has a range of its own.
    snr_range
        From which each training sample's SNR is drawn, log-uniformly.
    per_class
        Particles of each class at each defocus.
    neighbours
        Other macromolecules that reach into each box.
    box, voxel_size_A
        Of the model; chosen from the largest structure and the tomogram's voxels where None.
    epochs
        Of source training.
    seed
        Of simulation and training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: Classes
    folder: Path | None = None
    acquisition: Acquisition
    defocus_spread_um: Annotated[float, Field(ge=0, lt=5, allow_inf_nan=False)] = 0.5
    snr_range: tuple[Positive, Positive] = (0.01, 0.3)
    per_class: Annotated[int, Field(ge=6, le=100_000)] = 60
    neighbours: Neighbours = 2
    box: Box | None = None
    voxel_size_A: Positive | None = None
    epochs: Annotated[int, Field(ge=1)] = 20
    seed: Annotated[int, Field(ge=0, lt=2**30)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.snr_range[0] > self.snr_range[1]:
            raise ValueError(f"snr_range must rise; got {self.snr_range}")
        if not [label for label in self.classes if label != NULL_CLASS]:
            raise ValueError("at least one structure is needed besides null")
        if self.classes.get(NULL_CLASS, NULL_CLASS) != NULL_CLASS:
            raise ValueError("null is no macromolecule and has no structure: rename that class")
        return self

    @property
    def all_classes(self) -> dict[str, str]:
        """The classes with ``null``, which is the last one where it was not named."""
        return {**self.classes, NULL_CLASS: NULL_CLASS}


class ClassifyOptions(BaseModel):
    """What is done with one tomogram.

    Parameters
    ----------
    tomogram
        The file.
    particles
        A list of particles in it; picked where None.
    source
        See :class:`SourceOptions`.
    picking
        Where nothing is listed; None chooses σ from the structures' diameters.
    voxel_size_A
        Of the tomogram in Å, where its header does not know it.
    contrast
        Its sign: ``measure``, or stated.
    border
        What becomes of boxes that reach out of the tomogram: see
        :func:`~tomadapt.tomograms.extraction.extract`.
    pixel_size_A, tomograms_star
        How the list is to be understood: see
        :func:`~tomadapt.tomograms.positions.listed_positions`.
    also
        Formats beside STAR that the labelled particles are written in.
    match_noise
        Train on noise with the power spectrum of this tomogram between its particles. For
        tomograms whose noise is far from that of a simulation; the model then serves no other.
    tilt_series_pixel_size_A
        In whose pixels picks are written; the tomogram's voxels where None.
    adapt
        Options of Algorithm 1; the seed is the source's.
    method
        ``likelihood``; or a network: ``source_only``, ``target_statistics`` or ``ada``, trained on
        a source that is simulated for the tomogram. ``student``, of cubes alone, is a network that
        learns from the likelihood.
    fdr
        Of each structure the particles are labelled up to this false-discovery rate; all that are
        more probably it than anything else where None. Of ``likelihood`` alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tomogram: InputPath
    particles: InputPath | None = None
    source: SourceOptions
    picking: PickingConfig | None = None
    voxel_size_A: Positive | None = None
    contrast: Contrast = "measure"
    border: Literal["pad", "drop"] = "pad"
    pixel_size_A: Positive | None = None
    tomograms_star: Path | None = None
    also: tuple[Literal["csv", "copick", "ome-zarr"], ...] = ()
    match_noise: bool = False
    tilt_series_pixel_size_A: Positive | None = None
    adapt: AdversarialOptions = AdversarialOptions(batch_size=32)
    method: Method = "likelihood"
    fdr: Annotated[float | None, Field(gt=0, lt=1)] = None
