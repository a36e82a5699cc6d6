# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
# Sourced by the jobs of this folder: how a step runs, where the other nodes are, and whether to go on in another job.
# Set these in the environment of sbatch:
#   IMAGE   container image (pyxis): a .sqsh file or a registry's name; empty: no container, but VENV
#   MOUNTS  what the container sees, host:container,...; the checkout and the data have to be among it
#   VENV    virtual environment where there is no container; by default .venv of the checkout
# shellcheck shell=bash
set -euo pipefail

ROOT=${ROOT:-$SLURM_SUBMIT_DIR} # the checkout; sbatch runs a copy of the script, so its own place says nothing
IMAGE=${IMAGE:-}
MOUNTS=${MOUNTS:-$ROOT:$ROOT}
VENV=${VENV:-$ROOT/.venv}
PYTHON=python
[[ -n $IMAGE || ! -x $VENV/bin/python ]] || PYTHON=$VENV/bin/python
cd "$ROOT"

# Servers take requests from other nodes, so they want a token; a requeued job makes a new one.
NEMO_PRM_TOKEN=${NEMO_PRM_TOKEN:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
export NEMO_PRM_TOKEN
export PYTHON PYTHONUNBUFFERED=1
export PYTRITON_HOME=${PYTRITON_HOME:-/tmp/pytriton-$SLURM_JOB_ID} # not in a home folder that all nodes share

# launch [srun options] -- COMMAND...   run a step, in the container where there is one; behind `launch ... &`, $! is srun
launch() {
  local options=()
  while [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  shift
  [[ -z $IMAGE ]] || options+=(
    "--container-image=$IMAGE" "--container-mounts=$MOUNTS" "--container-workdir=$ROOT" --no-container-mount-home
  )
  local run=()
  ((BASH_SUBSHELL == 0)) || run=(exec) # a signal to $! has to reach srun, which passes it on
  "${run[@]}" srun --export=ALL --kill-on-bad-exit=1 "${options[@]}" "$@"
}

# address NODELIST   where the first node of a list can be reached
address() {
  local node
  node=$(scontrol show hostnames "$1" | head -n 1)
  scontrol show node --oneliner "$node" | sed 's/.* NodeAddr=\([^ ]*\) .*/\1/'
}

# quoted VALUE   as Hydra wants it, since a path may hold = , ( and blanks
quoted() {
  echo "'${1//\'/\\\'}'"
}

# port NUMBER   a port of this job, so that two jobs may share a node
port() {
  echo $((20000 + SLURM_JOB_ID % 1000 * 10 + $1))
}

# as_one_process NUMBER   what to put before a command of one process. Lightning takes all processes of a job for ranks
# that meet at one port; a server on several GPUs wants torchrun in its place.
as_one_process() {
  echo "env MASTER_ADDR=127.0.0.1 MASTER_PORT=$(port "$1")"
}

# seconds_left   until this job's time limit; empty where it has none; fails where Slurm does not say
seconds_left() {
  local said tries=0
  until said=$(squeue --noheader --format=%L --jobs "$SLURM_JOB_ID"); do
    ((++tries < 4)) || return 1 # no answer is not "no limit"
    sleep 10
  done
  awk <<<"$said" '
    NR == 1 && /^[0-9]/ { n = split($0, part, /[-:]/)
      s = part[n] + 60 * part[n - 1] + (n > 2 ? 3600 * part[n - 2] : 0) + (n > 3 ? 86400 * part[n - 3] : 0)
      print s }'
}

# max_time MARGIN   what is left but for MARGIN seconds, as DD:HH:MM:SS for trainer.max_time; "null" without a limit
max_time() {
  local left
  left=$(seconds_left) || return 1
  if [[ -z $left ]]; then
    echo null
    return
  fi
  left=$((left > $1 ? left - $1 : 1))
  printf '"%02d:%02d:%02d:%02d"\n' $((left / 86400)) $((left / 3600 % 24)) $((left / 60 % 60)) $((left % 60))
}

# requeue_if_progress FILE FOLDER   after a job that ended early: again from the last checkpoint, if there is a new one
#   FILE     what stands when all is done; of an earlier run it does not count
#   FOLDER   of the checkpoints; STARTED is a file that was touched when the job began
requeue_if_progress() {
  [[ ! $1 -nt $STARTED ]] || return 0
  if [[ -z $(find "$2" -newer "$STARTED" -name '*last*' -print -quit 2>/dev/null) ]]; then
    echo "no checkpoint was saved by this job: not queued again" >&2
    return 1
  fi
  if ((${SLURM_RESTART_COUNT:-0} >= ${MAX_RESTARTS:-20})); then
    echo "queued again $SLURM_RESTART_COUNT times: that was the last" >&2
    return 1
  fi
  echo "not done yet: queued again, to go on from the last checkpoint"
  scontrol requeue "$SLURM_JOB_ID"
}
