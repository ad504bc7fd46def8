"""Run a phase through Ray's job submission (`RAY_ADDRESS=http://host:8265`).

The driver then runs on the cluster; the run folder must lie on a file system that the cluster sees at the same place. A
job that is interrupted here is stopped there.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shared.errors import InfiMmrError
from trainer.openrlhf_bridge.progress import Stage

NO_AGENT = "No available agent"
"""What Ray's job server says (2.55) while no node of it has its agent up."""
AGENT_SECONDS = 120.0


@contextlib.contextmanager
def submitted_lines(
    address: str,
    folder: Path,
    arguments: list[str],
    environment: dict[str, str],
    on_stage: Callable[[Stage], None] = lambda _: None,
) -> Iterator[tuple[Iterator[str], Callable[[], int]]]:
    """Submit the run in `folder` to the cluster at `address`; yields its output lines and a function for its status.

    `on_stage` is told while the job waits for a node.

    Raises:
        InfiMmrError: the cluster refuses the job.

    """
    from ray.job_submission import JobStatus, JobSubmissionClient

    spec_file = folder / "job.json"
    content = {"ray": {"address": "auto", "runtime_env": {"env_vars": environment}}, "arguments": arguments}
    spec_file.write_text(json.dumps(content), encoding="utf-8")
    try:
        client = JobSubmissionClient(address)
        driver = f"python -m trainer.openrlhf_bridge.driver {shlex.quote(str(spec_file))}"
        job = _submitted(client, on_stage, entrypoint=driver, runtime_env={"env_vars": environment})
    except (ConnectionError, RuntimeError) as error:
        raise InfiMmrError(f"{address} refuses the job: {error}", "See the cluster's dashboard") from error
    ended = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)
    try:
        yield _tail(client, job), lambda: 0 if client.get_job_status(job) == JobStatus.SUCCEEDED else 1
    finally:
        if client.get_job_status(job) not in ended:
            client.stop_job(job)


def _submitted(client: Any, on_stage: Callable[[Stage], None], **job: Any) -> str:
    """Id of a submitted job. A cluster that has just come up has nobody yet to take it, and is asked again."""
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return str(client.submit_job(**job))
        except RuntimeError as error:
            if NO_AGENT not in str(error) or time.monotonic() > deadline:
                raise
            on_stage(Stage("waiting for a node of the cluster that takes the job"))
            time.sleep(1.0)


def _tail(client: Any, job: str) -> Iterator[str]:
    """Log lines of a job, from Ray's asynchronous stream, until the job ends."""
    import asyncio

    loop = asyncio.new_event_loop()
    stream = client.tail_job_logs(job).__aiter__()
    rest = ""
    try:
        while True:
            try:
                rest += loop.run_until_complete(stream.__anext__())
            except StopAsyncIteration:
                break
            *lines, rest = rest.split("\n")
            yield from (f"{line}\n" for line in lines)
        if rest:
            yield rest
    finally:
        loop.close()
