"""What the commands share: options, checks of their values, and opening what they name.

Imports of the package's own modules are inside functions, so that ``--help`` is immediate.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tomadapt.data.subtomograms import LabelledSubtomograms

Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**31 - 1)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Snr = Annotated[
    float | None, typer.Option(help="Read a simulated set at this SNR instead of its own.")
]
VoxelSize = Annotated[
    float | None, typer.Option("--voxel-size", help="Å; counts before what the file says.")
]
ContrastOption = Annotated[
    str, typer.Option(help="Sign of the target's density: measure, positive or negative.")
]


def checked_defocus(defocus_um: float | None) -> float | None:
    """A defocus in µm: other programs write Å.

    Raises
    ------
    ConfigError
        When no microscope has it.
    """
    from tomadapt.errors import ConfigError

    if defocus_um is not None and not abs(defocus_um) <= 30:
        in_A = f": {defocus_um:g} Å are {defocus_um / 1e4:g} µm"
        raise ConfigError(
            "--defocus is no defocus in µm",
            expected="-30 to 30 µm, positive = underfocus",
            got=f"{defocus_um:g}",
            remedy="give it in µm" + (in_A if 1000 <= abs(defocus_um) <= 3e5 else ""),
        )
    return defocus_um


# What recorded particles or a tomogram, where they do not say it themselves.
TiltRange = Annotated[
    tuple[float, float] | None,
    typer.Option(help="First and last tilt in degrees, where the particles do not say them."),
]
TiltStep = Annotated[float | None, typer.Option(help="Degrees; 3 if not given.", min=0.1)]
Defocus = Annotated[
    float | None,
    typer.Option(
        callback=checked_defocus,
        help="µm (not Å), positive = underfocus; for cubes none where the CTF was corrected.",
    ),
]
Voltage = Annotated[
    float | None, typer.Option(min=50, max=1500, help="kV; 300 where nothing says it.")
]
Cs = Annotated[
    float | None,
    typer.Option(min=0, max=20, help="Spherical aberration, mm; 2.7 where nothing says it."),
]
AmplitudeContrast = Annotated[
    float | None, typer.Option(min=0, max=1, help="0.07 where nothing says it.")
]
Recipe = Annotated[str, typer.Option(help="default, or paper (Lin et al. 2019).")]


DEVICES = ("auto", "cpu", "cuda")
RECIPES = ("default", "paper")


_LONGEST, _END = 2000, 800


def on_one_line(message: str) -> str:
    """A message that is printable and of bounded length; its end, which is the remedy, is kept."""
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST - _END]} … {message[-_END:]}"
    return printable(" ".join(message.split()))


def printable(text: str) -> str:
    """Without what would steer a terminal, which names and labels of files may hold."""
    return "".join(character if character.isprintable() else "�" for character in text)


def warn(message: str) -> None:
    """Print a warning on one line."""
    typer.echo(f"tomadapt: warning: {on_one_line(message)}", err=True)


def warn_of_overfocus(defocus_um: float) -> None:
    """Say so where a defocus has the sign of overfocus: some programs count the other way."""
    from tomadapt.acquisition import overfocus

    if told := overfocus(defocus_um):
        warn(told)


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> str:
    from tomadapt.errors import ConfigError

    if value not in allowed:
        raise ConfigError(
            f"{option} has an unknown value",
            expected=" or ".join(allowed),
            got=value,
            remedy="choose one of these",
        )
    return value


def known_contrast(value: str) -> Any:
    return one_of("--contrast", value, ("measure", "positive", "negative"))


def require_one_process() -> None:
    import os

    from tomadapt.errors import ConfigError

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "this command runs in one process",
            expected="no torchrun",
            got=f"{os.environ['WORLD_SIZE']} processes",
            remedy="use torchrun for `train` and `adapt` only",
        )


def require_source_model(method: str, path: Path) -> None:
    from tomadapt.errors import ConfigError

    if method != "source_only":
        raise ConfigError(
            f"{path} is not a source model",
            expected="the output of `tomadapt train`",
            got=f"a model made by {method}",
            remedy="give the model from before adaptation",
        )


def checked_device(value: str) -> str:
    from tomadapt.errors import ConfigError

    if one_of("--device", value, DEVICES) == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(
                "--device cuda, but torch sees no such GPU",
                expected="a GPU and a build of torch for it",
                got=f"torch {torch.__version__}",
                remedy="use --device cpu, or install another build of torch",
            )
    return value


def open_labelled(path: Path, snr: float | None) -> LabelledSubtomograms:
    from tomadapt.simulate.dataset import open_set

    return open_set(path, snr=snr)


def open_unlabelled(path: Path, voxel_size: float | None, contrast: str, snr: float | None) -> Any:
    from tomadapt.inputs.particles import open_target

    chosen = known_contrast(contrast)
    return open_target(path, voxel_size_A=voxel_size, contrast=chosen, snr=snr)


def require_writable(out: Path, *, warn_if_there: bool = False) -> None:
    """Find out before work starts that an output file can be written."""
    from tomadapt.errors import OutputError
    from tomadapt.runs.atomic import output_folder

    if out.is_dir():
        raise OutputError(
            f"cannot write {out}", expected="a file", got="a folder", remedy="name a file in it"
        )
    output_folder(out.parent)
    if warn_if_there and out.exists():
        warn(f"{out} is there already and will be replaced")


_LARGEST_CUBE = 128


def holds_cubes(path: Path) -> bool:
    """Whether a path is a set of subtomograms, not a tomogram.

    A file of volumes is when it holds two or more equal cubes of at most 128 voxels; a tomogram is
    never so small. Whatever cannot be read is for the reader of tomograms to refuse.
    """
    from tomadapt.errors import TomadaptError
    from tomadapt.inputs.tomogram import holds_image, volume_shape

    suffix = path.suffix.lower()
    if path.is_dir():
        return not holds_image(path)
    if suffix in (".npy", ".npz", ".mrcs", ".star"):
        return True
    try:
        shape = volume_shape(path)
    except TomadaptError:
        return False
    if len(shape) == 4:
        return shape[0] > 1
    if len(shape) != 3:
        return False
    nz, ny, nx = shape
    return ny == nx <= _LARGEST_CUBE and nz >= 2 * ny and nz % ny == 0
