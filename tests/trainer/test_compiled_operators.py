from __future__ import annotations

from trainer.openrlhf_bridge.compiled_operators import keep_operators, lend_operators, operators_cache


def compile_into(folder, *names, guarded=()):
    for name in names:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / f"{name}.so").write_bytes(b"compiled")
    for name in guarded:
        (folder / name / "lock").touch()


def test_a_run_lends_what_an_earlier_run_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))
    compile_into(lend_operators(tmp_path / "first", "cpu"), "fused_adam", "shm")
    assert keep_operators(tmp_path / "first", "cpu")
    lent = lend_operators(tmp_path / "second", "cpu")
    assert sorted(p.name for p in lent.glob("*/*.so")) == ["fused_adam.so", "shm.so"]
    assert not keep_operators(tmp_path / "second", "cpu"), "nothing new"


def test_a_killed_compilation_is_never_kept_and_blocks_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))
    compile_into(lend_operators(tmp_path / "killed", "cpu"), "fused_adam", guarded=("fused_adam",))
    assert not keep_operators(tmp_path / "killed", "cpu")
    assert list(lend_operators(tmp_path / "next", "cpu").iterdir()) == []


def test_a_guard_left_in_the_cache_is_not_lent(tmp_path, monkeypatch):
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))
    kept = operators_cache("cpu")
    kept.mkdir(parents=True)
    compile_into(kept, "shm", guarded=("shm",))
    lent = lend_operators(tmp_path / "run", "cpu")
    assert [p.name for p in lent.glob("*/*")] == ["shm.so"]


def test_more_operators_replace_fewer_and_devices_do_not_mix(tmp_path, monkeypatch):
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))
    compile_into(lend_operators(tmp_path / "a", "cpu"), "shm")
    assert keep_operators(tmp_path / "a", "cpu")
    compile_into(lend_operators(tmp_path / "b", "cpu"), "fused_adam")
    assert keep_operators(tmp_path / "b", "cpu")
    assert {p.name for p in operators_cache("cpu").glob("*")} == {"shm", "fused_adam"}
    assert not operators_cache("cuda").exists()
