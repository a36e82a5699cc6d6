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
"""The generation server as a user meets it: the real script, PyTriton and a Megatron policy (random weights)."""

from __future__ import annotations

import os
import shutil
import signal
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest
from run_scripts import output_of, script, write
from servers import Server

from nemo_prm.config import GeneratorConfig
from nemo_prm.data.rows import read_label_rows
from nemo_prm.errors import GeneratorError, PromptTooLongError, RequestError
from nemo_prm.serving.client import GenerationClient
from nemo_prm.serving.messages import GenerationRequest, encode_generation_request
from nemo_prm.serving.model_client import ModelClient
from nemo_prm.serving.wire import GENERATION
from nemo_prm.types import SamplingParams

pytest.importorskip("nemo_aligner")

SCRIPT = "scripts/serve_generation.py"
CONTEXT = 256  # of the tiny policy
PROMPTS = ["def f1(xs):\n", "def f2(xs):\n    # step", "# naïve é 漢字 🙂\n", "\n\n  a", "NUL \0 inside"]
PARAMS = SamplingParams(max_new_tokens=40)
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=40)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_policy_nemo: Path) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("generation") / "log"
    with Server(log, SCRIPT, f"checkpoint={tiny_policy_nemo}", "server.port=0", "max_batch=16") as running:
        yield running
        assert running.stop(signal.SIGTERM) == 0, log.read_text()[-3000:]
        assert running.all_gone()


@pytest.fixture(scope="module")
def generator(server: Server) -> Iterator[GenerationClient]:
    with GenerationClient(GeneratorConfig(url=server.url, timeout_s=60.0, load_timeout_s=60.0)) as client:
        yield client


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, tiny_policy_nemo: Path) -> Any:
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("tokenizer")
    with tarfile.open(tiny_policy_nemo) as archive:
        name = next(name for name in archive.getnames() if name.endswith("tokenizer.model"))
        archive.extract(name, folder, filter="data")
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / name))


def test_each_prompt_gets_n_completions_of_the_length_asked_for(generator: GenerationClient) -> None:
    answers = generator.generate(PROMPTS, 20, PARAMS, seed=1)
    assert [len(row) for row in answers] == [20] * len(PROMPTS)
    completions = [completion for row in answers for completion in row]
    assert {c.finish_reason for c in completions} == {"stop", "length"}
    assert all(c.num_tokens == 40 for c in completions if c.finish_reason == "length")
    assert all(1 <= c.num_tokens <= 40 for c in completions)
    assert all("<|endoftext|>" not in c.text and "</s>" not in c.text for c in completions)
    assert len({c.text for c in completions}) > 0.9 * len(completions)


def test_the_same_seed_gives_the_same_completions_whoever_else_asks(generator: GenerationClient) -> None:
    alone = generator.generate(PROMPTS, 3, PARAMS, seed=7)
    with ThreadPoolExecutor(6) as pool:
        others = [pool.submit(generator.generate, PROMPTS[:k], k, PARAMS, k) for k in range(1, 5)]
        again = [pool.submit(generator.generate, PROMPTS, 3, PARAMS, 7) for _ in range(2)]
    assert [future.result() for future in again] == [alone, alone]
    assert all(len(future.result()) == k for k, future in enumerate(others, start=1))


def test_another_seed_gives_other_completions(generator: GenerationClient) -> None:
    first, second = (generator.generate(PROMPTS, 2, PARAMS, seed) for seed in (1, 2))
    assert all(a[0].text != b[0].text for a, b in zip(first, second))


def test_more_completions_begin_with_the_same_ones(generator: GenerationClient) -> None:
    few, many = (generator.generate(PROMPTS[:2], n, PARAMS, 7) for n in (2, 5))
    assert [row[:2] for row in many] == few


def test_waves_draw_what_one_call_draws(generator: GenerationClient) -> None:
    at_once = generator.generate(PROMPTS, 20, PARAMS, 7)
    waves = [
        generator.generate(PROMPTS, n, PARAMS, 7, first) for first, n in ((0, 1), (1, 1), (2, 2), (4, 4), (8, 12))
    ]
    assert [[c for wave in waves for c in wave[i]] for i in range(len(PROMPTS))] == at_once


