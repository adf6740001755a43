"""The engine for a cluster: Ray actors that load the model once and run shards by number.

Only numbers, counts and error messages go through Ray. The actors read images and write outputs
themselves, so the job's folder and the images must have the same paths on every node. An actor
that dies (killed, out of memory, its node gone) is replaced and its shard is retried; when the
driver dies, running the same command again runs the shards without a marker.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
import socket
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.engines import Outcome
from nasnet_cli.jobs.shards.manifest import Manifest, open_manifest
from nasnet_cli.jobs.shards.shard import ShardRunner, record_failure
from nasnet_cli.jobs.spec import JobSpec, RunOptions

# The smallest store that Ray takes. Only a few numbers go through it.
_STORE_BYTES = 80 << 20

_CONNECT_SECONDS = 10


@dataclass(frozen=True)
class RaySettings:
    """Settings for the use of a cluster.

    address is a running cluster's (as ray.init takes it); if None, one is started on this machine
    and stopped at the end. Each node has workers_per_node actors with their own model. A shard is
    retried retries times when its worker dies or fails. decoders is the number of decoding threads
    in each worker, if None its share of the node's CPUs; batch_size is the number of images that
    they decode ahead.
    """

    address: str | None = None
    workers_per_node: int = 1
    retries: int = 2
    decoders: int | None = None
    batch_size: int | None = None


def run_on_ray(
    manifest: Manifest, spec: JobSpec, shards: Iterable[int], settings: RaySettings
) -> Iterator[Outcome]:
    """Run the shards on a cluster, and yield an Outcome for each as it is done or given up.

    Workers run spec, whatever the job's folder says, and refuse a manifest of other work.
    Raises NasnetError when Ray is not installed or the cluster cannot be reached.
    """
    with _cluster(settings) as ray:
        pool = _Pool(ray, manifest, spec, settings)
        try:
            yield from pool.run(iter(shards))
        finally:
            pool.close()


class ShardWorker:
    """The code of an actor: it loads the job's model once and runs a shard at a time."""

    def __init__(
        self, out: str, start: str, spec: JobSpec, decoders: int, batch_size: int | None
    ) -> None:
        self._out = Path(out)
        self._start = start
        self._spec = spec
        self._options = RunOptions(decoders, batch_size)
        self._runner: ShardRunner | None = None

    def run(self, shard: int) -> Outcome:
        """Run a shard."""
        try:
            manifest = open_manifest(self._out)
            if self._runner is None:
                os.chdir(self._start)  # where relative paths of models and labels begin
                self._runner = ShardRunner(manifest, self._spec, self._options, in_place=False)
            return Outcome(shard, self._runner.run(manifest, shard))
        except (NasnetError, OSError) as error:
            return Outcome(shard, None, str(error))


class _Pool:
    """Actors with one shard each, and the shards that wait."""

    def __init__(self, ray: Any, manifest: Manifest, spec: JobSpec, settings: RaySettings) -> None:
        self._ray = ray
        self._spec = spec
        self._manifest = manifest
        self._settings = settings
        nodes = [node for node in ray.nodes() if node["Alive"]]
        cpus = min(int(node["Resources"].get("CPU", 1)) for node in nodes) if nodes else 1
        # As many as let each node take exactly the actors that were asked for.
        self._cpus = max(1, cpus // settings.workers_per_node)
        self._size = settings.workers_per_node * len(nodes)
        self._retries: deque[int] = deque()
        self._failures: Counter[int] = Counter()
        self._running: dict[Any, tuple[Any, int]] = {}

    def run(self, shards: Iterator[int]) -> Iterator[Outcome]:
        idle = [self._actor() for _ in range(self._size)]
        while True:
            while idle and (shard := self._next(shards)) is not None:
                actor = idle.pop()
                self._running[actor.run.remote(shard)] = (actor, shard)
            if not self._running:
                return
            done, _ = self._ray.wait(list(self._running), num_returns=1)
            for reference in done:
                actor, shard = self._running.pop(reference)
                try:
                    outcome = self._ray.get(reference)
                except self._ray.exceptions.RayError as error:
                    outcome = Outcome(shard, None, f"its worker died ({type(error).__name__})")
                    with suppress(Exception):
                        self._ray.kill(actor)
                    actor = self._actor()
                idle.append(actor)
                if outcome.counts is None:
                    self._failures[shard] += 1
                    if self._failures[shard] <= self._settings.retries:
                        self._retries.append(shard)
                        continue
                    record_failure(self._manifest, shard, outcome.why)
                yield outcome

    def close(self) -> None:
        for actor, _ in self._running.values():
            with suppress(Exception):
                self._ray.kill(actor)

    def _next(self, shards: Iterator[int]) -> int | None:
        # Retries come last: by then the cause is gone, or has turned out to be everywhere.
        shard = next(shards, None)
        if shard is None and self._retries:
            return self._retries.popleft()
        return shard

    def _actor(self) -> Any:
        remote = self._ray.remote(ShardWorker)
        options = remote.options(num_cpus=self._cpus, scheduling_strategy="SPREAD")
        decoders = self._settings.decoders or self._cpus
        out = str(self._manifest.out.resolve())
        start, batch_size = str(Path.cwd()), self._settings.batch_size
        return options.remote(out, start, self._spec, decoders, batch_size)


@contextmanager
def _cluster(settings: RaySettings) -> Iterator[Any]:
    """Connect Ray; a cluster that was started here is stopped at the end."""
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
    with _without_ray_output():
        try:
            if address:
                _check_reachable(address)
                ray.init(address=address, **common)
            else:
                ray.init(
                    num_cpus=max(available_cores(), settings.workers_per_node),
                    include_dashboard=False,
                    object_store_memory=_STORE_BYTES,
                    **common,
                )
        except Exception as error:  # Ray raises many kinds; each means that there is no cluster
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            problem = (
                f"The Ray cluster {address} cannot be reached" if address else "Ray cannot start"
            )
            raise NasnetError(
                f"{problem}: {reason.splitlines()[0]}", "Check the cluster, and run again."
            ) from error
        try:
            yield ray
        finally:
            # Ray prints here, in this thread, what its own threads have collected.
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise OSError when nothing listens at an address: Ray itself would try for a quarter of an
    hour. With an address that it looks up (auto, local) it fails soon enough."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


def _prepare_environment(address: str | None) -> None:
    """Turn off telemetry and log lines. Ray reads these variables when it is imported."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address:
        # Each try takes forty seconds where something else than a cluster listens.
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    else:
        # A cluster that is started here listens; strangers must not run code through it.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


class _WithoutRay:
    """A standard stream without the lines of Ray's own threads: log_to_driver leaves some."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _without_ray_output() -> Iterator[None]:
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _WithoutRay(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
