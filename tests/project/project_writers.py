"""Projects of each ecosystem, written as its programs write them, with a truth to compare with.

Sources are those that the readers in ``tomadapt.project`` cite. RELION's rows are laid out as in
the test project of its ``tomography_python_programs``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomadapt.io.mrc_writing import write_mrc

VOXEL_A, PIXEL_A, BINNING = 10.0, 1.25, 8.0
SIZE_XYZ = (16, 20, 6)
EXPOSURE = 2.9
VOLTAGE, CS, AMPLITUDE = 300.0, 2.7, 0.1
HALF_ASTIGMATISM_UM, ASTIGMATISM_DEG = 0.04, 35.0
RANGES = ((-60, 60, 3), (-54, 54, 2), (-48, 60, 3))
INVERTED = 4
"""Which of the tomograms is inverted."""


@dataclass(frozen=True, eq=False)
class Truth:
    """One tilt series, its rows in the order of ascending angles."""

    name: str
    angles_deg: NDArray[np.float64]
    order: NDArray[np.int64]
    defocus_um: NDArray[np.float64]
    inverted: bool

    @property
    def before(self) -> NDArray[np.float64]:
        """Exposure before each tilt."""
        return self.order * EXPOSURE

    @property
    def u_A(self) -> NDArray[np.float64]:
        return (self.defocus_um + HALF_ASTIGMATISM_UM) * 1e4

    @property
    def v_A(self) -> NDArray[np.float64]:
        return (self.defocus_um - HALF_ASTIGMATISM_UM) * 1e4


def truths(count: int = 12) -> list[Truth]:
    """Tilt series of different tilts and defoci, recorded outwards from 0°."""
    made = []
    for number in range(count):
        first, last, step = RANGES[number % len(RANGES)]
        angles = np.arange(first, last + 1, step, dtype=float)
        order = np.argsort(np.argsort(np.abs(angles - 0.1), kind="stable"))
        defocus = 2.0 + 0.3 * number + 0.002 * np.round(10 * np.sin(angles))
        made.append(
            Truth(f"TS_{number + 1:02d}", angles, order, defocus, inverted=number == INVERTED)
        )
    return made


def volume(path: Path, voxel_A: float = VOXEL_A) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y, z = SIZE_XYZ
    write_mrc(path, np.zeros((z, y, x), dtype=np.float32), voxel_size_A=voxel_A)


def stack(path: Path, tilts: int, pixel_A: float = PIXEL_A) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mrc(path, np.zeros((tilts, 8, 8), dtype=np.float32), voxel_size_A=pixel_A)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def star_loop(block: str, labels: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"_{label} #{n} \n" for n, label in enumerate(labels, start=1))
    body = "".join(" ".join(map(str, row)) + "\n" for row in rows)
    return f"\n# version 50001\n\ndata_{block}\n\nloop_ \n{head}{body} \n"


GENERAL_5 = (
    *("rlnTomoName", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"),
    *("rlnMicrographOriginalPixelSize", "rlnTomoHand", "rlnOpticsGroupName"),
    *("rlnTomoTiltSeriesPixelSize", "rlnTomoTiltSeriesStarFile", "rlnTomoTomogramBinning"),
    *("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ", "rlnTomoReconstructedTomogram"),
)
SERIES_5 = (
    *("rlnMicrographMovieName", "rlnTomoTiltMovieFrameCount", "rlnTomoNominalStageTiltAngle"),
    *("rlnTomoNominalTiltAxisAngle", "rlnMicrographPreExposure", "rlnTomoNominalDefocus"),
    *("rlnMicrographName", "rlnDefocusU", "rlnDefocusV", "rlnCtfAstigmatism", "rlnDefocusAngle"),
    *("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot", "rlnTomoXShiftAngst", "rlnTomoYShiftAngst"),
    "rlnCtfScalefactor",
)
JOB = "Tomograms/job006"


def write_relion5(folder: Path, made: Sequence[Truth], *, pre_tilt_deg: float = 0.0) -> Path:
    """A project with its jobs; an alignment may add a constant to all angles."""
    general = []
    for truth in made:
        series = f"{JOB}/tilt_series/{truth.name}.star"
        tomogram = f"{JOB}/tomograms/rec_{truth.name}.mrc"
        volume(folder / tomogram)
        x, y, z = (int(side * BINNING) for side in SIZE_XYZ)
        general.append(
            [
                *(truth.name, VOLTAGE, CS, AMPLITUDE, 0.675, 1.0 if truth.inverted else -1.0),
                *("optics1", PIXEL_A, series, BINNING, x, y, z, tomogram),
            ]
        )
        rows = []
        for row in np.argsort(truth.order):  # RELION's rows are in the order of recording
            angle, movie = truth.angles_deg[row], f"frames/{truth.name}_{row:03d}.eer"
            target = f"{-truth.defocus_um.mean():.3f}"
            u, v = truth.u_A[row], truth.v_A[row]
            rows.append(
                [
                    *(movie, 8, f"{angle + 0.001:.6f}", 85.0, f"{truth.before[row]:.6f}", target),
                    *(f"MotionCorr/job002/{movie}.mrc", f"{u:.6f}", f"{v:.6f}", f"{u - v:.6f}"),
                    *(ASTIGMATISM_DEG, 0.0, f"{angle + pre_tilt_deg:.6f}", 85.2, -64.1, 2.5),
                    f"{np.cos(np.radians(angle)):.6f}",
                ]
            )
        write(folder / series, star_loop(truth.name, SERIES_5, rows))
    write(folder / JOB / "tomograms.star", star_loop("global", GENERAL_5, general))
    return folder / JOB / "tomograms.star"


def write_relion4(folder: Path, made: Sequence[Truth]) -> Path:
    """One file with the tables of all images, and matrices in place of angles."""
    labels = ("rlnTomoName", "rlnTomoTiltSeriesName", "rlnTomoFrameCount", "rlnTomoSizeX")
    labels += ("rlnTomoSizeY", "rlnTomoSizeZ", "rlnTomoHand", "rlnTomoTiltSeriesPixelSize")
    labels += ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
    general = [
        [
            *(t.name, f"{t.name}.mrc", len(t.angles_deg), 128, 160, 48),
            *(1 if t.inverted else -1, PIXEL_A, VOLTAGE, CS, AMPLITUDE),
        ]
        for t in made
    ]
    text = star_loop("global", labels, general)
    columns = (*(f"rlnTomoProj{axis}" for axis in "XYZW"), "rlnDefocusU", "rlnDefocusV")
    columns += ("rlnDefocusAngle", "rlnCtfScalefactor", "rlnMicrographPreExposure")
    for t in made:
        rows = []
        for row, angle in enumerate(np.radians(t.angles_deg)):
            s, c = np.sin(angle), np.cos(angle)
            matrix = ("[0,-1,0,64]", f"[{c:.9f},0,{s:.9f},80]", f"[{-s:.9f},0,{c:.9f},24]")
            u, v = f"{t.u_A[row]:.4f}", f"{t.v_A[row]:.4f}"
            rows.append([*matrix, "[0,0,0,1]", u, v, ASTIGMATISM_DEG, 1, t.before[row]])
        text += star_loop(t.name, columns, rows)
    write(folder / "tomograms.star", text)
    return folder / "tomograms.star"


def grid(tag: str, values: Sequence[float]) -> str:
    nodes = "".join(f'<Node X="0" Y="0" Z="{z}" Value="{v:.6f}" />' for z, v in enumerate(values))
    sides = f'Width="1" Height="1" Depth="{len(values)}" MarginX="0" MarginY="0" MarginZ="0"'
    return f"\t<{tag} {sides}>{nodes}</{tag}>\n"


def write_warp(folder: Path, made: Sequence[Truth]) -> Path:
    """``tomostar/``, ``warp_tiltseries/`` with XML and reconstructions, two settings files."""
    for truth in made:
        names = [f"../warp_frameseries/{truth.name}_{n:03d}.eer" for n in range(len(truth.order))]
        rows = [
            [names[n], f"{a:.2f}", "85.000", f"{truth.before[n]:g}", "12.345", "0.000"]
            for n, a in enumerate(truth.angles_deg)
        ]
        columns = ("wrpMovieName", "wrpAngleTilt", "wrpAxisAngle", "wrpDose")
        columns += ("wrpAverageIntensity", "wrpMaskedFraction")
        head = "".join(f"_{label} #{n}\n" for n, label in enumerate(columns, start=1))
        body = "".join("  " + "  ".join(row) + "\n" for row in rows)
        write(folder / f"tomostar/{truth.name}.tomostar", f"\ndata_\n\nloop_\n{head}{body}")
        write(folder / f"warp_tiltseries/{truth.name}.xml", warp_xml(truth))
        volume(folder / f"warp_tiltseries/reconstruction/{truth.name}_10.00Apx.mrc")
        volume(folder / f"warp_tiltseries/reconstruction/deconv/{truth.name}_10.00Apx.mrc")
        volume(folder / f"warp_tiltseries/reconstruction/even/{truth.name}_10.00Apx.mrc")
        write(folder / f"warp_frameseries/{truth.name}_000.xml", "<Movie></Movie>")
    for name, extension, pixel in (("tiltseries", "*.tomostar", 1.25), ("frameseries", "*.eer", 9)):
        text = (
            '<?xml version="1.0" encoding="utf-8"?>\n<Settings>\n\t<Import>\n'
            f'\t\t<Param Name="Extension" Value="{extension}" />\n'
            f'\t\t<Param Name="PixelSize" Value="{pixel}" />\n'
            '\t\t<Param Name="BinTimes" Value="0" />\n\t</Import>\n</Settings>'
        )
        write(folder / f"warp_{name}.settings", text)
    return folder


def warp_xml(truth: Truth, unused: Sequence[int] = ()) -> str:
    def lines(values: Sequence[object]) -> str:
        return "\n".join(map(str, values))

    tilts = len(truth.angles_deg)
    used = [str(n not in unused) for n in range(tilts)]
    params = {"Window": 512, "RangeMin": 30, "Voltage": 300, "Cs": CS, "Amplitude": AMPLITUDE}
    options = {"PixelSize": PIXEL_A, "BinTimes": 0, **params}
    ctf = {"PixelSize": PIXEL_A, "Cs": CS, "Voltage": 300, "Defocus": truth.defocus_um.mean()}

    def section(tag: str, values: dict[str, object]) -> str:
        inner = "".join(f'\t\t<Param Name="{k}" Value="{v}" />\n' for k, v in values.items())
        return f"\t<{tag}>\n{inner}\t</{tag}>\n"

    return (
        '\ufeff<?xml version="1.0" encoding="utf-8"?>\n'
        f'<TiltSeries DataDirectory="/data/tomostar" AreAnglesInverted="{truth.inverted}" '
        'PlaneNormal="0, 0, 1" Bfactor="0" Weight="1" MagnificationCorrection="1, 0, 0, 1" '
        'UnselectFilter="False" UnselectManual="null" CTFResolutionEstimate="6.1">\n'
        f"\t<Angles>{lines([f'{a:g}' for a in truth.angles_deg])}</Angles>\n"
        f"\t<Dose>{lines([f'{b:g}' for b in truth.before])}</Dose>\n"
        f"\t<UseTilt>{lines(used)}</UseTilt>\n"
        f"\t<AxisAngle>{lines([85] * tilts)}</AxisAngle>\n"
        + section("OptionsCTF", options)
        + section("CTF", ctf)
        + grid("GridCTF", list(truth.defocus_um))
        + grid("GridCTFDefocusDelta", [2 * HALF_ASTIGMATISM_UM] * tilts)
        + grid("GridCTFDefocusAngle", [ASTIGMATISM_DEG] * tilts)
        + grid("GridCTFPhase", [0.0])
        + "</TiltSeries>"
    )


def mdoc(truth: Truth, *, pixel_A: float = PIXEL_A) -> str:
    """SerialEM's, its sections in the order of the stack."""
    text = f"PixelSpacing = {pixel_A}\nVoltage = 300\nVersion = SerialEM 4.1\n"
    text += f"ImageFile = {truth.name}.mrc\nImageSize = 4092 5760\nDataMode = 1\n\n"
    text += "[T = SerialEM: Digitized on a Krios     24-Jan-24  17:00:00    ]\n\n"
    text += "[T =     Tilt axis angle = 85.3, binning = 1  spot = 8  camera = 1]\n\n"
    for row, angle in enumerate(truth.angles_deg):
        minute, second = divmod(int(truth.order[row]) * 30, 60)
        text += (
            f"[ZValue = {row}]\nTiltAngle = {angle + 0.0012:.4f}\nStagePosition = 12.5 -40.25\n"
            f"Magnification = 53000\nExposureDose = {EXPOSURE}\nDefocus = -3.1\n"
            f"PixelSpacing = {pixel_A}\nTargetDefocus = {-truth.defocus_um.mean():.2f}\n"
            f"SubFramePath = X:\\frames\\{truth.name}_{row:03d}.eer\nNumSubFrames = 8\n"
            f"DateTime = 24-Jan-2024  17:{minute:02d}:{second:02d}\n\n"
        )
    return text


