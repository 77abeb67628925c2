"""Cubes to be labelled by likelihood, with what is known of how they were recorded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tomadapt.classify.stacks import stacks_transfers
from tomadapt.data.subtomograms import Indices, Subtomograms
from tomadapt.inputs.particles import CONTRADICTED, open_target
from tomadapt.judge.groups import Transfers
from tomadapt.judge.judge import JudgeOptions, judge
from tomadapt.judge.noise import Noise
from tomadapt.judge.particles import judge_particles
from tomadapt.judge.rivals import Hypothesis
from tomadapt.judge.verdicts import Verdicts
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.recording import Recording, StatedRecording, contradiction, recording_of
from tomadapt.runs.atomic import output_folder
from tomadapt.tomograms.tilt_stacks import TiltStackExtraction, reconstruct_tilt_stacks


@dataclass(frozen=True, eq=False)
class SignedCubes:
    """Cubes with a sign."""

    data: Subtomograms
    sign: int

    def __len__(self) -> int:
        """Give their number."""
        return len(self.data)

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, n, n, n) float32, density positive."""
        return self.sign * self.data.read(indices)


@dataclass(frozen=True, eq=False)
class MeasuredCubes:
    """Cubes whose sign is left open, with what is known of how they were recorded."""

    data: Subtomograms
    recording: Recording
    points: MeasuredPoints
    transfers: Transfers | None = None
    stacks: TiltStackExtraction | None = None

    @classmethod
    def of(
        cls,
        path: Path,
        stated: StatedRecording,
        *,
        voxel_size_A: float | None,
        out: Path,
        device: torch.device,
    ) -> MeasuredCubes:
        """Open cubes, or make them of a STAR file of tilt stacks in ``out``.

        Parameters
        ----------
        path
            What :func:`~tomadapt.inputs.particles.open_target` opens, or a STAR file.
        stated
            What the user says of tilts and optics.
        voxel_size_A
            Where the file does not say it.
        out
            Where the cubes of tilt stacks are kept.
        device
            Of the measured points.
        """
        if path.suffix == ".star":
            if voxel_size_A is not None:
                warnings.warn(
                    f"--voxel-size {voxel_size_A:g} is not used: {path} says the size of its "
                    "stacks' pixels",
                    stacklevel=2,
                )
            return cls._of_stacks(path, out, device)
        data = _opened(path, voxel_size_A)
        recording = recording_of(data, stated)
        return cls(data, recording, recording.points(data, device=device))

    @classmethod
    def _of_stacks(cls, path: Path, out: Path, device: torch.device) -> MeasuredCubes:
        """Tilt stacks say what was let through themselves, tilt series by tilt series."""
        file = output_folder(out) / "whitened.npy"
        made = reconstruct_tilt_stacks(path, contrast="positive", whitened=True, out=file)
        data = _opened(file, made.voxel_size_A)
        recording = Recording(made.acquisition, ctf_corrected=True)
        points, transfers = stacks_transfers(made, device)
        return cls(data, recording, points, transfers, made)

    def noise(self) -> Noise:
        """Measured in the cubes themselves, with the signal of their particles."""
        measured = None if self.transfers is None else self.transfers.measured
        return Noise.of(self.data, self.points, measured=measured)

    def judged(
        self,
        sign: int,
        structures: Sequence[Hypothesis],
        noise: Noise,
        options: JudgeOptions,
        progress: Callable[[str, int, int], None],
    ) -> Verdicts:
        """What the likelihood says of the cubes.

        Parameters
        ----------
        sign
            Of the cubes' density.
        structures
            The named ones on the cubes' grid.
        noise
            As :meth:`noise` measures it.
        options, progress
            As for :func:`~tomadapt.judge.judge.judge`.
        """
        cubes, voxel_size_A = SignedCubes(self.data, sign), self.data.voxel_size_A
        if self.transfers is None:
            recording = self.recording
            return judge_particles(
                cubes,
                structures,
                noise,
                acquisition=None if recording.ctf_corrected else recording.acquisition,
                voxel_size_A=voxel_size_A,
                options=options,
                progress=progress,
            )
        # Images of tilt stacks were divided by their noise: little of it is left to measure.
        return judge(
            cubes,
            structures,
            noise,
            acquisition=None,
            voxel_size_A=voxel_size_A,
            transfers=self.transfers,
            options=options,
            progress=progress,
        )

    def contradiction(self, stated: StatedRecording) -> str | None:
        """What is wrong, or of no use, in what was stated; None where nothing is."""
        if self.stacks is None:
            return contradiction(self.data, self.recording)
        if stated == StatedRecording():
            return None
        return (
            "tilts and optics were stated, and are not used: the file of the tilt stacks says how "
            "each series was recorded"
        )

    @property
    def summary(self) -> dict[str, str]:
        """What matters of the recording, as text."""
        if self.stacks is None:
            return self.recording.summary
        recorded = self.stacks.acquisitions.values()
        tilts = [t for a in recorded for t in (a.tilt_angles_deg[0], a.tilt_angles_deg[-1])]
        defoci = [a.defocus_um for a in recorded]
        return {
            "tilt series": str(len(defoci)),
            "tilts": f"{min(tilts):.0f}° to {max(tilts):.0f}° about y, as the file says of each",
            "CTF": f"of each image, as the file says: {min(defoci):.1f} to {max(defoci):.1f} µm",
        }


def _opened(path: Path, voxel_size_A: float | None) -> Subtomograms:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", CONTRADICTED)  # the likelihood measures the sign
        return open_target(path, voxel_size_A=voxel_size_A, contrast="positive")
