"""What other programs' files say of a project: tilts, exposure, defocus, optics of each tomogram.

``model`` has what is known of a tomogram, ``claims`` weighs what several files say of it,
``ecosystem`` finds which program a folder is of, one module a program reads its files, and
``project_file`` reads and writes the table.
"""

from tomadapt.project.ecosystem import import_project, program_of
from tomadapt.project.model import Project, TomogramEntry
from tomadapt.project.project_file import read_project, write_project

__all__ = [
    "Project",
    "TomogramEntry",
    "import_project",
    "program_of",
    "read_project",
    "write_project",
]
