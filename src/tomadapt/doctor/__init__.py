"""An audit of files and the machine: what a user can know before anything is computed.

One module a kind of file; ``audit`` runs them, and ``findings`` is what they give.
"""

from tomadapt.doctor.audit import examine
from tomadapt.doctor.findings import Audit, Finding, Report

__all__ = ["Audit", "Finding", "Report", "examine"]
