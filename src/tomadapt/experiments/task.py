"""A piece of work whose result is kept in a folder of its own, and found again by its key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from tomadapt.runs.digest import digest

KEY = "key"
"""The context in which a description is dumped for hashing."""


class Description(BaseModel):
    """A frozen description; what only says where a thing lies does not count in a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    not_in_key: ClassVar[frozenset[str]] = frozenset()
    """Fields that are left out of keys."""

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        return self.for_key(content) if info.context == KEY else content

    def for_key(self, content: dict[str, Any]) -> dict[str, Any]:
        """What counts of a dump of this."""
        return {name: value for name, value in content.items() if name not in self.not_in_key}


class Task(Description):
    """A description of work.

    Attributes
    ----------
    version
        Counted up when the same description comes to give another result: older runs are then not
        used.
    """

    kind: str

    version: ClassVar[int] = 1

    @property
    def key(self) -> str:
        """The name of the task's folder: its kind and a hash of all that its result depends on.

        The order of fields and of classes counts: labels are indices into the classes.
        """
        return f"{self.kind}-{digest(self.model_dump(mode='json', context=KEY))}"

    def for_key(self, content: dict[str, Any]) -> dict[str, Any]:
        """What counts of a dump of this, with the version of its code."""
        return super().for_key(content) | {"version": self.version}

    @property
    def requires(self) -> Sequence[Task]:
        """The tasks whose results this one reads."""
        return ()

    def check(self) -> None:
        """Refuse, before any task is run, what can be known to fail."""

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Do it, leaving artefacts in ``folder``, and return the measures for the record.

        A ``checkpoint.pt`` there is deleted once there is a record.
        """
        raise NotImplementedError
