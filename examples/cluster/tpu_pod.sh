#!/bin/bash
# Trains on all workers of a TPU pod slice, with one process for each worker.
#
# NAME=my-pod ZONE=us-central2-b BUCKET=my-bucket bash examples/cluster/tpu_pod.sh
set -eu

# Each worker has a clone of flaxseg, installed with `pip install -e '.[tpu]'`, and the bucket mounted at ~/shared, as
# with gcsfuse.
read -r -d '' COMMAND <<'END' || true
cd flaxseg && flaxseg train \
    --config=pet \
    --config.data.dir=$HOME/shared/oxford_iiit_pet \
    --config.train.precision=bfloat16 \
    --config.train.batch_size=256 \
    --config.eval.batch_size=64 \
    --workdir=$HOME/shared/runs/pet \
    --distributed=auto
END

gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all \
    --command="mkdir -p shared && (mountpoint -q shared || gcsfuse $BUCKET shared) && $COMMAND"
