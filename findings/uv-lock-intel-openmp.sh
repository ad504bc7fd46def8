#!/usr/bin/env bash
# Two locks of the same requirement by uv 0.13.9 differ: a fresh one leaves out intel-cmplr-lib-ur, which the Linux wheel of intel-openmp
# 2024.2.1 asks for; one made from an earlier lock adds it. The wheels of that version do not say the same (the one for 32-bit Windows asks
# for nothing), and uv takes one wheel's word for all; from a lock limited to Linux it takes the Linux wheel's.
# Exit 0: still so, and `dependency-metadata` in pyproject.toml says it once. Exit 1: it has changed, and that entry can go.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv tool && tool/bin/pip install -q uv==0.13.9
project() {
  cat >pyproject.toml <<TOML
[project]
name = "finding"
version = "0"
requires-python = ">=3.11,<3.13"
dependencies = [$1]
[tool.uv]
environments = ["sys_platform == 'linux' and platform_machine == 'x86_64'"]
TOML
}
unset VIRTUAL_ENV PYTHONPATH
tool/bin/uv --version
project '"intel-openmp==2024.2.1", "six==1.17.0"'
tool/bin/uv lock -q
fresh=$(grep -c '^name = ' uv.lock)
rm uv.lock
project '"intel-openmp==2024.2.1"'
tool/bin/uv lock -q
project '"intel-openmp==2024.2.1", "six==1.17.0"'
tool/bin/uv lock -q
after=$(grep -c '^name = ' uv.lock)
echo "packages in a fresh lock: $fresh; in one made from an earlier lock: $after"
grep -q '^name = "intel-cmplr-lib-ur"' uv.lock && [ "$fresh" -lt "$after" ]
