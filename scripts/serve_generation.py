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
"""Serve a policy's completions: `python scripts/serve_generation.py checkpoint=policy.nemo`."""

import warnings

from nemo_prm.config import ServeGenerationConfig
from nemo_prm.entry import script
from nemo_prm.megatron.checkpoint import resolve_nemo


@script(ServeGenerationConfig)
def main(config: ServeGenerationConfig) -> None:
    checkpoint = resolve_nemo(config.checkpoint)
    from nemo_prm.serving.triton import check_address

    check_address(config.server)
    from nemo_prm.megatron.tensorrt import resolve_backend

    backend = resolve_backend(config.backend, config.tensor_parallel)
    if not config.server.verbose:
        warnings.simplefilter("ignore")  # the host warns of every package of NVIDIA's container that is not there
    from nemo_prm.megatron import compat

    compat.apply()
    from nemo_prm.serving.generation import serve_generation

    serve_generation(config, checkpoint, backend)


if __name__ == "__main__":
    main()
