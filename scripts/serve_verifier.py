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
"""Serve verdicts on programs to other hosts: `python scripts/serve_verifier.py problems=problems.jsonl`."""

from nemo_prm.config import ServeVerifierConfig
from nemo_prm.entry import script


@script(ServeVerifierConfig)
def main(config: ServeVerifierConfig) -> None:
    from nemo_prm.serving.verifier import serve_verifier

    serve_verifier(config)


if __name__ == "__main__":
    main()
