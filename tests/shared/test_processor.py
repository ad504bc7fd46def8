"""Numbers by processor: the units decide, not the name; what libraries were told to do without counts as absent."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared.processor import cpu_dtype, has_bfloat16_units, kernel_cache


@pytest.fixture(autouse=True)
def _told_nothing(monkeypatch):
    for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)


def processor(tmp_path, flags):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: anything\nflags\t\t: fpu sse2 {flags}\n")
    return path


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        ("avx2 fma", False),
        ("avx2 avx512f avx512_vnni", False),
        ("avx512f avx512_bf16", True),
        ("amx_bf16 amx_tile", True),
        ("avx512_bf16x", False),  # flags are words
    ],
)
def test_the_units_decide_not_the_name(tmp_path, flags, has):
    assert has_bfloat16_units(processor(tmp_path, flags)) is has


@pytest.mark.parametrize(
    ("variable", "value", "has"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", False),
        ("ONEDNN_MAX_CPU_ISA", "avx512_core", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", True),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", True),
        ("ONEDNN_MAX_CPU_ISA", "DEFAULT", True),
        ("ATEN_CPU_CAPABILITY", "avx2", False),
        ("ATEN_CPU_CAPABILITY", "default", False),
        ("ATEN_CPU_CAPABILITY", "avx512", True),
    ],
)
def test_a_processor_that_is_told_to_do_without_has_none(tmp_path, monkeypatch, variable, value, has):
    monkeypatch.setenv(variable, value)
    assert has_bfloat16_units(processor(tmp_path, "avx512f avx512_bf16")) is has


def test_where_nothing_is_known_of_the_processor_float32_is_taken(tmp_path):
    assert has_bfloat16_units(tmp_path / "absent") is False


def test_the_dtype_follows(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert cpu_dtype() == "float32"


def test_compiled_kernels_of_a_told_processor_have_a_folder_of_their_own(monkeypatch):
    assert kernel_cache() == {}
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert kernel_cache()["TORCHINDUCTOR_CACHE_DIR"].endswith("_avx2")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "chosen")
    assert kernel_cache() == {"TORCHINDUCTOR_CACHE_DIR": "chosen"}


def test_asking_the_processor_loads_nothing_heavy():
    code = "import shared.processor, sys; print(any(n in sys.modules for n in ('torch', 'numpy', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
