"""A run is handed to a real Ray job server: its lines come back, its end is told, and one that is left is stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from shared.errors import InfiMmrError
from trainer.openrlhf_bridge.job import submitted_lines

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_cluster_that_does_not_answer_is_named(tmp_path):
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(InfiMmrError, match=f"{address} refuses the job"), submitted_lines(address, tmp_path, [], {}):
        pytest.fail("nothing was submitted")


def start_node(log):
    """A head, the addresses of its job server and of the agent that takes jobs, and the port of its client server."""
    port, dashboard, agent, client = (free_port() for _ in range(4))
    words = ["--head", "--block", f"--port={port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    words += [f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"]
    words += ["--include-dashboard=true", "--num-cpus=2", f"--object-store-memory={100 * 2**20}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment.pop("RAY_ADDRESS", None)
    node = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *words],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return node, f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{agent}", client


def end_node(node):
    node.terminate()
    try:
        node.wait(30)
    finally:
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGKILL)


def answers(url):
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def listens(port):
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def job_server(tmp_path_factory):
    """Address of a job server on a node of its own. A part that misses its deadline on a busy machine ends a node."""
    log = tmp_path_factory.mktemp("ray") / "log"
    for _ in range(3):
        with log.open("w") as out:
            node, address, agent, client = start_node(out)
        try:
            for _ in range(240):
                urls = (f"{address}/api/version", f"{agent}/api/local_raylet_healthz")
                if all(answers(url) for url in urls) and listens(client):
                    yield address
                    return
                if node.poll() is not None:
                    break
                time.sleep(0.5)
        finally:
            end_node(node)
    pytest.fail(log.read_text())


@pytest.mark.slow
def test_a_submitted_run_tells_its_lines_and_its_end(job_server, tmp_path):
    with submitted_lines(job_server, tmp_path, ["--no.such.argument", "1"], {"INFI_MMR_TEST": "1"}) as (lines, status):
        told = list(lines)
        assert status() == 1
    assert (tmp_path / "job.json").is_file()
    assert any("Error" in line or "error" in line for line in told), told


@pytest.mark.slow
def test_a_submitted_run_that_is_left_is_stopped_there(job_server, tmp_path):
    from ray.job_submission import JobStatus, JobSubmissionClient

    with pytest.raises(KeyboardInterrupt), submitted_lines(job_server, tmp_path, [], {}):
        raise KeyboardInterrupt
    client = JobSubmissionClient(job_server)
    for _ in range(120):
        if all(job.status in (JobStatus.STOPPED, JobStatus.FAILED) for job in client.list_jobs()):
            break
        time.sleep(0.5)
    assert any(job.status == JobStatus.STOPPED for job in client.list_jobs())
