"""The command line: parsing, checks and messages. The work is done elsewhere."""

# The commands of a module are the application's once it is imported; the order is that of --help.
from tomadapt.cli import tomograms, projects, classify, stages, recover, whole, checks, doctor  # noqa: F401, I001
from tomadapt.cli.app import app, main

__all__ = ["app", "main"]
