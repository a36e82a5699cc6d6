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
"""One config, any generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint

from nemo_prm.config import GeneratorConfig, SamplingConfig
from nemo_prm.errors import ConfigError, GeneratorError
from nemo_prm.serving.client import GenerationClient
from nemo_prm.serving.generators import open_generator
from nemo_prm.serving.openai import OpenAIGenerator
from nemo_prm.serving.recorded import RecordedGenerator, Recorder
from nemo_prm.types import SamplingParams


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "vllm"}, "generator.kind must be one of triton, openai, recorded, found 'vllm'"),
        ({"kind": "openai"}, "needs generator.model"),
        ({"kind": "recorded"}, "needs generator.recording"),
        ({"model": "m"}, "generator.model belongs to generator.kind=openai, and the kind is triton"),
        ({"requests_in_flight": 0}, "generator.requests_in_flight must be at least 1, found 0"),
        ({"batch_size": 0}, "generator.batch_size must be at least 1, found 0"),
        ({"url": "nowhere"}, "url must look like"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_generator(GeneratorConfig(**settings))


def test_a_recording_of_an_endpoint_replays_it(tmp_path: Path) -> None:
    path = str(tmp_path / "completions.jsonl")
    params = SamplingConfig(max_new_tokens=20, stop=["beta"]).as_params()
    assert params == SamplingParams(max_new_tokens=20, stop=("beta",))
    with Endpoint() as endpoint:
        config = GeneratorConfig(kind="openai", url=endpoint.url, model="step100", recording=path)
        with open_generator(config) as generator:
            drawn = generator.generate(["a", "b"], 3, params, 5)
            assert generator.load("step200") == "openai/step200"
            later = generator.generate(["a", "b"], 3, params, 6)
        assert [request["model"] for request in endpoint.requests] == ["step100"] * 2 + ["step200"] * 2
    with open_generator(GeneratorConfig(kind="recorded", recording=path)) as replay:
        assert replay.load("openai/step100") == "openai/step100"
        assert replay.generate(["a", "b"], 3, params, 5) == drawn
        assert replay.load("openai/step200") == "openai/step200"
        assert replay.generate(["a", "b"], 2, params, 6, first=1) == [row[1:] for row in later]
        with pytest.raises(GeneratorError, match="no completion"):
            replay.generate(["a"], 1, params, 5)


def test_nothing_is_connected_before_it_is_asked(tmp_path: Path) -> None:
    nowhere = {"url": "http://127.0.0.1:9", "connect_timeout_s": 0.1}
    kinds = []
    for settings in ({}, {"kind": "openai", "model": "m"}, {"recording": str(tmp_path / "c.jsonl")}):
        with open_generator(GeneratorConfig(**nowhere, **settings)) as generator:
            kinds.append(type(generator))
            with pytest.raises(GeneratorError, match="127.0.0.1:9"):
                generator.generate(["a"], 1, SamplingParams(), 1)
    assert kinds == [GenerationClient, OpenAIGenerator, Recorder]
    assert isinstance(
        open_generator(GeneratorConfig(kind="recorded", recording=str(tmp_path / "c.jsonl"))), RecordedGenerator
    )


@pytest.mark.parametrize("stop", [[""], ["a"] * 17])
def test_stop_strings_that_cannot_be_honoured(stop: list[str]) -> None:
    with pytest.raises(ConfigError, match="sampling.stop must be at most 16 strings, none empty"):
        SamplingConfig(stop=stop).as_params()
