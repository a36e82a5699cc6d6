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
"""Completions on file: a generator that replays them, and one that writes down what another generator draws.

One JSON object a line: `checkpoint` (the name of the generator that drew it), `prompt`, `seed` (of the prompt, as
`nemo_prm.data.seeds` gives it), `params`, `number`, `text`, `num_tokens`, `finish_reason`. A prompt that was too long
has a line with the finish reason "prompt_too_long".
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from nemo_prm.data.appendonly import AppendOnlyFile
from nemo_prm.data.fields import Fields
from nemo_prm.data.jsonl import PathLike, parse_object
from nemo_prm.data.seeds import occurrence_seeds
from nemo_prm.errors import DataError, GeneratorError, PromptTooLongError
from nemo_prm.protocols import Generator
from nemo_prm.types import Completion, SamplingParams

TOO_LONG = "prompt_too_long"


class Key(NamedTuple):
    """What identifies a completion."""

    checkpoint: str
    prompt: str
    seed: int
    params: SamplingParams
    number: int


class RecordedGenerator:
    """A `nemo_prm.protocols.Generator` that knows what a file holds, and nothing else."""

    def __init__(self, path: PathLike) -> None:
        """Read the file; a last line that a kill has cut short is passed over.

        Raises:
            DataError: it is missing, or a line is bad.
        """
        self.path = Path(path)
        self._completions: dict[Key, set[Completion]] = {}
        self._too_long: set[tuple[str, str]] = set()
        checkpoints: dict[str, None] = {}  # in the order of the file
        for row in _read(self.path):
            key = Key(
                row.text("checkpoint"),
                row.text("prompt"),
                row.integer("seed", minimum=-(2**63)),
                _params(row),
                row.integer("number"),
            )
            checkpoints[key.checkpoint] = None
            if row.choice("finish_reason", ("stop", "length", TOO_LONG)) == TOO_LONG:
                self._too_long.add((key.checkpoint, key.prompt))
                continue
            completion = Completion(row.text("text"), row.integer("num_tokens"), row.get("finish_reason"))
            self._completions.setdefault(key, set()).add(completion)
        self._checkpoints: list[str] = list(checkpoints)
        self.name: str = self._checkpoints[0] if len(checkpoints) == 1 else ""

    def load(self, checkpoint: str) -> str:
        """Go on with the completions of another recorded checkpoint.

        Args:
            checkpoint: its name, or the path of the file that its name speaks of.

        Raises:
            GeneratorError: the file holds none, or several, of that name.
        """
        file = Path(checkpoint).name
        fitting = [name for name in self._checkpoints if name == checkpoint or f"/{file}@" in f"/{name}"]
        if len(fitting) != 1:
            raise GeneratorError(
                f"{self.path} holds completions of {', '.join(self._checkpoints) or 'no checkpoint'}, "
                f"and {'more than one fits' if fitting else 'none of'} {checkpoint}"
            )
        self.name = fitting[0]
        return self.name

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        """See `nemo_prm.protocols.Generator`.

        Raises:
            PromptTooLongError: as recorded.
            GeneratorError: a completion that is not recorded, or of which the file holds two versions.
        """
        if len(self._checkpoints) > 1 and not self.name:
            raise GeneratorError(f"{self.path} holds several checkpoints: load one of {', '.join(self._checkpoints)}")
        too_long = [i for i, prompt in enumerate(prompts) if (self.name, prompt) in self._too_long]
        if too_long:
            raise PromptTooLongError(f"prompt {too_long[0]} was too long when {self.path} was recorded", too_long)
        return [
            [self._replay(Key(self.name, prompt, prompt_seed, params, first + k)) for k in range(n)]
            for prompt, prompt_seed in zip(prompts, occurrence_seeds(prompts, seed))
        ]

    def _replay(self, key: Key) -> Completion:
        found = self._completions.get(key, set())
        if len(found) != 1:
            raise GeneratorError(
                f"{self.path} holds {'several completions' if found else 'no completion'} number {key.number} of the "
                f"prompt {key.prompt[:60]!r} with seed {key.seed} and {key.params}"
            )
        return next(iter(found))

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> RecordedGenerator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Recorder:
    """A `nemo_prm.protocols.Generator` that appends to a file what another one draws; flushed after each call."""

    def __init__(self, generator: Generator, path: PathLike) -> None:
        """Open the file for one writer; a line that a kill has cut short is removed.

        Raises:
            DataError: it cannot be written, holds something else, or another process writes to it.
        """
        self.generator, self.path = generator, Path(path)
        self._lock = threading.Lock()
        self._file = AppendOnlyFile(self.path, "completions", b'{"checkpoint": ')

    @property
    def name(self) -> str:
        return self.generator.name

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        """See `nemo_prm.protocols.Generator`."""
        seeds = occurrence_seeds(prompts, seed)
        try:
            drawn = self.generator.generate(prompts, n, params, seed, first)
        except PromptTooLongError as error:
            refused = {"text": "", "num_tokens": 0, "finish_reason": TOO_LONG}
            self._write([(Key(self.name, prompts[i], seeds[i], params, first), refused) for i in error.indices])
            raise
        self._write(
            [
                (Key(self.name, prompt, prompt_seed, params, number), asdict(completion))
                for prompt, prompt_seed, row in zip(prompts, seeds, drawn)
                for number, completion in enumerate(row, start=first)
            ]
        )
        return drawn

    def _write(self, rows: Sequence[tuple[Key, dict[str, Any]]]) -> None:
        lines = [json.dumps(key._asdict() | {"params": asdict(key.params)} | content) for key, content in rows]
        with self._lock:
            for line in lines:
                self._file.append(line.encode())

    def load(self, checkpoint: str) -> str:
        """Make the generator go on with another checkpoint; for generators that can."""
        name: str = self.generator.load(checkpoint)  # type: ignore[attr-defined]
        return name

    def close(self) -> None:
        """Close the file, and the generator where it has something to close."""
        self._file.close()
        getattr(self.generator, "close", lambda: None)()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(path: Path) -> list[Fields]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    whole = content.split(b"\n")[:-1]
    lines = [(f"{path}:{number}", line) for number, line in enumerate(whole, start=1) if line.strip()]
    return [Fields(where, parse_object(line, where)) for where, line in lines]


def _params(row: Fields) -> SamplingParams:
    content = row.mapping("params")
    try:
        params = SamplingParams(**content)
        return replace(params, stop=tuple(params.stop))
    except TypeError as error:
        raise row.error("params", f"are no sampling parameters ({error})") from None
