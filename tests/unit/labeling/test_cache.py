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
"""The cache gives back what was paid for, and survives a kill."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.errors import DataError
from nemo_prm.labeling.cache import Cache, Drawn, digest
from nemo_prm.types import Completion, Verdict

COMPLETION = Completion("    return x  # é \u2028 𝄞\n", 7, "stop")
DRAWN = Drawn(COMPLETION, 0.5, "policy@1")
VERDICT = Verdict("wrong_answer", 3, 1, 1, "2", "\\udcff", "", 0.25, math.nan, "sandbox-2", "full")


def test_what_was_added_is_found(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "cache.jsonl"
    for cache in (Cache(path), Cache(None)):
        with cache:
            for _ in range(2):  # the second time it is there already
                cache.add_completion(digest("a", 1), DRAWN)
                cache.add_completion(digest("a", 1) + b"\0\0\0\7", DRAWN._replace(seconds=0.25))
                cache.add_verdict(digest("v"), VERDICT)
                assert cache.completion(digest("a", 1)) == DRAWN
            assert len(cache) == 3
            assert cache.completion(digest("a", 2)) is None and cache.verdict(digest("w")) is None
    with Cache(path) as again:
        assert len(again) == 3
        assert again.completion(digest("a", 1) + b"\0\0\0\7") == DRAWN._replace(seconds=0.25)
        found = again.verdict(digest("v"))
        assert found is not None and math.isnan(found.peak_mib)
        assert dataclasses.replace(found, peak_mib=0.0) == dataclasses.replace(VERDICT, peak_mib=0.0)


def test_what_is_unknown_is_not_kept() -> None:
    with Cache(None) as cache:
        cache.add_verdict(digest("v"), Verdict("infra_error"))
        assert cache.verdict(digest("v")) is None


def test_a_torn_line_is_dropped_and_a_strange_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    with Cache(path) as cache:
        for number in range(3):
            cache.add_completion(digest(number), DRAWN)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with Cache(path) as cache:
        assert len(cache) == 2 and cache.completion(digest(2)) is None
        cache.add_completion(digest(2), DRAWN)
    assert path.read_bytes() == whole
    path.write_bytes(whole + b'{"problem_id": "p"}\n')
    with pytest.raises(DataError, match=r"cache\.jsonl:4: is no line of a cache"):
        Cache(path)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (lambda line: line[:60] + b"\n", "not valid JSON"),
        (lambda line: line.replace(b'"text"', b'"words"'), "`completion.text` is missing"),
        (lambda line: line.replace(b'"num_tokens": ', b'"num_tokens": -'), "completion.num_tokens"),
        (lambda line: line.replace(b'"completion": {', b'"verdict": {'), "`completion` is missing"),
    ],
)
def test_a_damaged_line_is_an_error_that_says_what_to_do(tmp_path: Path, damaged: Any, message: str) -> None:
    path = tmp_path / "cache.jsonl"
    with Cache(path) as cache:
        for number in range(2):
            cache.add_completion(digest(number), DRAWN)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damaged(second))
    with Cache(path) as cache:
        assert cache.completion(digest(0)) == DRAWN
        with pytest.raises(DataError, match=f"byte {len(first)}: .*{message}.*The cache is damaged; remove it"):
            cache.completion(digest(1))


def test_keys_differ_where_what_they_stand_for_does() -> None:
    keys = [digest(*parts) for parts in (("a",), ("a", ""), ("", "a"), (["a"],), ("a", 1), ("a", 1.5), ("a", None))]
    assert len(set(keys)) == len(keys) and {len(key) for key in keys} == {16}
