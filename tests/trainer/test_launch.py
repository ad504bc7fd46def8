"""The launcher's own promises: a tag on every process, nothing left behind, two runs that do not meet."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trainer.openrlhf_bridge import fork_server, job, launch
from trainer.openrlhf_bridge.agent_settings import SETTINGS, AgentSettings
from trainer.openrlhf_bridge.launch import (
    TAG,
    LaunchSpec,
    end_processes,
    ray_keywords,
    run,
    run_environment,
    sweep_scratch,
    tagged_processes,
)


def spec(folder, device="cpu", **more):
    return LaunchSpec(["--x"], folder, folder / "parts", AgentSettings(), device, **more)


def start(tag, code="import time; time.sleep(600)"):
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, TAG: tag})


def test_only_processes_with_the_runs_tag_are_ended_also_stubborn_ones():
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(99)"
    )
    mine, other = start("tag-a"), start("tag-b")
    deaf = subprocess.Popen(
        [sys.executable, "-c", stubborn], env={**os.environ, TAG: "tag-a"}, stdout=subprocess.PIPE, text=True
    )
    assert deaf.stdout is not None
    deaf.stdout.readline()
    try:
        assert {mine.pid, deaf.pid} <= set(tagged_processes("tag-a"))
        end_processes("tag-a", grace_seconds=1.0)
        assert mine.wait(10) == -15
        assert deaf.wait(10) == -9
        assert other.poll() is None
    finally:
        other.kill()


def test_a_supervised_run_has_no_agents_no_fork_server_and_every_core(tmp_path):
    rolled = run_environment(spec(tmp_path), "t", tmp_path)
    supervised = run_environment(LaunchSpec(["--x"], tmp_path, tmp_path / "parts", None, "cpu"), "t", tmp_path)
    assert rolled.keys() - supervised.keys() == {
        "INFI_MMR_AGENT",
        "INFI_MMR_FORK_SERVER",
        "RAY_worker_register_timeout_seconds",
    }
    assert supervised["OMP_NUM_THREADS"] == str(len(os.sched_getaffinity(0)))
    assert supervised["TORCH_EXTENSIONS_DIR"] == rolled["TORCH_EXTENSIONS_DIR"]


def test_without_cuda_a_run_gets_every_adaptation_and_with_it_the_stand_in_for_flash_attn_alone(tmp_path):
    cpu = run_environment(spec(tmp_path), "t", tmp_path)
    cuda = run_environment(spec(tmp_path, "cuda"), "t", tmp_path)
    assert cpu["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == cuda["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "0"
    assert cpu["INFI_MMR_CPU_COMPAT"] == "1"
    assert "cpu_compat/site" in cpu["PYTHONPATH"]
    assert cuda["INFI_MMR_CPU_COMPAT"] == "cuda"
    assert cuda["PYTHONPATH"] == cpu["PYTHONPATH"]
    assert not {"DS_ACCELERATOR", "OMP_NUM_THREADS", "VLLM_ENABLE_V1_MULTIPROCESSING"} & cuda.keys()
    assert fork_server.ADDRESS in cpu
    assert fork_server.ADDRESS not in cuda  # libraries that have seen a driver must not be forked
    joined = run_environment(spec(tmp_path, ray_address="127.0.0.1:1"), "t", tmp_path)
    assert fork_server.ADDRESS not in joined  # its workers are started by nodes that are up there
    for found in (cpu, cuda):
        assert found[TAG] == "t"
        assert AgentSettings().to_json() == found[SETTINGS]
        assert found["INFI_MMR_RECORDS"] == str(tmp_path / "parts")
        assert found["HF_HUB_OFFLINE"] == "1"


def test_a_private_instance_has_its_own_folder_and_loopback_and_a_cluster_gets_the_environment(tmp_path):
    private = ray_keywords(spec(tmp_path), {"A": "1"}, tmp_path)
    assert private["address"] == "local"
    assert private["_temp_dir"] == str(tmp_path / "ray")
    assert private["num_gpus"] == 1
    cluster = ray_keywords(spec(tmp_path, ray_address="10.0.0.1:6379"), {"A": "1"}, tmp_path)
    assert cluster == {"address": "10.0.0.1:6379", "runtime_env": {"env_vars": {"A": "1"}}}


def test_a_driver_that_fails_ends_with_its_status_its_last_error_and_no_scratch_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    without_imports = {"INFI_MMR_CPU_COMPAT": "", fork_server.ADDRESS: ""}
    broken = spec(tmp_path, environment=without_imports)
    monkeypatch.setattr(
        "trainer.openrlhf_bridge.launch.ray_keywords", lambda *_: {"address": "local", "no_such_keyword": 1}
    )
    heard = []
    looks = []
    ending = run(broken, heard.append, lambda: looks.append(len(heard)))
    assert ending.returncode != 0
    assert "no_such_keyword" in ending.trouble
    assert looks[-1] == len(heard)  # the last look is when everything has been heard
    assert "no_such_keyword" in (tmp_path / "openrlhf.log").read_text()
    assert not list(tmp_path.glob("mmr-*"))


def test_scratch_folders_of_killed_launchers_are_removed_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name, owner in (("mmr-dead", gone.pid), ("mmr-alive", os.getpid()), ("other", gone.pid)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "owner").write_text(str(owner))
    (tmp_path / "mmr-unknown").mkdir()
    sweep_scratch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mmr-alive", "mmr-unknown", "other"]


def test_a_driver_without_its_launcher_does_not_start(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "trainer.openrlhf_bridge.driver", str(tmp_path / "spec.json")],
        env={**os.environ, "INFI_MMR_LAUNCHER": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1


@pytest.mark.slow
def test_two_private_ray_instances_live_side_by_side(tmp_path):
    # Only Ray, no OpenRLHF: both start with free ports and folders of their own while the other is up.
    code = (
        "import json, sys\n"
        "from trainer.openrlhf_bridge.private_ray import start_private\n"
        "start_private(json.loads(sys.argv[1]))\n"
        "import ray; print(ray.get_runtime_context().gcs_address, flush=True)\n"
        "sys.stdin.readline()\n"
    )
    import json

    processes = []
    for name in ("a", "b"):
        folder = Path(f"/tmp/mmr-test-{os.getpid()}-{name}")
        keywords = ray_keywords(spec(tmp_path), {}, folder)
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", code, json.dumps(keywords)],
                env={**os.environ, TAG: f"two-{os.getpid()}", "RAY_USAGE_STATS_ENABLED": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    try:
        addresses = set()
        for process in processes:
            assert process.stdout is not None
            addresses.add(process.stdout.readline().strip())
        assert len(addresses) == 2
        assert all(address.startswith("127.0.0.1:") for address in addresses)
    finally:
        end_processes(f"two-{os.getpid()}")
        import shutil

        for name in ("a", "b"):
            shutil.rmtree(f"/tmp/mmr-test-{os.getpid()}-{name}", ignore_errors=True)
    assert tagged_processes(f"two-{os.getpid()}") == []


def test_an_interrupted_run_says_at_once_that_it_is_ending_and_how_to_go_on(tmp_path, monkeypatch, capsys):
    @contextlib.contextmanager
    def interrupted(*_):
        yield iter(["x\n"]), lambda: 0

    def look():
        os.kill(os.getpid(), signal.SIGTERM)  # of which a run is told as of Ctrl-C

    said_before = []

    def end(_):
        if threading.current_thread() is threading.main_thread():  # others still watch the run of another test
            said_before.append(capsys.readouterr().err)

    monkeypatch.setattr(launch, "_lines", interrupted)
    monkeypatch.setattr(launch, "end_processes", end)
    with pytest.raises(KeyboardInterrupt):
        run(spec(tmp_path), lambda _: None, look)
    assert said_before == [launch.ENDING]
    assert "--resume continues" in launch.ENDING


class YoungCluster:
    """A job server that nobody stands behind yet: it refuses the first two jobs, as Ray's does."""

    asked = 0

    def submit_job(self, **told):
        self.asked += 1
        if self.asked < 3:
            message = "Request failed with status code 500: No available agent to submit job, please try again later."
            raise RuntimeError(message)
        return f"job of {told['entrypoint']}"


