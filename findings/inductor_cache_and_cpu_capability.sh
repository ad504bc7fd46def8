#!/usr/bin/env bash
# torch 2.13.0, CPU, processor with AVX-512: a kernel compiled by torch.compile under one CPU capability is found again in
# the on-disk cache under another one (ATEN_CPU_CAPABILITY=avx2) and then gives wrong numbers without a warning.
# Seen (AMD EPYC of family 26, Python 3.11): the same compiled function on the same input
#   1. default capability (AVX512), empty cache:      agreement with eager 1.000
#   2. ATEN_CPU_CAPABILITY=avx2, a cache of its own:  agreement with eager 1.000
#   3. ATEN_CPU_CAPABILITY=avx2, the cache of 1:      agreement with eager about 0.5
# A reading of it: the entry of the cache is found by the graph alone, while its C++ source was written for vectors of
# sixteen floats and is compiled for eight. Whoever sets the variable to compare machines must set
# TORCHINDUCTOR_CACHE_DIR with it. Fails when any of the three differs from this.
set -euo pipefail
grep -q avx512f /proc/cpuinfo || { echo "needs a processor with AVX-512"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
cat > "$folder/look.py" <<'PYTHON'
import torch


@torch.compile(dynamic=True)
def most_likely(logits):
    return logits.softmax(-1).argmax(-1)


torch.manual_seed(0)
logits = torch.randn(64, 1277)
print(f"{(most_likely(logits) == logits.argmax(-1)).float().mean().item():.3f}")
PYTHON
unset ATEN_CPU_CAPABILITY
look() { TORCHINDUCTOR_CACHE_DIR="$folder/$1" "$folder/venv/bin/python" "$folder/look.py" 2>/dev/null; }
first=$(look shared)
own=$(ATEN_CPU_CAPABILITY=avx2 look own)
shared=$(ATEN_CPU_CAPABILITY=avx2 look shared)
"$folder/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
echo "AVX512 $first, avx2 with a cache of its own $own, avx2 with the cache of AVX512 $shared"
[ "$first" = 1.000 ] && [ "$own" = 1.000 ] && [ "$shared" != 1.000 ]
