#!/bin/bash
# One training whose folds are shared out over the GPUs of several nodes (SLURM).
#
#   sbatch configs/cluster/slurm.sh configs/softnet_casme2.py --config.data.root=/data/CASME_SQ
#   WORKDIR=runs/mine sbatch --nodes=4 configs/cluster/slurm.sh configs/softnet_casme2.py
#
# Submit it in a folder that all nodes see (configs, shards and runs lie there), with the python that
# has spotjax on PATH.  The same command again goes on after a time limit or a lost node; --requeue
# does so alone.
#SBATCH --job-name=spotjax
#SBATCH --nodes=2
#SBATCH --gpus-per-node=4
# One process per GPU: JAX gives each process of a SLURM step the GPU of its local rank.
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -euo pipefail

config=${1:?usage: sbatch slurm.sh CONFIG [--config.KEY=VALUE ...]}
shift

# The features first, by all cores of one node, so that no GPU process waits for them at a barrier.
srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_ON_NODE:-1}" \
    python -m spotjax.data_prep --config "$config" "$@"

srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
    python -m spotjax.train --config "$config" ${WORKDIR:+--workdir "$WORKDIR"} \
    --config.train.distributed=auto "$@"
