"""What tells cubes from others, so that labels are not used with cubes that they are not of."""

from __future__ import annotations

from dataclasses import dataclass

from tomadapt.data.subtomograms import VolumeSource

DIGEST_KEY = "cubes_digest"
"""Which cubes labels are of: a column of labels, the same in every row, and in ``summary.json``."""


def key_of(source: VolumeSource) -> str:
    """A digest that tells cubes from others, whatever sign or SNR they are read with."""
    return source.voxels


@dataclass(frozen=True)
class CubeKeys:
    """The last columns of a table with a row a cube: which cubes they are.

    Attributes
    ----------
    digest
        Of all cubes, see :func:`key_of`; empty where there is none.
    files
        The name of each cube's file; empty where they have none of their own.
    """

    digest: str
    files: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return [*([DIGEST_KEY] if self.digest else []), *(["file"] if self.files else [])]

    def of(self, index: int) -> list[str]:
        """The cells of a cube."""
        return [*([self.digest] if self.digest else []), *self.files[index : index + 1]]
