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
"""The parts of `test_hand_rollout.py` that need a process of their own, with NeMo and its patches.

    python hand_rollout.py craft FOLDER             policy.nemo, prm.nemo and critic.nemo with known outputs
    python hand_rollout.py modes FOLDER PRM CRITIC GENERAL RUN  the rollouts of one PPO step of every kind of response,
                                                    without training; prints the data
    python hand_rollout.py train FOLDER PRM CRITIC RUN  three PPO steps against the servers on these ports, to the
                                                    folder RUN; prints the data

In the second step the verifier fails on the first response, in the third on both.

The PRM's and the critic's output depends on the last token alone: attention and MLP add nothing, so that a position's
hidden state is its token's embedding, and the scalar head reads it off.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nemo_prm.megatron import compat

CONF_DIR = Path(__file__).resolve().parents[2] / "conf"
NEWLINE, EOS = 0, 1  # the embedding dimensions that mark these tokens
PIECES = ["\n", "\n\n", "print(1)", "print(2)", "x=1", "#c"]
HIDDEN = 64


def config(name: str, *overrides: str):
    OmegaConf.register_new_resolver("multiply", lambda x, y: x * y, replace=True)
    OmegaConf.register_new_resolver("int_div", lambda x, y: x // y, replace=True)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(name, list(overrides))


def craft(folder: Path) -> None:
    compat.apply()
    import sentencepiece
    import torch
    from lightning.pytorch import Trainer
    from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel
    from nemo.collections.nlp.parts.nlp_overrides import NLPDDPStrategy
    from nemo_aligner.utils.train_script_utils import init_distributed
    from omegaconf import open_dict

    from nemo_prm.megatron import host
    from nemo_prm.megatron.prm import MegatronGPTPRM

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["x=1 print(1) print(2) #c task"] * 10),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=280,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        user_defined_symbols=PIECES,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    cfg = config("pretrain_policy")
    cfg.model.update(num_layers=2, hidden_size=HIDDEN, ffn_hidden_size=128, encoder_seq_length=256)
    cfg.model.update(micro_batch_size=8, global_batch_size=16)  # as train_prm has it: set once per process
    cfg.model.tokenizer.model = str(folder / "tokenizer.model")
    torch.manual_seed(1)
    model = MegatronGPTModel(cfg.model, Trainer(strategy=NLPDDPStrategy(), devices=1, accelerator="cpu", logger=False))
    init_distributed(model.trainer, model)
    with open_dict(model.cfg):
        model.cfg.target = f"{MegatronGPTModel.__module__}.{MegatronGPTModel.__qualname__}"
    model.save_to(str(folder / "policy.nemo"))

    # the head's weights of the two marked dimensions, from the scores wanted at "\n" (0.8) and at EOS (-2)
    for name, at_newline, at_eos, elsewhere in (("prm", 0.8, -2.0, 0.3), ("critic", 0.1, 0.1, 0.1)):
        overrides = [f"policy={folder / 'policy.nemo'}", f"data={folder}", f"output={folder / name}"]
        cfg = config("train_prm", *overrides, "exp_manager=null")
        scorer = host.load(cfg, "rm", MegatronGPTPRM).model
        host.initialise(host.Host(scorer.trainer, scorer, None), cfg)
        # layer norm turns the one-hot embedding into sqrt(H - 1) at its own dimension, -1 / sqrt(H - 1) at the others
        own, other = math.sqrt(HIDDEN - 1), -1 / math.sqrt(HIDDEN - 1)
        wanted = torch.tensor([at_newline - elsewhere, at_eos - elsewhere], dtype=torch.float64)
        weights = torch.linalg.solve(torch.tensor([[own, other], [other, own]], dtype=torch.float64), wanted)
        with torch.no_grad():
            for key, parameter in scorer.named_parameters():
                if "linear_proj" in key or "linear_fc2" in key or "word_embeddings" in key or "rm_head" in key:
                    parameter.zero_()
                if "word_embeddings" in key:
                    parameter[scorer.tokenizer.text_to_ids("\n")[0], NEWLINE] = 1e3  # large against the norm's epsilon
                    parameter[scorer.tokenizer.eos_id, EOS] = 1e3
                if "rm_head.weight" in key:
                    parameter[0, [NEWLINE, EOS]] = weights.float()
                if "rm_head.bias" in key:
                    parameter.fill_(elsewhere)
        with open_dict(scorer.cfg):
            scorer.cfg.target = f"{MegatronGPTPRM.__module__}.{MegatronGPTPRM.__qualname__}"
        scorer.save_to(str(folder / f"{name}.nemo"))


class Response(NamedTuple):
    """What the policy "samples": a text, whether it ends with EOS, and the problem that it answers."""

    text: str
    ends: bool = True
    problem_index: int = 0


FAILED, PASSED = Response("x=1\nprint(2)\n#c"), Response("print(1)\n")
RESPONSES = [  # of `modes`
    FAILED,
    PASSED,
    Response(""),
    Response("print(1)"),
    Response("#c\n"),
    Response("x=1\n", ends=False),
    Response("x=1\n\nprint(1)\n"),
    Response("x=1", problem_index=1),
    Response("x=1\nx=1\n"),  # the judge is lost
]


def rollout_batch(tokenizer, responses: list[Response], lengths: list[int]) -> dict:
    """What the actor's `infer` returns, once the responses have as many tokens as they should."""
    import torch

    eos, prompt = tokenizer.eos_id, tokenizer.text_to_ids("#c\n")  # two tokens
    rows = [tokenizer.text_to_ids(response.text) + [eos] * response.ends for response in responses]
    assert [len(row) for row in rows] == lengths, rows
    return {
        "response_tokens": torch.tensor([prompt + row + [eos] * (max(lengths) - len(row)) for row in rows]),
        "response_lengths": torch.tensor([len(prompt) + len(row) for row in rows]),
        "prompt_lengths": torch.tensor([len(prompt)] * len(rows)),
        "is_end": torch.tensor([response.ends for response in responses]),
        "problem_index": torch.tensor([response.problem_index for response in responses]),
    }


