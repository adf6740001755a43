"""The engine for a cluster: Ray actors that load the model once and take shards by their numbers.

Nothing but numbers, counts and error messages goes through Ray: pictures are read and outputs
written by the actors themselves, so the folder of the job and the pictures must be reachable under
the same names on every node. An actor that dies (killed, out of memory, its node gone) is replaced
and its shard given out again; when the driver dies, a plain re-run does what has no marker.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.engines import Outcome
from nasnet_cli.jobs.run import Options
from nasnet_cli.jobs.shards.manifest import Manifest, open_manifest
from nasnet_cli.jobs.shards.shard import ShardRunner, record_failure, run_shard

# The least that Ray takes. What goes through its store is a few numbers.
_STORE_BYTES = 80 << 20

_KNOCK_SECONDS = 10


@dataclass(frozen=True)
class RaySettings:
    """How a cluster is used.

    address is a running cluster's (as ray.init takes it); without one, one is started on this
    machine and stopped at the end. Each node has workers_per_node actors with their own model.
    A shard is tried retries times more when its worker dies or fails. decoders is the number of
    decoding threads in each worker, its share of the node's processors unless given, and
    batch_size that of pictures which they decode ahead.
    """

    address: str | None = None
    workers_per_node: int = 1
    retries: int = 2
    decoders: int | None = None
    batch_size: int | None = None


def run_on_ray(
    manifest: Manifest, shards: Iterable[int], settings: RaySettings
) -> Iterator[Outcome]:
    """Does the shards on a cluster, and yields an Outcome for each as it is done or given up.

    Raises NasnetError when Ray is not installed or the cluster can't be reached.
    """
    with _cluster(settings) as ray:
        pool = _Pool(ray, manifest, settings)
        try:
            yield from pool.run(iter(shards))
        finally:
            pool.close()


class ShardWorker:
    """What runs in an actor: the job's model, loaded once, and a shard at a time."""

    def __init__(self, out: str, decoders: int, batch_size: int | None) -> None:
        self._out = Path(out)
        self._options = Options(decoders, batch_size)
        self._do: ShardRunner | None = None

    def run(self, shard: int) -> tuple[Mapping[str, int] | None, str]:
        """Does a shard: its counts, or in words why it can't be done."""
        from nasnet_cli.jobs.shards.doing import shard_runner

        try:
            manifest = open_manifest(self._out)
            if self._do is None:
                os.chdir(manifest.start)  # where relative names of models and labels begin
                self._do = shard_runner(manifest, options=self._options, in_place=False)
            return run_shard(manifest, shard, self._do), ""
        except (NasnetError, OSError) as error:
            return None, str(error)


class _Pool:
    """Actors, each with one shard under way, and the shards that wait."""

    def __init__(self, ray: Any, manifest: Manifest, settings: RaySettings) -> None:
        self._ray = ray
        self._manifest = manifest
        self._settings = settings
        nodes = [node for node in ray.nodes() if node["Alive"]]
        cpus = min(int(node["Resources"].get("CPU", 1)) for node in nodes) if nodes else 1
        # So many that a node takes just as many actors as were asked for.
        self._cpus = max(1, cpus // settings.workers_per_node)
        self._size = settings.workers_per_node * len(nodes)
        self._again: deque[int] = deque()
        self._failures: dict[int, int] = {}
        self._under_way: dict[Any, tuple[Any, int]] = {}

    def run(self, shards: Iterator[int]) -> Iterator[Outcome]:
        idle = [self._actor() for _ in range(self._size)]
        while True:
            while idle and (shard := self._next(shards)) is not None:
                actor = idle.pop()
                self._under_way[actor.run.remote(shard)] = (actor, shard)
            if not self._under_way:
                return
            done, _ = self._ray.wait(list(self._under_way), num_returns=1)
            for reference in done:
                actor, shard = self._under_way.pop(reference)
                try:
                    counts, why = self._ray.get(reference)
                except self._ray.exceptions.RayError as error:
                    counts, why = None, f"its worker died ({type(error).__name__})"
                    with suppress(Exception):
                        self._ray.kill(actor)
                    actor = self._actor()
                idle.append(actor)
                if counts is not None:
                    yield Outcome(shard, counts)
                elif self._may_try_again(shard):
                    self._again.append(shard)
                else:
                    record_failure(self._manifest, shard, why)
                    yield Outcome(shard, None, why)

    def close(self) -> None:
        for actor, _ in self._under_way.values():
            with suppress(Exception):
                self._ray.kill(actor)

    def _next(self, shards: Iterator[int]) -> int | None:
        # What failed comes last, but for the end of a long list: fresh shards find the fault's
        # cause gone, or show that it is everywhere.
        shard = next(shards, None)
        if shard is None and self._again:
            return self._again.popleft()
        return shard

    def _may_try_again(self, shard: int) -> bool:
        self._failures[shard] = self._failures.get(shard, 0) + 1
        return self._failures[shard] <= self._settings.retries

    def _actor(self) -> Any:
        remote = self._ray.remote(ShardWorker)
        options = remote.options(num_cpus=self._cpus, scheduling_strategy="SPREAD")
        decoders = self._settings.decoders or self._cpus
        out = str(self._manifest.out.resolve())
        return options.remote(out, decoders, self._settings.batch_size)


@contextmanager
def _cluster(settings: RaySettings) -> Iterator[Any]:
    """Ray, connected; a cluster that was started here is stopped at the end."""
    address = settings.address or os.environ.get("RAY_ADDRESS")
    _prepare_environment(address)
    try:
        import ray
    except ImportError as error:
        raise NasnetError(
            "Ray is not installed.", "Install it with: pip install 'nasnet-cli[ray]'"
        ) from error
    from nasnet_cli.runtime.base import available_cores

    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with _without_rays_lines():
        try:
            if address:
                _knock(address)
                ray.init(address=address, **common)
            else:
                ray.init(
                    num_cpus=max(available_cores(), settings.workers_per_node),
                    include_dashboard=False,
                    object_store_memory=_STORE_BYTES,
                    **common,
                )
        except Exception as error:  # Ray raises many kinds; each means that there is no cluster
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            first_line = said.splitlines()[0]
            where = f"The Ray cluster {address} can't be reached" if address else "Ray can't start"
            raise NasnetError(
                f"{where}: {first_line}", "See to the cluster, and run again."
            ) from error
        try:
            yield ray
        finally:
            # What Ray's threads have kept for it, it prints here, in this one.
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError when nobody listens at an address: Ray itself would try for a quarter of an
    hour. Addresses that Ray looks up (auto, local) it fails at soon enough."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()


def _prepare_environment(address: str | None) -> None:
    """No telemetry and no log lines. Before Ray is imported: it reads these then."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address:
        # Each try takes forty seconds, where something listens that is no cluster.
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    else:
        # What is started here listens; strangers shall not run code through it.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


class _OthersLines:
    """Standard output or error without what Ray's own threads write to it: log_to_driver leaves some."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _without_rays_lines() -> Iterator[None]:
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _OthersLines(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
