from __future__ import annotations

import subprocess
import sys

import pytest

from shared.config import Strict, build_model, merge, parse_override, pick_profile, read_toml
from shared.errors import UsageError


class Engine(Strict):
    model: str = "m"
    batch_size: int = 8


class Sample(Strict):
    name: str
    limit: int = 0
    engine: Engine = Engine()
    benchmarks: dict[str, Engine] = {}  # noqa: RUF012 - pydantic copies defaults
    other: Engine | None = None


def write(tmp_path, text):
    file = tmp_path / "sample.toml"
    file.write_text(text)
    return file


def load(file, overrides=(), profile=None):
    return build_model(read_toml(file), Sample, overrides, profile=profile, file=file.name)


def test_the_profile_table_lies_over_common_values_and_overrides_over_both(tmp_path):
    file = write(
        tmp_path,
        'name = "a"\nlimit = 1\n[engine]\nmodel = "big"\n[profile.local]\nlimit = 2\n'
        '[profile.local.engine]\nmodel = "tiny"\n[profile.full]\nlimit = 3\n',
    )
    assert load(file, profile="full").limit == 3
    local = load(file, ["engine.batch_size=16", "name=bare words"], profile="local")
    assert (local.limit, local.engine.model, local.engine.batch_size, local.name) == (2, "tiny", 16, "bare words")


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ('name = "a"\nlimt = 1\n', [], "recipe sample.toml: unknown key limt. Did you mean limit?"),
        ('name = "a"\n[engine]\nmodle = "x"\n', [], "unknown key engine.modle. Did you mean engine.model?"),
        ('name = "a"\n[benchmarks.b]\nmodle = "x"\n', [], "Did you mean benchmarks.b.model?"),
        ('name = "a"\n[other]\nmodle = "x"\n', [], "Did you mean other.model?"),
        (
            'name = "a"\n',
            ["engine.bach_size=1"],
            "--set: unknown key engine.bach_size. Did you mean engine.batch_size?",
        ),
        ('name = "a"\n', ["limit=many"], "--set: limit = 'many'"),
        ("limit = 1\n", [], "the key name is missing"),
        ("name = \n", [], "is not valid TOML"),
        ("nmae = 'a'\n", [], "unknown key nmae. Did you mean name?"),
        ("\ufeffname = 'a'\nlimit = 'x'\n", [], "limit = 'x'"),  # as Windows' editors save it
        ('name = "a"\n[profile.ful]\nlimit = 1\n', [], "unknown profile table [profile.ful]"),
        ('name = "a"\n', ["limit"], "is not KEY=VALUE"),
    ],
)
def test_wrong_words_are_answered_with_the_right_ones(tmp_path, text, overrides, expected):
    with pytest.raises(UsageError) as caught:
        load(write(tmp_path, text), overrides, profile="local")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        read_toml(tmp_path / "none.toml")


def test_override_values_are_toml_and_bare_words_are_strings():
    assert parse_override("a.b=[1, 2]") == {"a": {"b": [1, 2]}}
    assert parse_override("a=true") == {"a": True}
    assert parse_override("a=Qwen/Qwen2.5-VL-7B") == {"a": "Qwen/Qwen2.5-VL-7B"}
    assert parse_override("a=x=y") == {"a": "x=y"}


def test_merging_replaces_lists_and_merges_tables():
    assert merge({"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}}


def test_auto_takes_local_where_devices_are_hidden_and_full_where_they_are_named(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    hidden = pick_profile("auto")
    assert hidden.name == "local"
    assert "--profile full" in hidden.why
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    named = pick_profile("auto")
    assert named.name == "full"
    assert "--profile local" in named.why


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean local"):
        pick_profile("locl")


def test_choosing_a_profile_imports_nothing_heavy():
    code = (
        "import sys; from shared.config import pick_profile; pick_profile('auto');"
        "print([m for m in ('torch', 'ray', 'vllm', 'polars', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
