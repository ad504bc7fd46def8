"""Processes of a local run come from one import: their arguments, environment, status, and what happens without it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from trainer.openrlhf_bridge import fork_server
from trainer.openrlhf_bridge.launch import with_bytecode
from trainer.openrlhf_bridge.private_ray import with_forked_workers

ROOT = str(Path(__file__).parents[2])


def python(code, *arguments, **variables):
    environment = {**os.environ, "PYTHONPATH": ROOT, **variables}
    words = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


def gone(process):
    """Whether a process ends within a while."""
    for _ in range(200):
        if not Path(f"/proc/{process}").exists():
            return True
        time.sleep(0.1)
    return False


SERVE = """
    import os, subprocess, sys
    from pathlib import Path
    from trainer.openrlhf_bridge import fork_server
    folder = Path(sys.argv[1])
    fork_server.MODULES = ("statistics",)
    fork_server.serve(str(folder / "fork"))
"""


def test_a_ray_worker_is_forked_with_its_own_arguments_and_environment_and_its_status_is_passed_on(tmp_path):
    (tmp_path / "default_worker.py").write_text(
        "import os, sys\n"
        "imported = 'statistics' in sys.modules\n"  # by the server: this file imports nothing
        "print(__name__, sys.argv[1:], os.environ['WORKER'], 'ONLY_SERVER' in os.environ, imported, flush=True)\n"
        "sys.exit(3)\n"
    )
    code = (
        SERVE
        + """
    words = ["setup_worker.py", str(folder / "default_worker.py"), "--node-id=1", "--language=PYTHON"]
    words += ["--serialized-runtime-env-context={}"]
    environment = {**os.environ, fork_server.ADDRESS: str(folder / "fork"), "WORKER": "7"}
    del environment["ONLY_SERVER"]
    door = [sys.executable, "-m", "trainer.openrlhf_bridge.fork_server", *words]
    print(subprocess.run(door, env=environment).returncode)
    """
    )
    ran = python(code, tmp_path, ONLY_SERVER="1")
    assert ran.stdout.splitlines() == ["__main__ ['--node-id=1'] 7 False True", "3"], ran.stderr


def test_an_engine_process_is_forked_and_joined_like_any_process_of_multiprocessing(tmp_path):
    (tmp_path / "engine.py").write_text(
        "import os, sys\n"
        "def run(given):\n"
        "    print(given, os.environ['ENGINE'], os.getppid(), flush=True)\n"
        "    sys.exit(5)\n"
    )
    code = (
        SERVE
        + """
    sys.path.insert(0, str(folder))
    import engine
    os.environ["ENGINE"] = "tiny"  # set after the server was forked
    process = fork_server.context(str(folder / "fork")).Process(target=engine.run, kwargs={"given": [1, 2]})
    process.start()
    process.join()
    print(process.exitcode, process.is_alive())
    """
    )
    lines = python(code, tmp_path).stdout.splitlines()
    assert lines[0].startswith("[1, 2] tiny ")
    assert lines[1] == "5 False"


def test_the_server_does_not_load_ray_whose_library_keeps_a_workers_identity_from_its_first_import(tmp_path):
    code = SERVE + "    print('ray' in sys.modules, len(os.listdir('/proc/self/task')))\n"
    assert python(code, tmp_path).stdout.split() == ["False", "1"]  # and has one thread: it may be forked
    assert not any(name.split(".")[0] in {"ray", "openrlhf"} for name in fork_server.MODULES)


def test_the_server_ends_with_the_process_that_started_it(tmp_path):
    code = SERVE + "    print(Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text())\n"
    assert gone(int(python(code, tmp_path).stdout)), "the server outlived its parent"


def test_a_worker_with_a_runtime_environment_of_its_own_is_started_by_rays_own_script(tmp_path):
    setup = tmp_path / "setup_worker.py"
    setup.write_text("import sys; print('setup', sys.argv[1:])\n")
    words = [str(setup), "default_worker.py", "--language=PYTHON", '--serialized-runtime-env-context={"env_vars": {}}']
    ran = subprocess.run(
        [sys.executable, "-m", "trainer.openrlhf_bridge.fork_server", *words],
        env={**os.environ, "PYTHONPATH": ROOT, fork_server.ADDRESS: str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.strip() == f"setup {words[1:]}", ran.stderr


def test_a_worker_that_waits_for_the_server_ends_with_whoever_wanted_it(tmp_path):
    code = """
    import subprocess, sys, time
    words = [sys.executable, "-m", "trainer.openrlhf_bridge.fork_server", "setup.py", "default_worker.py"]
    print(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)
    time.sleep(3)  # until it waits
    """
    waiting = int(python(code, **{fork_server.ADDRESS: str(tmp_path / "never")}).stdout)
    assert gone(waiting), "it waits for a server that nobody will start"


def test_a_worker_whose_raylet_was_gone_before_it_began_ends_at_once(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    words = [sys.executable, "-m", "trainer.openrlhf_bridge.fork_server", "setup.py", "default_worker.py"]
    variables = {"PYTHONPATH": ROOT, fork_server.ADDRESS: str(tmp_path / "never"), "RAY_RAYLET_PID": str(ended.pid)}
    assert subprocess.run(words, env={**os.environ, **variables}, timeout=60, check=False).returncode == 1


def test_the_raylets_command_goes_through_the_door_and_other_options_stay():
    told = with_forked_workers("--python_worker_command=/bin/python /ray/setup_worker.py /ray/default_worker.py --a=1")
    assert told == (
        "--python_worker_command=/bin/python -m trainer.openrlhf_bridge.fork_server "
        "/ray/setup_worker.py /ray/default_worker.py --a=1"
    )
    assert with_forked_workers("--java_worker_command=x y") == "--java_worker_command=x y"


def test_where_python_may_keep_nothing_a_run_keeps_its_bytecode_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path))
    assert with_bytecode({}) == {}
    kept = with_bytecode({"PYTHONDONTWRITEBYTECODE": "1"})
    assert kept == {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")}