def test_a_completion_ends_before_the_first_stop_string(generator: GenerationClient) -> None:
    plain = [c for row in generator.generate(PROMPTS, 8, PARAMS, 7) for c in row]
    pairs = Counter(pair for c in plain for pair in {c.text[i : i + 2] for i in range(len(c.text) - 1)})
    stop = tuple(pair for pair, count in pairs.items() if 8 <= count <= 16 and "\ufffd" not in pair)[:3] + ("é",)
    cut = [c for row in generator.generate(PROMPTS, 8, replace(PARAMS, stop=stop), 7) for c in row]
    stopped = 0
    for before, after in zip(plain, cut):
        found = [before.text.index(string) for string in stop if string in before.text]
        if not found:
            assert after == before
            continue
        stopped += 1
        assert after.text == before.text[: min(found)] and after.finish_reason == "stop"
        assert after.num_tokens <= before.num_tokens
    assert 8 <= stopped < len(plain)
    assert sum(c.num_tokens for c in cut) < 0.9 * sum(c.num_tokens for c in plain)  # the rest was not generated


def test_a_prompt_that_occurs_twice_gets_other_completions_the_second_time(generator: GenerationClient) -> None:
    (first,), (second,) = generator.generate(["a", "a"], 1, PARAMS, 7)
    assert first != second
    assert generator.generate(["a"], 1, PARAMS, 7) == [[first]]


def test_greedy_completions_do_not_depend_on_the_seed(generator: GenerationClient) -> None:
    assert generator.generate(PROMPTS, 1, GREEDY, 1) == generator.generate(PROMPTS, 1, GREEDY, 2)


def test_a_filter_that_leaves_one_token_is_greedy(generator: GenerationClient) -> None:
    greedy = generator.generate(PROMPTS, 1, GREEDY, 1)
    for params in (SamplingParams(top_k=1, max_new_tokens=40), SamplingParams(top_p=1e-6, max_new_tokens=40)):
        assert generator.generate(PROMPTS, 1, params, 1) == greedy


def test_what_does_not_fit_the_context_is_cut_or_refused(generator: GenerationClient, tokenizer: Any) -> None:
    words = "x " * CONTEXT
    fits = tokenizer.decode(tokenizer.encode(words)[: CONTEXT - 5])
    room = CONTEXT - len(tokenizer.encode(fits))
    assert room == 5
    for completion in generator.generate([fits], 4, PARAMS, 1)[0]:
        assert completion.num_tokens == room or (completion.finish_reason == "stop" and completion.num_tokens < room)
    full = tokenizer.decode(tokenizer.encode(words)[:CONTEXT])
    with pytest.raises(PromptTooLongError, match="256 tokens leave no room in a context of 256") as caught:
        generator.generate(["a", full, "b", full * 2], 1, PARAMS, 1)
    assert caught.value.indices == (1, 3)
    for most in (2**31 - 1, 2**63 - 1):  # "no limit" costs what the context takes
        long = generator.generate(["a"], 2, replace(PARAMS, max_new_tokens=most), 1)
        assert long == generator.generate(["a"], 2, replace(PARAMS, max_new_tokens=CONTEXT), 1)
    last = tokenizer.decode(tokenizer.encode(words)[: CONTEXT - 1])
    assert generator.generate([last], 1, PARAMS, 1)[0][0].num_tokens == 1


@pytest.mark.parametrize(
    ("n", "params", "message"),
    [
        (0, PARAMS, "n must be between 1 and 1024, got 0"),
        (1, SamplingParams(temperature=-0.5), "temperature must be a finite number of at least 0, got -0.5"),
        (1, SamplingParams(top_p=0.0), r"top_p must be in \(0, 1\], got 0.0"),
        (1, SamplingParams(max_new_tokens=0), "max_new_tokens must be at least 1, got 0"),
    ],
)
def test_a_bad_request_is_refused_and_the_server_goes_on(
    generator: GenerationClient, n: int, params: SamplingParams, message: str
) -> None:
    with pytest.raises(GeneratorError, match=message):
        generator.generate(["a"], n, params, 1)
    assert len(generator.generate(["a"], 1, PARAMS, 1)) == 1


