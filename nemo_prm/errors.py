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
"""One error family per boundary. Every message is one sentence that says what failed, where, and what to do.

A script that ends with one of these prints the message alone and exits with code 2 (`nemo_prm.entry`).
"""

from __future__ import annotations

from typing import Sequence


class NemoPrmError(Exception):
    """Base of every error that a user can cause or cure."""


class ConfigError(NemoPrmError):
    """A configuration value or combination that cannot work."""


class DataError(NemoPrmError):
    """A file that is missing, malformed, or of another schema; names the file and the line."""


class CheckpointError(NemoPrmError):
    """A checkpoint that is missing or not what was expected."""


class GeneratorError(NemoPrmError):
    """The policy's server could not be reached in time or gave an unusable answer."""


class RequestFailedError(GeneratorError):
    """The policy's server is there, but failed on this request or gave an unusable answer to it, again and again."""


class PromptTooLongError(GeneratorError):
    """Prompts that leave no room for one new token in the policy's context.

    Attributes:
        indices: positions of those prompts in the call.
    """

    def __init__(self, message: str, indices: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.indices = tuple(indices)


class RequestError(NemoPrmError):
    """A request that a server refuses; its message is the answer the client gets (HTTP status 400)."""


class ServerError(NemoPrmError):
    """A server could not start (port taken, missing library) or a reward, critic or verifier server is lost."""


class RuleError(NemoPrmError):
    """A rule on its metrics has stopped a training run; nothing is lost."""


class StageError(NemoPrmError):
    """A stage of a longer job failed; names the stage, its log file and the last lines of it."""


class SandboxError(NemoPrmError):
    """The sandbox cannot be set up on this machine at the level asked for."""
