#!/usr/bin/env bash
# What one GPU does with this library, in minutes: experiments/gpu.py.
#
#   bash experiments/gpu.sh [SECTIONS and options of gpu.py]
#   bash experiments/gpu.sh with COMMAND …     # another study, with the same packages and settings:
#       with python3 experiments/rlhf_smollm.py --size large
#       with python3 experiments/tables.py --suite minatar --at-once 10
#   bash experiments/gpu.sh wheels FOLDER [PYTHON_VERSION]   # for a machine without a network:
#       download what a machine that has jax, flax, optax and scipy lacks, in the versions
#       installed here; afterwards
#   WHEELS=FOLDER bash experiments/gpu.sh …                  # installs them there, for this call
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = wheels ]; then
  lacking=(
    gymnax gymnasium farama-notifications distrax tfp-nightly dm-tree decorator gast
    cloudpickle tyro docstring-parser typeguard gguf
    brax jaxopt ml_collections mujoco mujoco-core mujoco-studio mujoco-mjx trimesh
  )
  needed=$(python3 - "${lacking[@]}" <<'EOF'
import importlib.metadata, sys
print(*(f"{name}=={importlib.metadata.version(name)}" for name in sys.argv[1:]))
EOF
  )
  python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version "${3:-3.12}" \
    --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d "$2" $needed
  exit
fi

if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --target "$site" "$WHEELS"/*.whl
  export PYTHONPATH="$site:${PYTHONPATH:-}"
fi
export PYTHONPATH=".:experiments:${PYTHONPATH:-}" XLA_PYTHON_CLIENT_PREALLOCATE=false
if [ "${1:-}" = with ]; then
  "${@:2}"
else
  python3 experiments/gpu.py "$@"
fi
