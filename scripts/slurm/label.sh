#!/bin/bash
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
# Label on many nodes, and merge when all shards are done:
#
#   PROBLEMS=problems.jsonl POLICY=policy.nemo OUTPUT=runs/labels.jsonl scripts/slurm/label.sh 16 [sbatch options]
#
# The options are those of the array. What the merge needs, too, is in the environment: SBATCH_ACCOUNT, SBATCH_PARTITION.
set -euo pipefail
: "${1:?is the number of shards}" "${OUTPUT:?is the label store (.jsonl)}"
folder=$(dirname "${BASH_SOURCE[0]}")
shards=$1
shift
export SHARDS=$shards
array=$(sbatch --parsable "--array=0-$((shards - 1))" "$@" "$folder/label.sbatch")
merge=$(sbatch --parsable "--dependency=afterok:$array" "$folder/merge.sbatch")
echo "labeling is job $array, the merge into ${OUTPUT%.jsonl}.json is job $merge"
