#!/usr/bin/env bash
# Train on all GPUs of a Slurm job; experiments/launch/slurm.py submits this.
# Usage: sbatch ... experiments/launch/slurm.sh FLAGS_OF_TRAIN...
set -uo pipefail

srun --kill-on-bad-exit=1 python -m experiments.train --cluster "$@"
status=$?
# The training goes on from its last checkpoint.
if ((status != 0 && ${SLURM_RESTART_COUNT:-0} < ${MARSSEP_RESTARTS:-0})); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
