"""Lists of particles: positions and poses from other programs' files, and files with results.

One module a format; ``model`` says which coordinates and rotations all of them are turned into.
"""

from tomadapt.io.particle_lists.copick import write_copick
from tomadapt.io.particle_lists.csv_lists import write_csv
from tomadapt.io.particle_lists.model import Dialect, ParticleList, RowProblem
from tomadapt.io.particle_lists.reading import read_particles
from tomadapt.io.particle_lists.writing import write_star

__all__ = [
    "Dialect",
    "ParticleList",
    "RowProblem",
    "read_particles",
    "write_copick",
    "write_csv",
    "write_star",
]
