#!/usr/bin/env bash
# Make the peers' virtual environments for experiments/benchmark.py from PyPI packages:
#   experiments/baselines/environments.sh [FOLDER] [PYTHON] [NAMES...]
# FOLDER defaults to .venv-peers in the working directory, PYTHON to python3.11.
set -euo pipefail

folder=${1:-.venv-peers}
python=${2:-python3.11}
names=("${@:3}")
if [ ${#names[@]} -eq 0 ]; then names=(sb3 rejax sbx); fi

for name in "${names[@]}"; do
  "$python" -m venv "$folder/$name"
  pip="$folder/$name/bin/pip"
  case $name in
    sb3) # torch first: this version's wheel on PyPI needs no GPU libraries
      "$pip" install --quiet torch==2.13.0
      "$pip" install --quiet stable-baselines3==2.9.2 sb3-contrib==2.9.2 ;;
    rejax) # needs the interface that gymnax had before 1.0
      "$pip" install --quiet rejax==0.1.3 gymnax==0.0.9 ;;
    sbx)
      "$pip" install --quiet torch==2.13.0
      "$pip" install --quiet stable-baselines3==2.9.2 sbx-rl==0.28.0 ;;
    trl)
      "$pip" install --quiet torch==2.13.0
      "$pip" install --quiet trl==1.12.0 transformers==5.24.0 datasets accelerate requests ;;
    *) echo "unknown environment: $name" >&2; exit 2 ;;
  esac
done
