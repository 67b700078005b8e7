#!/bin/bash
# A sweep as a SLURM array: one job makes the features, N tasks train the runs, a last job makes the
# table.  No task needs another one.
#
#   bash configs/cluster/slurm_array.sh 8 --config configs/softnet_casme2.py \
#       --config.data.root=/data/CASME_SQ --seeds 5 --grid train.learning_rate=1e-3,3e-4
#
# 8 is N; all other words go to `python -m spotjax.sweep`.  Start it in a folder that all nodes see.
# The same command again trains what is not finished and goes on with what was interrupted.
# ACCOUNT and partition of your site: export SBATCH_ACCOUNT and SBATCH_PARTITION before.
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=sweep-%A-%a.out
set -euo pipefail

tasks=${1:?usage: bash slurm_array.sh NUMBER_OF_TASKS --config CONFIG [words of spotjax.sweep ...]}
shift

if [[ -n "${SLURM_ARRAY_TASK_ID:-}" ]]; then  # a task of the array
    exec python -m spotjax.sweep "$@" --task "$SLURM_ARRAY_TASK_ID/$tasks"
fi

sweep=$(printf '%q ' python -m spotjax.sweep "$@")
prepare=$(sbatch --parsable --job-name=sweep-prepare --cpus-per-task=16 --time=24:00:00 \
    --wrap="$sweep --only prepare")
train=$(sbatch --parsable --job-name=sweep-train --dependency="afterok:${prepare%%;*}" \
    --array="1-$tasks" "$0" "$tasks" "$@")
table=$(sbatch --parsable --job-name=sweep-table --dependency="afterany:${train%%;*}" \
    --wrap="$sweep --only table")
echo "features: job ${prepare%%;*}, runs: ${train%%;*}, table: ${table%%;*}"
