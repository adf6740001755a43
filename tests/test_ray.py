"""Shards on a real Ray cluster of this machine, whose workers and driver are killed."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from support import ray_processes
from support.cli import NASNET, WATCHDOG
from support.shards import content, make_photos, states_of, status
from support.waiting import wait_until

pytest.importorskip("ray", reason="the extra `ray` is not installed")


@pytest.fixture
def start():
    """A function that starts a command, which is killed at the end if it still runs."""
    started = []

    def begin(command):
        process = subprocess.Popen(
            [*NASNET, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(WATCHDOG)


def test_job_survives_killed_workers_and_drivers(nasnet, start, tiny_module, tmp_path):
    photos, job = tmp_path / "photos", tmp_path / "job"
    make_photos(photos, 300)
    sharded = ("classify", photos, "-m", tiny_module, "--shards", 30, "--out")
    nasnet(*sharded, tmp_path / "expected", expect=0)
    command = (*sharded, job, "--engine", "ray", "--workers-per-node", 2)

    driver = start(command)
    wait_until(lambda: list(job.glob("shard-*.json")), driver)
    wait_until(lambda: len(ray_processes.workers(driver.pid)) == 2, driver)
    first = ray_processes.workers(driver.pid)
    os.kill(first[0], signal.SIGKILL)
    # A worker takes the place of the one that died, and the job goes on.
    wait_until(lambda: set(ray_processes.workers(driver.pid)) - set(first), driver)
    everyone = ray_processes.essential(driver.pid)
    driver.kill()
    driver.communicate(timeout=WATCHDOG)
    wait_until(lambda: not any(map(ray_processes.runs, everyone)))
    left = [state for state in states_of(status(job, expect=3)) if state != "done"]
    assert left

    driver = start(command)
    victims = wait_until(lambda: ray_processes.workers(driver.pid), driver)
    os.kill(victims[0], signal.SIGKILL)
    everyone = list(ray_processes.descendants(driver.pid))
    output, errors = driver.communicate(timeout=WATCHDOG)
    assert driver.returncode == 0, errors
    assert output == "" and len(errors.splitlines()) == 1, errors
    wait_until(lambda: not any(map(ray_processes.runs, everyone)))
    expected = {n: d for n, d in content(tmp_path / "expected").items() if n.startswith("shard")}
    assert {n: d for n, d in content(job).items() if n.startswith("shard")} == expected


def test_unreachable_cluster_is_an_error(nasnet, tiny_module, tmp_path):
    make_photos(tmp_path / "photos", 2)
    command = ("classify", tmp_path / "photos", "-m", tiny_module, "--shards", 1, "--engine", "ray")
    where = ("--out", tmp_path / "job", "--ray-address", "127.0.0.1:9")
    done = nasnet(*command, *where, expect=1)
    assert "127.0.0.1:9" in done.stderr and len(done.stderr.splitlines()) == 1


def test_missing_ray_is_an_error_that_says_what_to_install(
    nasnet_process, tiny_module, tmp_path, monkeypatch
):
    make_photos(tmp_path / "photos", 2)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "ray.py").write_text("raise ImportError('ray')")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path.rstrip(os.pathsep))
    command = ("classify", tmp_path / "photos", "-m", tiny_module, "--shards", 1, "--engine", "ray")
    done = nasnet_process(*command, "--out", tmp_path / "job", expect=1)
    assert "pip install 'nasnet-cli[ray]'" in done.stderr