def test_inputs_of_another_dtype_or_missing_are_refused(server: Server) -> None:
    good = encode_generation_request(GenerationRequest(["a"], 1, PARAMS, [0]))
    model = ModelClient(GENERATION, GeneratorConfig(url=server.url, timeout_s=20.0))
    with pytest.raises(RequestError, match="input 'temperature' data-type is 'FP64', but model 'generation' expects"):
        model.infer(good | {"temperature": np.ones((1, 1))})
    with pytest.raises(RequestError, match="input 'prompts' is missing"):
        model.infer({name: array for name, array in good.items() if name != "prompts"})
    with pytest.raises(RequestError, match="prompt 0 is not UTF-8"):
        model.infer(good | {"prompts": np.array([[b"\xff"]], dtype=object)})
    assert model.infer(good)["num_tokens"].shape == (1, 1)


def test_the_server_goes_on_with_another_checkpoint(server: Server, tiny_policy_nemo: Path) -> None:
    other = tiny_policy_nemo.with_name("other.nemo")
    config = GeneratorConfig(url=server.url, timeout_s=60.0, load_timeout_s=60.0)
    with GenerationClient(config) as generator, GenerationClient(config) as bystander:
        before = bystander.generate(PROMPTS, 2, PARAMS, 7)
        assert bystander.checkpoint.startswith("policy.nemo@")
        assert generator.checkpoint == "" and "@" not in generator.name
        name = generator.load(str(other))
        assert name.startswith("other.nemo@") and generator.name.endswith(f"/{name}")
        after = generator.generate(PROMPTS, 2, PARAMS, 7)
        assert all(a[0].text != b[0].text for a, b in zip(after, before))
        with pytest.raises(GeneratorError, match="answered from checkpoint other.nemo@.* no longer from policy.nemo@"):
            bystander.generate(["a"], 1, PARAMS, 7)
        assert generator.load(str(other)) == name
        assert generator.load(str(tiny_policy_nemo)) == bystander.checkpoint
        assert generator.generate(PROMPTS, 2, PARAMS, 7) == before == bystander.generate(PROMPTS, 2, PARAMS, 7)


def test_responses_are_labelled_with_two_checkpoints_in_turn(
    server: Server, tiny_policy_nemo: Path, tmp_path: Path
) -> None:
    first, store = tmp_path / "first.nemo", tmp_path / "labels.jsonl"
    shutil.copy(tiny_policy_nemo.with_name("other.nemo"), first)
    tests = [{"kind": "call", "args": [1], "expected": 2}]
    problem = {"problem_id": "p", "prompt": "def f1(xs):\n", "entry_point": "f1", "tests": tests}
    problems = write(tmp_path / "problems.jsonl", [problem])
    sizes = ["responses_per_prompt=2", "completions=2", "sampling.max_new_tokens=20"]
    job = [f"problems={problems}", f"checkpoints=[{first},{tiny_policy_nemo}]", f"output={store}", *sizes]

    output_of(script("label", *job, f"generator.url={server.url}", cwd=tmp_path))
    rows = read_label_rows(store)
    names = [(row.checkpoint, row.response_id, row.generator.rpartition("/")[2].partition("@")[0]) for row in rows]
    assert sorted(names) == [
        ("first", "first-0", "first.nemo"),
        ("first", "first-1", "first.nemo"),
        ("policy", "policy-0", "policy.nemo"),
        ("policy", "policy-1", "policy.nemo"),
    ]
    assert len({row.response for row in rows}) == 4

    output_of(script("label", *job, "generator.url=http://127.0.0.1:9", cwd=tmp_path))  # nothing to do, nothing asked
    whole = store.read_text(encoding="utf-8").splitlines(keepends=True)
    store.write_text("".join(line for line in whole if '"first-' in line), encoding="utf-8")
    first.unlink()  # what is done is not loaded again
    output_of(script("label", *job, f"generator.url={server.url}", cwd=tmp_path))
    again = read_label_rows(store)
    labels = [{(row.response_id, row.response, row.labels, row.generator) for row in each} for each in (rows, again)]
    assert labels[0] == labels[1]


