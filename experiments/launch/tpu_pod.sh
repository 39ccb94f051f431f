#!/usr/bin/env bash
# What every worker of a TPU slice runs; experiments/launch/tpu_pod.py sends it.
# Usage: tpu_pod.sh install | tpu_pod.sh data gs://BUCKET/FOLDER | tpu_pod.sh train FLAGS...
set -euo pipefail
cd "$(dirname "$0")/../.."

task=$1
shift
case "$task" in
    install)
        python3 -m venv .venv
        .venv/bin/pip install --quiet --editable '.[train,tpu]'
        .venv/bin/pip install --quiet --no-deps tinysoundfont==0.3.7
        ;;
    data)
        mkdir -p data
        gcloud storage rsync --recursive "$1" data
        ;;
    train)
        exec .venv/bin/python -m experiments.train --cluster "$@"
        ;;
    *)
        echo "error: task is '$task', expected install, data or train" >&2
        exit 1
        ;;
esac
