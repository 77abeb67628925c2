"""A Dask client: workers on this machine, or a cluster that is already there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tomadapt.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def dask_client(workers: int, scheduler: str | None) -> Iterator[Client | None]:
    """A client, or None where one process in turn is enough.

    Parameters
    ----------
    workers
        Processes on this machine, each with one thread.
    scheduler
        Address of a running cluster; then ``workers`` must be 1.

    Raises
    ------
    ConfigError
        When both are given, or Dask is not installed, or nobody answers at the address.
    """
    if workers == 1 and scheduler is None:
        yield None
        return
    if workers > 1 and scheduler is not None:
        raise ConfigError(
            "--workers and --scheduler exclude each other", remedy="leave one of them out"
        )
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ConfigError(
            "Dask is not installed",
            expected="the extra `dask`",
            got=str(error),
            remedy="install it (pip install distributed), or leave out --workers and --scheduler",
        ) from error
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no Dask scheduler at {scheduler}",
                expected="an address such as tcp://host:8786",
                got=str(error) or type(error).__name__,
                remedy="start one with `dask scheduler`, or use --workers",
            ) from error
        with client:
            yield client
        return
    import dask

    # Dask tells workers to give freed memory back at once, and with that glibc maps every larger
    # tensor anew: half of the time went into the kernel.
    environment = dict(dask.config.get("distributed.nanny.pre-spawn-environ"))
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)
    # A port of its own: two runs on one machine cannot both use the usual one. What workers log
    # while they are closed looks like failures and is none.
    with (
        dask.config.set(
            {
                "distributed.nanny.pre-spawn-environ": environment,
                # A task that only waits at a worker counts as one that killed it.
                "distributed.scheduler.worker-saturation": 1.0,
            }
        ),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
