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
"""Typed configuration of the light-side scripts; the one place where a default lives.

`conf/<script>.yaml` starts from `<script>_schema`, so a YAML states only what differs. Scripts that drive the host's
trainers (`train_prm`, `serve_reward`, `serve_critic`, `train_ppo`) keep the host's config tree in their YAML.
(p) marks a default taken from PSGPO, arXiv 2410.17621.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar

from nemo_prm.errors import ConfigError
from nemo_prm.types import SamplingParams

Schema = TypeVar("Schema")

MISSING = "???"  # OmegaConf's marker for a mandatory value
MAX_STOPS = 16  # stop strings of one request


@dataclass
class SamplingConfig:
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    top_k: int = 0  # 0 switches the filter off
    max_new_tokens: int = 256
    stop: list[str] = field(default_factory=list)  # a completion ends before the first of these strings

    def as_params(self) -> SamplingParams:
        """These settings as the generators take them.

        Raises:
            ConfigError: stop strings that cannot be honoured.
        """
        if len(self.stop) > MAX_STOPS or not all(self.stop):
            raise ConfigError(f"sampling.stop must be at most {MAX_STOPS} strings, none empty, found {self.stop}.")
        return SamplingParams(self.temperature, self.top_p, self.top_k, self.max_new_tokens, tuple(self.stop))


@dataclass
class GeneratorConfig:
    """Where completions come from; `nemo_prm.serving.generators` opens it."""

    kind: str = "triton"  # triton: scripts/serve_generation.py; openai: any /v1/completions; recorded: a file
    url: str = "http://127.0.0.1:5560"
    model: Optional[str] = None  # openai: which of the endpoint's models
    token: Optional[str] = None  # defaults to the environment: NEMO_PRM_TOKEN (triton), OPENAI_API_KEY (openai)
    timeout_s: float = 120.0  # for one request, retries included
    connect_timeout_s: float = 5.0  # how long a server that never answered may refuse the connection
    reconnect_timeout_s: float = 60.0  # how long a server that answered before may be away (a restart)
    load_timeout_s: float = 1800.0  # triton: for the change to another checkpoint
    batch_size: int = 64  # prompts per request; an openai request has one
    requests_in_flight: int = 16  # openai: at most
    recording: Optional[str] = None  # .jsonl of completions: recorded replays it, the other kinds append to it


@dataclass
class RewardClientConfig:
    """Where the process reward model answers: the `prm` model of `scripts/serve_reward.py`."""

    url: str = "http://127.0.0.1:5555"
    token: Optional[str] = None  # defaults to the environment variable NEMO_PRM_TOKEN
    timeout_s: float = 120.0  # for one request, retries included
    connect_timeout_s: float = 5.0  # how long a server that never answered may refuse the connection
    reconnect_timeout_s: float = 60.0  # how long a server that answered before may be away (a restart)
    batch_size: int = 64  # sequences per request


@dataclass
class ServerConfig:
    """Where a server listens; without a token it answers on a loopback address only."""

    host: str = "127.0.0.1"
    port: int = 5560
    token: Optional[str] = None  # defaults to the environment variable NEMO_PRM_TOKEN
    drain_s: int = 30  # how long requests in flight may take when the server is asked to end
    verbose: bool = False  # Triton's own log on the terminal
    metrics_port: Optional[int] = None  # where Triton answers /metrics (Prometheus, no token); None: nowhere


@dataclass
class ServeGenerationConfig:
    checkpoint: str = "embedded"  # a policy (.nemo), or "embedded"
    max_batch: int = 64  # rows (prompts times completions) in one forward pass
    max_prompts: int = 1024  # prompts in one request
    tensor_parallel: int = 1  # start with `torchrun --nproc-per-node N` for N > 1
    precision: str = "auto"  # 32, bf16, 16; auto is bf16 on a GPU and 32 on the CPU
    backend: str = "auto"  # tensorrt_llm, megatron; auto is tensorrt_llm where it is installed and a GPU is there
    trt_llm_model_type: str = "llama"  # of the host's exporter: llama, gptnext, gemma, falcon, mixtral
    server: ServerConfig = field(default_factory=ServerConfig)


@dataclass
class VerifierClientConfig:
    """Hosts that judge programs in place of this one: the `verifier` model of `scripts/serve_verifier.py`."""

    urls: list[str] = field(default_factory=list)  # http://host:5557 each; none: programs run on this machine
    token: Optional[str] = None  # defaults to the environment variable NEMO_PRM_TOKEN
    timeout_s: float = 600.0  # for one request at one host, waiting in its queue included
    connect_timeout_s: float = 5.0  # how long all hosts may be away before the first one has answered
    reconnect_timeout_s: float = 60.0  # how long all hosts may be away after that (restarts)
    batch_size: int = 32  # programs per request, at most
    requests_per_host: int = 4  # in flight


@dataclass
class SandboxConfig:
    workers: int = 0  # programs run at once; 0: one per core
    time_limit_s: Optional[float] = None  # of one test; overrides the problem's own limit
    memory_limit_mb: Optional[int] = None  # overrides the problem's own limit
    total_time_limit_s: Optional[float] = None  # of all tests of a program together
    stop_at_first_failure: bool = False  # True: no pass rate, and less work
    minimum_level: str = "full"  # full, namespaces, rlimits: start at this isolation or a better one, or not at all
    remote: VerifierClientConfig = field(default_factory=VerifierClientConfig)

    def limits(self) -> dict[str, Any]:
        """Return what of this changes verdicts; where programs run, and how many at once, does not."""
        return {name: getattr(self, name) for name in ("time_limit_s", "memory_limit_mb", "total_time_limit_s")}


@dataclass
class ServeVerifierConfig:
    problems: str = "embedded"  # "embedded", "humaneval", or a problem file (.jsonl), as its clients have it
    split: str = "train"  # of the embedded set
    max_batch: int = 256  # programs in one request, and in those that are judged together
    concurrent_batches: int = 4  # so that one slow program does not hold up the next batch
    max_queue: int = 64  # requests that may wait; one more is refused, and its client tries again
    metrics: Optional[str] = None  # folder for metrics.jsonl: verdicts, programs per second, programs waiting
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    server: ServerConfig = field(default_factory=lambda: ServerConfig(port=5557))


@dataclass
class NeutralConfig:
    """Which steps get the neutral label 0."""

    comments: bool = True  # (p)
    blank_lines: bool = True
    docstrings: bool = True


@dataclass
class LabelConfig:
    problems: str = "embedded"  # "embedded", "humaneval", or a problem file (.jsonl)
    split: str = "train"  # of the embedded set
    responses: Optional[str] = None  # label these responses (.jsonl) in place of sampling
    output: str = MISSING  # label store (.jsonl); a rerun resumes
    checkpoint: str = "policy"  # name of the policy in the rows
    # Sample from each of these in turn, by the generation server (.nemo as it sees them) or endpoint (its models);
    # their file names (with their folders' where two are alike) are their names in the rows. Four of a baseline's RL
    # run (p).
    checkpoints: list[str] = field(default_factory=list)
    limit: Optional[int] = None  # only the first N problems
    shard: Optional[str] = None  # index/count, such as 0/16: every 16th of these problems, to a store of its own
    responses_per_prompt: int = 5  # (p)
    completions: int = 20  # K (p)
    steps: str = "lines"  # (p) lines, blocks, functions, thoughts
    soft_labels: bool = False
    first_wave: int = 2  # completions drawn at first for a prefix; each further wave is twice as large, up to K
    think: bool = False  # ask for numbered thoughts before the program
    # Which prefix is asked about next: cost_aware; halve, the middle one, as the paper has it; every: all of them,
    # with all K, and labels are mean pass rates; auto: every for thoughts, else cost_aware.
    search: str = "auto"
    sequential_epsilon: float = 0.0  # give a prefix up when a pass among its K is less likely than this; 0: never
    keep_completions: bool = False  # in the rows: what was run for each prefix, and what came of it, for the report
    audit_share: float = 0.0  # of the failed responses: every prefix is asked about with all K, to count violations
    searches_in_flight: int = 256  # responses worked on at a time
    cache: Optional[str] = None  # completions and verdicts paid for; default: <output>.cache
    prm_url: Optional[str] = None  # of a reward server whose scores sharpen the choice of prefixes
    seed: int = 1234
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    neutral: NeutralConfig = field(default_factory=NeutralConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    sandbox: SandboxConfig = field(default_factory=lambda: SandboxConfig(stop_at_first_failure=True))


@dataclass
class MergeLabelsConfig:
    shards: list[str] = MISSING  # type: ignore[assignment]  # stores of one job's shards, or patterns such as labels-*.jsonl
    output: str = MISSING  # manifest (.json), which stands for all of them wherever labels are read
    allow_incomplete: bool = False  # merge what there is of a job that has not ended


@dataclass
class ExportLabelsConfig:
    labels: list[str] = MISSING  # type: ignore[assignment]  # label stores, or manifests of merge_labels
    output: str = MISSING  # a file (.parquet), or a folder for datasets.load_from_disk


@dataclass
class SelectDataConfig:
    labels: list[str] = MISSING  # type: ignore[assignment]  # label stores, or manifests of merge_labels
    output: str = MISSING  # directory: train.jsonl, validation.jsonl, summary.json, manifests/<strategy>.json
    strategy: str = "revised_only"  # (p) full, remove_hard, medium_only, revised_only
    inputs: str = "lines"  # what the PRM will read: lines; of thoughts code_prm, no_feedback, plan
    per_thought: int = 1  # programs derived from a thought that become rows
    validation_share: float = 0.1  # of the problems
    # Sets whose problems must not be in the labels: problem files, "humaneval", "embedded:<split>".
    exclude_problems: list[str] = field(default_factory=lambda: ["embedded:test"])
    seed: int = 1234


@dataclass
class EvaluateConfig:
    problems: str = "embedded"
    split: str = "test"
    output: str = MISSING  # directory: samples.jsonl, results.json
    checkpoint: str = "policy"
    limit: Optional[int] = None
    think: bool = False  # ask for numbered thoughts before the program
    samples: int = 10  # n (p)
    k: list[int] = field(default_factory=lambda: [1])
    seed: int = 1234
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.2, top_p=0.95))  # (p)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    sandbox: SandboxConfig = field(default_factory=lambda: SandboxConfig(stop_at_first_failure=True))


@dataclass
class EvaluatePRMConfig:
    labels: list[str] = MISSING  # type: ignore[assignment]  # label stores, or manifests of merge_labels
    output: str = MISSING  # directory: scores.jsonl, results.json
    limit: Optional[int] = None  # only the first N responses
    reward: RewardClientConfig = field(default_factory=RewardClientConfig)


@dataclass
class SearchConfig:
    problems: str = "embedded"
    split: str = "test"
    output: str = MISSING  # directory: answers.jsonl (with traces; a rerun goes on), results.json
    limit: Optional[int] = None
    strategy: str = "best_of_n"  # single, best_of_n, beam, gvr
    budget: int = 16  # completions per problem
    by: str = "both"  # what decides between candidates: prm, public (tests), both
    aggregate: str = "min"  # of a response's line scores: last, min, mean, product
    think: bool = False  # ask for numbered thoughts before the program
    inputs: str = "lines"  # what the PRM reads, as it was trained: lines; of thoughts code_prm, no_feedback, plan
    width: int = 2  # of beam: prefixes that are kept after a round; of gvr: responses drawn in a round
    lines: int = 2  # of beam: by how many lines a prefix grows in a round
    threshold: float = 0.0  # of gvr: a thought is refined where its score is below; 2 p - 1 for a pass rate p
    rounds: int = 4  # of gvr: refinements before it begins anew
    searches_in_flight: int = 64
    seed: int = 1234
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.8, top_p=0.95))
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    reward: RewardClientConfig = field(default_factory=RewardClientConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)


@dataclass
class ReportConfig:
    labels: list[str] = MISSING  # type: ignore[assignment]  # label stores, or manifests of merge_labels
    output: str = MISSING  # one self-contained .html
    limit: int = 5000  # labelled responses that can be looked at; the totals count all
    prm: Optional[str] = None  # output of evaluate_prm: how well a PRM scores these lines
    search: list[str] = field(default_factory=list)  # outputs of search: answers with their candidates
    summary: Optional[str] = None  # summary.json of a run, shown on top
    ppo: list[str] = field(default_factory=list)  # outputs of train_ppo, whose curves are drawn side by side
    samples: int = 8  # responses of the last step of each


@dataclass
class ImportProblemsConfig:
    format: str = MISSING  # humaneval, mbpp, apps, livecodebench
    sources: list[str] = MISSING  # type: ignore[assignment]  # the benchmark's files; of APPS a folder, too
    output: str = MISSING  # problem file (.jsonl)
    released_from: Optional[str] = None  # of livecodebench: first day of the contests, such as 2024-08-01
    released_until: Optional[str] = None  # and the last
    limit: Optional[int] = None  # only the first N problems


@dataclass
class MakeEmbeddedProblemsConfig:
    seed: int = 1
    output: Optional[str] = None  # folder; None replaces the files of the package
    train: int = 2100  # problems of each split
    validation: int = 200
    test: int = 200


@dataclass
class QuickstartConfig:
    """The whole pipeline with and without the PRM; sized for two CPU cores and the embedded policy."""

    problems: str = "embedded"  # "embedded", "humaneval", or a problem file (.jsonl), split by a hash of the ids
    policy: str = "embedded"  # a policy (.nemo), or "embedded"
    output: str = "runs/quickstart"  # a rerun reuses the stages whose settings and inputs have not changed
    held_out_share: float = 0.25  # of a problem file; at least one problem
    label_problems: Optional[int] = 150  # the first N training problems
    responses_per_prompt: int = 2
    completions: int = 6  # K
    strategy: str = "full"  # of so few labels revised_only teaches the line number alone: docs/benchmarks.md
    ppo_steps: int = 10  # of each of the two PPO runs
    evaluate_problems: Optional[int] = None  # the first N held-out problems
    evaluate_samples: int = 2
    startup_timeout_s: float = 180.0  # for one server
    minimum_level: str = "rlimits"  # of isolation; raise it to full for a policy that you do not know
    # Further Hydra overrides by stage or server, for example {train_prm: [trainer.rm.max_epochs=2]}.
    overrides: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class StudyConfig:
    """PSGPO's tables on the embedded problems; sized for two CPU cores."""

    output: str = "runs/study"  # a rerun goes on: stages whose settings and inputs have not changed are reused
    page: str = "docs/study.md"  # beside it, in a folder of its name: results.jsonl and the plots
    # A row of results.jsonl stands until it is deleted: do that where conf/ or the policy at this path has changed.
    policy: str = "embedded"  # a policy (.nemo), or "embedded"
    arms: list[str] = field(default_factory=list)  # which to run; none: all of nemo_prm/study/arms.py
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5])  # every arm runs with every seed
    baseline_seed: int = 1000  # of the run whose checkpoints are labelled
    steps: int = 12  # of PPO
    label_problems: int = 600  # the first N training problems, one response of each of 4 checkpoints
    completions: int = 6  # K
    evaluate_problems: Optional[int] = None  # the first N held-out problems
    evaluate_samples: int = 5
    jobs: int = 2  # stages at a time
    minimum_level: str = "rlimits"  # of isolation; raise it to full for a policy that you do not know
    startup_timeout_s: float = 300.0  # for one server
    run: bool = True  # False: write the page of the results that are there
    stage: Optional[str] = None  # set by the study itself: what a worker is to run


def typed(schema: type[Schema], cfg: Any, name: str) -> Schema:
    """The part `name` of a config tree that is otherwise the host's, checked against a dataclass of ours.

    Raises:
        ConfigError: it has a key that there is not, or a value of another type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        found: Schema = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), cfg[name]))  # type: ignore
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name}: {one_line(error)}") from None
    return found


def one_line(error: BaseException) -> str:
    """Hydra and OmegaConf spread a message over lines ("Could not override 'x'." / "Key 'x' is not in struct ...")."""
    parts = [str(error), str(error.__cause__ or "")]
    lines = [line.strip() for part in parts for line in part.splitlines()]
    noise = ("full_key:", "object_type=", "reference_type=", "To append to your config use")
    keep = [line for line in lines if line and not line.startswith(noise)]
    key = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")), "")
    if key and any("is not a ListConfig" in line for line in keep):
        return f"{key} takes a list: '{key}=[...]'"
    return " ".join(dict.fromkeys(keep))