def defocus_file(truth: Truth, version: int = 3, flags: int = 1) -> str:
    """ctfplotter's, a row a view."""
    lines = [f"{flags}  0  0.0  0.0  0.0  3"] if version == 3 else []
    sign = -1 if flags & 16 else 1
    for row, angle in enumerate(truth.angles_deg):
        line = f"{row + 1}\t{row + 1}\t{sign * angle:.2f}\t{sign * angle:.2f}"
        if version == 3 and flags & 1:
            azimuth = np.radians(ASTIGMATISM_DEG) if flags & 2 else ASTIGMATISM_DEG
            line += f"\t{truth.u_A[row] / 10:.1f}\t{truth.v_A[row] / 10:.1f}\t{azimuth:.4f}"
        else:
            line += f"\t{1e3 * truth.defocus_um[row]:.1f}"
        lines.append(line + ("\t2" if version == 2 and row == 0 else ""))
    return "\n".join(lines) + "\n"


def ctf_command(truth: Truth) -> str:
    """etomo's ctfcorrection.com; the stack that is corrected is binned by 8."""
    return (
        "# Command file to run ctfphaseflip\n#\n####CreatedVersion####5.2.17\n#\n"
        f"$ctfphaseflip -StandardInput\nInputStack\t{truth.name}_ali.mrc\n"
        f"AngleFile\t{truth.name}.tlt\nOutputFileName\t{truth.name}_ctfcorr_ali.mrc\n"
        f"DefocusFile\t{truth.name}.defocus\n# Microscope voltage in kV\nVoltage\t300\n"
        f"SphericalAberration\t{CS}\nDefocusTol\t200\nPixelSize\t{VOXEL_A / 10}\n"
        f"UnbinnedPixelSize\t{PIXEL_A / 10}\nAmplitudeContrast\t{AMPLITUDE}\n"
        f"InterpolationWidth\t15\n{'InvertTiltAngles' if truth.inverted else ''}\n"
        "$if (-e ./savework) ./savework\n"
    )


