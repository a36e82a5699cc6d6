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
"""The generator of a config, behind one function; whatever it is, it connects when it is first asked."""

from __future__ import annotations

from typing import Protocol

from nemo_prm.config import GeneratorConfig
from nemo_prm.errors import ConfigError
from nemo_prm.protocols import CheckpointGenerator

KINDS = ("triton", "openai", "recorded")


class OpenGenerator(CheckpointGenerator, Protocol):
    """A generator that holds something open: a context manager."""

    def close(self) -> None:
        """Abort what is in flight where that is possible, and wait no longer."""
        ...

    def __enter__(self) -> OpenGenerator: ...

    def __exit__(self, *_: object) -> None: ...


def open_generator(config: GeneratorConfig) -> OpenGenerator:
    """Open the generator that `config` describes.

    Raises:
        ConfigError: settings that do not go together.
        DataError: a recording that cannot be read or written.
    """
    if config.kind not in KINDS:
        raise ConfigError(f"generator.kind must be one of {', '.join(KINDS)}, found {config.kind!r}.")
    if config.kind != "openai" and config.model is not None:
        raise ConfigError(f"generator.model belongs to generator.kind=openai, and the kind is {config.kind}.")
    for name in ("batch_size", "requests_in_flight"):
        if getattr(config, name) < 1:
            raise ConfigError(f"generator.{name} must be at least 1, found {getattr(config, name)}.")
    if config.kind == "recorded":
        from nemo_prm.serving.recorded import RecordedGenerator

        if config.recording is None:
            raise ConfigError("generator.kind=recorded needs generator.recording, a file of completions.")
        return RecordedGenerator(config.recording)
    generator: OpenGenerator
    if config.kind == "openai":
        from nemo_prm.serving.openai import OpenAIGenerator

        generator = OpenAIGenerator(config)
    else:
        from nemo_prm.serving.client import GenerationClient

        generator = GenerationClient(config)
    if config.recording is None:
        return generator
    from nemo_prm.serving.recorded import Recorder

    return Recorder(generator, config.recording)