def run_ppo(module, actor, trainer, wrap_verifier, folder: Path, prm_port: str, critic_port: str, *overrides: str):
    """`train_ppo` with an actor, a trainer and a verifier of the test's, and advantages to compute by hand."""
    open_verifier = module.open_verifier
    module.ProblemActor, module.DensePPOTrainer = actor, trainer
    module.open_verifier = lambda config: wrap_verifier(open_verifier(config))
    fixed = [
        f"policy={folder / 'policy.nemo'}",
        f"reward.port={prm_port}",
        f"critic.port={critic_port}",
        "trainer.ppo.normalize_advantages=false",
        "trainer.ppo.gae_lambda=0.95",
        "model.micro_batch_size=1",
        "model.ppo.length_params.max_length=6",
    ]
    module.train_ppo(config("train_ppo", *fixed, *overrides))


def rollouts(count: int) -> list[str]:
    """Overrides of a step with so many rollouts in one batch."""
    sizes = ("num_rollout_samples", "rollout_micro_batch_size", "forward_micro_batch_size")
    return [f"model.global_batch_size={count}", *(f"model.ppo.{size}={count}" for size in sizes)]


def modes(folder: Path, prm_port: str, critic_port: str, general_port: str, run: str) -> None:
    compat.apply()
    import torch

    from nemo_prm.ppo import train_ppo as module
    from nemo_prm.types import Verdict

    class FixedActor(module.ProblemActor):
        def infer(self, inference_batch: dict) -> dict:
            return rollout_batch(self.tokenizer, RESPONSES, [6, 3, 1, 2, 3, 2, 5, 2, 5])

    class FailingVerifier:
        def __init__(self, verifier) -> None:
            self.verifier, self.close = verifier, verifier.close

        def verify_many(self, jobs: list) -> list:
            lost = [program.startswith("x=1\nx=1") for _, program in jobs]
            verdicts = self.verifier.verify_many(jobs)
            return [Verdict("infra_error") if gone else verdict for gone, verdict in zip(lost, verdicts)]

    class RecordingTrainer(module.DensePPOTrainer):
        def fit(self) -> None:
            data, metrics, durations = self.generate_rollouts()
            _, again, _ = self.generate_rollouts()  # the probe compares
            names = ("response_tokens", "advantages", "returns", "mask", "is_end")
            recorded = {name: data[name].tolist() for name in names}
            recorded["metrics"] = {key: value for key, value in metrics.items() if not isinstance(value, dict)}
            recorded["probe_drift"], recorded["durations"] = again["probe_drift"], durations
            recorded["moved"] = self.moved_rewards()
            print("RECORDED " + json.dumps(recorded), flush=True)
            raise SystemExit  # the critic stays as it is

        def moved_rewards(self) -> list[list[float]]:
            """Rewards [B, S-1] of functions in place of lines."""
            client = self.rm_critic
            settings = OmegaConf.merge(client.cfg, {"reward_steps": "functions"})
            moved = module.DenseRewardClient(settings, client.problems, self.model.tokenizer, client.judge.verifier)
            rollouts = self.model.infer({"text": torch.tensor([[0]]), "length": torch.tensor([1])})
            rewards, _ = moved.infer_rm_critic(rollouts).result()
            return rewards.nan_to_num(-9).tolist()

    run_ppo(
        module,
        FixedActor,
        RecordingTrainer,
        FailingVerifier,
        folder,
        prm_port,
        critic_port,
        f"problems={folder / 'mixed.jsonl'}",
        f"output={folder / run}",
        f"general_reward.port={general_port}",
        "sandbox.minimum_level=rlimits",
        *rollouts(len(RESPONSES)),
    )