def write_imod(folder: Path, made: Sequence[Truth]) -> Path:
    """A folder of etomo a tilt series."""
    for truth in made:
        inner, name = folder / truth.name, truth.name
        write(inner / f"{name}.rawtlt", "".join(f"{a:8.2f}\n" for a in truth.angles_deg))
        # The alignment has taken a pre-tilt off, and refined single tilts a little.
        tlt = truth.angles_deg + 0.25 * np.sign(truth.angles_deg)
        write(inner / f"{name}.tlt", "".join(f"{a:8.2f}\n" for a in tlt))
        write(inner / f"{name}.mrc.mdoc", mdoc(truth))
        write(inner / f"{name}.defocus", defocus_file(truth))
        write(inner / "ctfcorrection.com", ctf_command(truth))
        stack(inner / f"{name}.mrc", len(truth.angles_deg))
        volume(inner / f"{name}_rec.mrc")
        volume(inner / f"{name}_full_rec.mrc")
    return folder


def imod_angles(truth: Truth) -> NDArray[np.float64]:
    """What ``.tlt`` has."""
    return truth.angles_deg + 0.25 * np.sign(truth.angles_deg)


def write_aretomo(folder: Path, made: Sequence[Truth], dark: int = 0) -> Path:
    """AreTomo3's output folder; the first tilts may be dark, and are left out of the alignment."""
    metrics = (
        "Tilt_Series,Thickness(Pix),Tilt_Axis,Global_Shift(Pix),Bad_Patch_Low,Bad_Patch_All,"
        "Defocus(A),ExtPhase(Deg),CTF_Res(A),CTF_Score,DF_Hand,Pix_Size(A),Cs(nm),Kv,Alpha0,Beta0\n"
    )
    for truth in made:
        name, angles = truth.name, truth.angles_deg
        text = "# AreTomo Alignment / Priims bprmMn\n"
        text += f"# RawSize = 4092 5760 {len(angles)}\n# NumPatches = 0\n"
        for row in range(dark):
            text += f"# DarkFrame =  {row:4d} {row:4d} {angles[row]:8.2f}\n"
        text += "# AlphaOffset =     0.00\n# BetaOffset =     0.00\n# Thickness = 300\n"
        text += "# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE"
        text += "     BASE     TILT\n"
        rows = range(dark, len(angles))
        for row in rows:
            text += f"{row:5d}  {85.2:9.4f}  {1:9.5f}  {1.5:9.3f}  {-2.5:9.3f}  {1:7.2f}  "
            text += f"{1:7.2f}  {1:7.2f}  {0:7.2f}  {angles[row]:8.2f}\n"
        write(folder / f"{name}.aln", text)
        text = "".join(
            f"{angles[row]:8.2f}  {truth.order[row] + 1:4d}  {EXPOSURE:8.2f}\n"
            for row in range(len(angles))
        )
        write(folder / f"{name}_TLT.txt", text)
        hand = -1 if truth.inverted else 1
        text = "# Columns: #1 micrograph number; #2 - defocus 1 [A]; #3 - defocus 2; #8 - dfHand\n"
        imod = "1  0  0.0  0.0  0.0  3\n"
        for number, row in enumerate(rows, start=1):
            u, v, tilt = truth.u_A[row], truth.v_A[row], angles[row]
            text += f"{number:4d}   {u:8.2f}  {v:8.2f}  {ASTIGMATISM_DEG:8.2f}  {0:9.4f}  "
            text += f"{0.05:8.4f}  {8.1:8.4f}  {hand:3d}\n"
            imod += f"{number:4d}  {number:4d}  {tilt:7.2f}  {tilt:7.2f}  {v / 10:8.2f}  "
            imod += f"{u / 10:8.2f}  {ASTIGMATISM_DEG:7.2f}\n"
        write(folder / f"{name}_CTF.txt", text)
        write(folder / f"{name}_CTF_Imod.txt", imod)
        stack(folder / f"{name}.mrc", len(angles))
        volume(folder / f"{name}_Vol.mrc")
        metrics += f"{name}.mrc,    300,  85.20,    12.10,  0.00, 0.00,"
        metrics += f"{1e4 * truth.defocus_um[dark:].mean():8.1f},   0.0,  8.10,  0.0500,"
        metrics += f"{hand:2d},  {PIXEL_A:.2f}, {CS:.1f}, 300, 0.0, 0.0\n"
    write(folder / "TiltSeries_Metrics.csv", metrics)
    parameters = {"PixSize": PIXEL_A, "kV": 300, "Cs": CS, "FmDose": 0.36}
    parameters |= {"AtBin": [8.0, 0.0, 0.0], "AmpContrast": AMPLITUDE}
    session = {"software": {"name": "AreTomo3"}, "parameters": parameters}
    write(folder / "AreTomo3_Session.json", json.dumps(session, indent=5))
    return folder


