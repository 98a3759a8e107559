#!/bin/bash
# SLURM: train on several machines with several GPUs each, sharded with FSDP2; one launcher a machine.
#   sbatch recipes/accelerate/slurm_multinode.sh recipes/sft/full_fsdp2_8gpu.yaml --output_dir /shared/runs/mine
# output_dir (and the data and the model, or the hub's cache) must be on a file system that all machines share.
# Five minutes before its time is up, the run is told to stop: it finishes the step and saves; the job is queued
# again and resumes from there. The launchers give it 30 seconds for that; a step and a save that take longer are
# lost back to the checkpoint before. Submit it from the folder of the project, with its environment in .venv.
# Verified: `bash -n` in the tests; not run, there was no cluster.
#SBATCH --job-name=hf-align
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=hf-align-%j.log

set -euo pipefail

recipe=${1:?usage: sbatch slurm_multinode.sh RECIPE.yaml [--key value ...]}
shift
gpus=${SLURM_GPUS_ON_NODE:?run this with sbatch}
nodes=$SLURM_JOB_NUM_NODES
main_machine=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))

# A run with fewer processes than this is an error.
export NPROC=$((nodes * gpus))
export ACCELERATE_CONFIG=${ACCELERATE_CONFIG:-recipes/accelerate/fsdp2_8gpu.yaml}

stopping=
srun_id=
stop() {
  stopping=yes
  # srun hands the signal to the launchers, and they to the training processes.
  kill -TERM "$srun_id"
}
trap stop USR1

# SLURM_NODEID is that of each machine, so it is read there, not here.
# shellcheck disable=SC2016
srun --kill-on-bad-exit=1 bash -c '
  exec .venv/bin/python3 -m accelerate.commands.launch \
    --config_file "$ACCELERATE_CONFIG" \
    --num_machines "$1" --num_processes "$NPROC" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$2" --main_process_port "$3" \
    -m hf_align sft --config "$4" --resume_from_checkpoint auto "${@:5}"
' launch "$nodes" "$main_machine" "$port" "$recipe" "$@" &
srun_id=$!

# The trap ends the first wait; the second one is for the run to save.
status=0
wait "$srun_id" || status=$?
if [ -n "$stopping" ]; then
  wait "$srun_id" || true
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$status"