def changed(source: Path, target: Path, part: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy of a .nemo whose files named with `part` hold something else."""
    with tarfile.open(source) as archive, tarfile.open(target, "w") as copy:
        for member in archive:
            content = archive.extractfile(member)
            data = content.read() if content else b""
            data = change(data) if part in member.name else data
            member.size = len(data)
            copy.addfile(member, BytesIO(data))
    return target


def test_a_checkpoint_that_does_not_fit_is_refused_and_the_old_one_stays(
    generator: GenerationClient, tiny_policy_nemo: Path, tmp_path: Path
) -> None:
    before = generator.generate(PROMPTS, 2, PARAMS, 7)
    text = tmp_path / "notes.nemo"
    text.write_text("no archive")
    head = changed(
        tiny_policy_nemo, tmp_path / "head.nemo", "config.yaml", lambda c: c.replace(b"GPTModel", b"CriticModel")
    )
    words = changed(tiny_policy_nemo, tmp_path / "words.nemo", "tokenizer.model", lambda c: c + b"\0")
    torn = changed(tiny_policy_nemo, tmp_path / "torn.nemo", ".distcp", lambda c: c[:2000])
    for path, reason in (
        ("", "checkpoint must be the path of a .nemo, got ''"),
        (tmp_path / "none.nemo", "none.nemo does not exist"),
        (text, "notes.nemo is no .nemo checkpoint"),
        (head, "head.nemo holds a model with a scalar head"),
        ("embedded", "policy.nemo holds another architecture: num_layers is 4, here 2; start a server of its own"),
        (words, "words.nemo holds another tokenizer"),
        (torn, "the weights of .*torn.nemo cannot be read"),
    ):
        with pytest.raises(GeneratorError, match=f"refused the checkpoint: .*{reason}"):
            generator.load(str(path))
    assert generator.generate(PROMPTS, 2, PARAMS, 7) == before


def test_two_tensor_parallel_ranks_answer_like_one_and_both_end(
    generator: GenerationClient, tiny_policy_nemo: Path, tmp_path: Path
) -> None:
    other = str(tiny_policy_nemo.with_name("other.nemo"))
    expected = generator.generate(PROMPTS, 2, GREEDY, 1), generator.generate(PROMPTS[:2], 3, PARAMS, 7)
    generator.load(other)
    expected_other = generator.generate(PROMPTS, 2, PARAMS, 7, 1)
    generator.load(str(tiny_policy_nemo))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    options = (f"checkpoint={tiny_policy_nemo}", "server.port=0", "tensor_parallel=2")
    with Server(tmp_path / "log", *torchrun, SCRIPT, *options) as pair:
        client = GenerationClient(GeneratorConfig(url=pair.url, timeout_s=60.0, load_timeout_s=60.0))
        answers = client.generate(PROMPTS, 2, GREEDY, 1), client.generate(PROMPTS[:2], 3, PARAMS, 7)
        assert answers == expected
        with pytest.raises(GeneratorError, match="another architecture"):
            client.load("embedded")
        torn = changed(tiny_policy_nemo, tmp_path / "torn.nemo", ".distcp", lambda c: c[:2000])
        with pytest.raises(GeneratorError, match="cannot be read"):
            client.load(str(torn))
        assert client.generate(PROMPTS, 2, GREEDY, 1) == expected[0]
        client.load(other)
        assert client.generate(PROMPTS, 2, PARAMS, 7, 1) == expected_other
        os.kill(rank_zero(pair), signal.SIGTERM)
        assert pair.process.wait(60) == 0, pair.log.read_text()[-3000:]
        assert pair.all_gone()


def rank_zero(server: Server) -> int:
    """The process that torchrun started as rank 0; its children (Triton) inherit the variable too."""
    ranks = [p for p in server.processes() if b"\0RANK=0\0" in b"\0" + Path(f"/proc/{p}/environ").read_bytes()]
    return next(p for p in ranks if SCRIPT.encode() in Path(f"/proc/{p}/cmdline").read_bytes())