def write_copick(folder: Path, made: Sequence[Truth]) -> Path:
    """A static root with two tomogram types and two voxel spacings, and its configuration."""
    from zarr_images import write_ome_zarr

    x, y, z = SIZE_XYZ
    for truth in made:
        run = folder / f"static/ExperimentRuns/{truth.name}"
        for spacing, side in ((VOXEL_A, 1), (5.0, 2)):
            for kind in ("denoised", "wbp"):
                path = run / f"VoxelSpacing{spacing:.3f}/{kind}.zarr"
                path.parent.mkdir(parents=True, exist_ok=True)
                shape = (side * z, side * y, side * x)
                write_ome_zarr(path, np.zeros(shape, np.float32), spacing, kind)
    config = {
        "name": "test", "config_type": "filesystem",
        "pickable_objects": [{"name": "ribosome", "is_particle": True, "label": 1}],
        "overlay_root": "local://overlay", "static_root": f"local://{folder}/static",
    }  # fmt: skip
    write(folder / "config.json", json.dumps(config))
    return folder


def write_portal(folder: Path, made: Sequence[Truth]) -> Path:
    """A dataset of the CryoET Data Portal."""
    for truth in made:
        run = folder / truth.name
        sections = [
            {
                "z_index": row,
                "frame_acquisition_order": int(truth.order[row]),
                "raw_angle": float(angle),
                "astigmatic_angle": ASTIGMATISM_DEG,
                "major_defocus": float(truth.u_A[row]),
                "minor_defocus": float(truth.v_A[row]),
                "phase_shift": 0.0,
            }
            for row, angle in enumerate(truth.angles_deg)
        ]
        series = {
            "acceleration_voltage": 300000,
            "spherical_aberration_constant": CS,
            "pixel_spacing": PIXEL_A,
            "total_flux": EXPOSURE * len(sections),
            "per_section_parameter": sections,
        }
        write(run / "TiltSeries/100/tiltseries_metadata.json", json.dumps(series))
        raw = "".join(f"{a:.2f}\n" for a in truth.angles_deg)
        write(run / f"TiltSeries/100/{truth.name}.rawtlt", raw)
        tomograms = run / "Reconstructions/VoxelSpacing10.000/Tomograms/100"
        volume(tomograms / f"{truth.name}.mrc")
        write(tomograms / "tomogram_metadata.json", json.dumps({"voxel_spacing": VOXEL_A}))
    return folder