def test_a_cluster_that_has_just_come_up_is_asked_again_and_the_wait_is_told(monkeypatch):
    monkeypatch.setattr(job.time, "sleep", lambda _: None)
    told = []
    assert job._submitted(YoungCluster(), told.append, entrypoint="driver") == "job of driver"
    assert {stage.text for stage in told} == {"waiting for a node of the cluster that takes the job"}
    monkeypatch.setattr(job, "AGENT_SECONDS", -1.0)
    with pytest.raises(RuntimeError, match="No available agent"):
        job._submitted(YoungCluster(), told.append, entrypoint="driver")


@pytest.mark.parametrize("end", [SystemExit(3), asyncio.CancelledError()])
def test_whatever_ends_the_reading_of_a_runs_lines_ends_the_wait_for_them(end):
    def lines():
        yield "sampling\n"
        raise end

    heard = []

    def wait():
        try:
            heard.extend(launch._between_looks(lines(), io.StringIO(), lambda: None))
        except BaseException as error:  # noqa: BLE001 - what it is, is the question
            heard.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(20)
    assert not waiting.is_alive()
    assert heard[-1] is end


def test_what_a_run_records_is_seen_while_its_log_is_silent_and_once_more_when_all_has_ended():
    looked, told = threading.Event(), []

    def lines():
        yield "sampling\n"
        assert looked.wait(60)  # Ray's head is gone, and with it every line
        yield "the end\n"

    def look():
        told.append("look")
        if "sampling" in told:
            looked.set()

    log = io.StringIO()
    for line in launch._between_looks(lines(), log, look):
        told.append(line.strip())  # noqa: PERF401 - `look` appends meanwhile
    assert "look" in told[told.index("sampling") : told.index("the end")]
    assert told[-1] == "look"
    assert log.getvalue() == "sampling\nthe end\n"
