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
"""What `test_stock_ppo.py` compares with: NeMo-Aligner's own PPO with the unit tests' outcome as its reward.

    python stock_ppo.py OVERRIDES...      of conf/train_ppo.yaml

Trainer, actor and client are the host's, without a line of ours; only the reward of a response, which the host asks a
reward model for, is what its unit tests say. The two patches of the trainer's arithmetic are undone.
"""

from __future__ import annotations

import sys

import torch
from hand_rollout import config

from nemo_prm.megatron import compat


def main() -> None:
    compat.apply()
    from nemo_aligner.algorithms import ppo
    from nemo_aligner.models.nlp.gpt.megatron_gpt_ppo_actor import MegatronGPTActorModel
    from nemo_aligner.models.nlp.gpt.reward_critic_clients import RemoteGPTRMCriticClient, get_future_result
    from nemo_aligner.servers.http_communicator import HTTPCommunicator
    from nemo_aligner.utils import ppo_utils
    from nemo_aligner.utils.server_utils import FutureResult

    from nemo_prm.ppo import train_ppo as module
    from nemo_prm.ppo.outcomes import Judge

    ppo.calculate_ppo_rewards = ppo_utils.calculate_ppo_rewards
    ppo.calculate_advantages_and_returns = ppo_utils.calculate_advantages_and_returns

    class StockFuture(FutureResult):
        def __init__(self, critic_future, outcomes) -> None:
            self.critic_future, self.outcomes = critic_future, outcomes

        def result(self):
            values = get_future_result(self.critic_future, "values")[:, :-1].contiguous()
            return torch.tensor(self.outcomes), values

    class StockClient(RemoteGPTRMCriticClient):
        def __init__(self, cfg, problems, tokenizer, verifier) -> None:
            self.judge = Judge(problems, tokenizer, verifier, "passed")
            self.by_prompt = {tuple(tokenizer.text_to_ids(problem.prompt)): problem for problem in problems}
            super().__init__(cfg)

        def __post_init__(self) -> None:
            names, server = self.cfg.critic.name, self.cfg.critic
            addresses = dict.fromkeys((names.train, names.infer, names.save), (server.ip, server.port))
            self.communicator = HTTPCommunicator.create_http_communicator_from_dict(addresses)
            self.combine_rm_and_critic_server, self.pad_to_length = False, None
            self.training = None

        def train(self, ppo_rollout_data):
            self.training = super().train(ppo_rollout_data)
            return self.training

        def infer_rm_critic(self, rollout_batch):
            # The host's own client does not wait: its values are from before the training step or after it, by chance.
            if self.training is not None:
                self.training.result()
            names = ("response_tokens", "prompt_lengths", "response_lengths")
            rows = list(zip(*(rollout_batch[name].tolist() for name in names)))
            data = {
                "tokens": rollout_batch["response_tokens"].numpy(),
                "sequence_lengths": rollout_batch["response_lengths"].unsqueeze(1).numpy(),
            }
            critic_future = self.communicator.send_data_to_server(server_name=self.cfg.critic.name.infer, data=data)
            problems = [self.by_prompt[tuple(tokens[:prompt])] for tokens, prompt, _ in rows]
            outcomes = self.judge.outcomes(problems, [tokens[prompt:total] for tokens, prompt, total in rows])
            return StockFuture(critic_future, outcomes)

        def start(self, step: int) -> None:
            pass

        def close(self) -> None:
            self.communicator.close()

    class StockTrainer(ppo.PPOTrainer):
        stopped_by = None

        def __init__(self, *, output, watch, num_samples, num_probes, **arguments) -> None:
            super().__init__(**arguments)

    module.ProblemActor, module.DenseRewardClient, module.DensePPOTrainer = (
        MegatronGPTActorModel,
        StockClient,
        StockTrainer,
    )
    print(module.train_ppo(config("train_ppo", *sys.argv[1:])))


if __name__ == "__main__":
    main()
