#!/usr/bin/env bash
# Measures the accelerator of this machine within 8 minutes:
#     benchmarks/accelerator.sh [OUTPUT [OPTIONS]]
# writes OUTPUT.json and OUTPUT.md (default: accelerator), and prints the latter. Options are those of accelerator.py,
# such as --quick. PYTHON names the interpreter, whose environment has the dependencies of flaxseg, and jax with support
# for the accelerator; if it also has torch, timm and segmentation_models_pytorch, PyTorch is measured, too.
set -euo pipefail
output=${1:-accelerator}
shift $(($# > 0))
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python}
export PYTHONPATH="$folder/..${PYTHONPATH:+:$PYTHONPATH}"
if [[ -e $output.json ]]; then
  echo "error: $output.json exists; give another name" >&2
  exit 1
fi
"$python" "$folder/accelerator.py" "$@" > "$output.json.part"
mv "$output.json.part" "$output.json"
"$python" "$folder/results.py" "$output.json" | tee "$output.md"