def train(folder: Path, prm_port: str, critic_port: str, run: str) -> None:
    compat.apply()
    import torch
    from nemo_aligner.utils.ppo_utils import calculate_advantages_and_returns

    from nemo_prm.ppo import train_ppo as module
    from nemo_prm.rewards.advantages import advantages_and_returns
    from nemo_prm.types import Verdict

    class FixedActor(module.ProblemActor):
        """The policy "samples" the two responses of the test; everything else is the real actor."""

        def infer(self, inference_batch: dict) -> dict:
            return rollout_batch(self.tokenizer, [FAILED, PASSED], [6, 3])

    class FailingVerifier:
        """The real verifier, whose judge is lost in the second and third step."""

        def __init__(self, verifier) -> None:
            self.verifier, self.calls = verifier, 0

        def verify_many(self, jobs: list) -> list:
            verdicts = self.verifier.verify_many(jobs)
            self.calls += 1
            return [Verdict("infra_error")] * (self.calls - 1) + verdicts[self.calls - 1 :]

        def close(self) -> None:
            self.verifier.close()

    def gae_is_the_hosts() -> bool:
        generator = torch.Generator().manual_seed(0)
        values, rewards = (torch.randn(5, 300, generator=generator) for _ in range(2))
        mask = (torch.rand(5, 300, generator=generator) < 0.9).float()
        return all(
            torch.allclose(ours, theirs, rtol=1e-6, atol=1e-6)
            for factors in ((1.0, 1.0), (1.0, 0.95), (0.99, 0.9), (1.0, 0.0))
            for ours, theirs in zip(
                advantages_and_returns(values, rewards, *factors, mask),
                calculate_advantages_and_returns(values, rewards, *factors, mask),
            )
        )

    class RecordingTrainer(module.DensePPOTrainer):
        def fit(self) -> None:
            super().fit()
            print(f"FINITE {all(bool(p.isfinite().all()) for p in self.model.parameters())}", flush=True)
            # what a float32 cannot hold
            self.load_state_dict({"step": self.step, "consumed_samples": 2**24 + 1, "ppo_optimization_step": 3})
            print(f"GAE AS THE HOST'S {gae_is_the_hosts()}", flush=True)
            print(f"RESUMED AT {self.consumed_samples} SAMPLES", flush=True)

        def generate_rollouts(self):
            data, metrics, timing = super().generate_rollouts()
            names = ("advantages", "returns", "values", "mask")
            recorded = {name: data[name].tolist() for name in names}
            recorded["metrics"] = {key: value for key, value in metrics.items() if not isinstance(value, dict)}
            recorded["prompt_length"] = len(self.model.tokenizer.text_to_ids("#c\n"))
            print("RECORDED " + json.dumps(recorded), flush=True)
            return data, metrics, timing

    run_ppo(
        module,
        FixedActor,
        RecordingTrainer,
        FailingVerifier,
        folder,
        prm_port,
        critic_port,
        f"problems={folder / 'problems.jsonl'}",
        f"output={folder / run}",
        f"rules={folder / 'rules.yaml'}",
        "trainer.ppo.max_steps=3",
        "trainer.ppo.save_interval=3",
        *rollouts(2),
    )


if __name__ == "__main__":
    {"craft": craft, "modes": modes, "train": train}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
