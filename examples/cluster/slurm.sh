#!/bin/bash
# Trains on 2 machines with 4 GPUs each, with one process for each GPU, and goes on in another job when the time is over.
#
# sbatch examples/cluster/slurm.sh
#SBATCH --job-name=flaxseg
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Two minutes before the end, the processes save a checkpoint and end with status 138 (128 + SIGUSR1).
#SBATCH --signal=USR1@120

# A directory that all machines share, with the data and the runs.
SHARED=${SHARED:-$SLURM_SUBMIT_DIR}

srun flaxseg train \
    --config=pet \
    --config.data.dir="$SHARED/oxford_iiit_pet" \
    --config.train.batch_size=64 \
    --config.eval.batch_size=64 \
    --workdir="$SHARED/runs/pet" \
    --distributed=auto
status=$?

if [ "$status" -eq 138 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
