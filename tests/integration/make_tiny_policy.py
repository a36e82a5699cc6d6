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
"""Makes tiny policies with random weights: `python make_tiny_policy.py policy.nemo other.nemo`; seconds on one core.

Hidden size 64, 2 layers, context 256, rotary positions, the embedded policy's kind of tokenizer.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from nemo_prm.megatron import compat

SEED = 7
TEXTS = [f"def f{i}(xs):\n    # step {i}\n    return [x + {i} for x in xs]\n" for i in range(60)]


def main(output: str, *others: str) -> None:
    compat.apply()
    import torch
    from lightning.pytorch import Trainer
    from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel
    from nemo.collections.nlp.parts.nlp_overrides import NLPDDPStrategy
    from nemo_aligner.utils.train_script_utils import init_distributed
    from omegaconf import OmegaConf, open_dict

    from nemo_prm.data.embedded.tokenizer import train_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Path(folder, "tokenizer.model")
        train_tokenizer(TEXTS, tokenizer, vocab_size=320)
        cfg = OmegaConf.load(Path(__file__).resolve().parents[2] / "conf" / "pretrain_policy.yaml")
        cfg.vocab_size, cfg.seed, cfg.work_dir = 320, SEED, folder
        cfg.model.update(num_layers=2, hidden_size=64, ffn_hidden_size=128, encoder_seq_length=256)
        cfg.model.init_method_std = 0.2  # sharper than usual: completions differ, and tokens repeat
        torch.manual_seed(SEED)
        trainer = Trainer(strategy=NLPDDPStrategy(), devices=1, accelerator="cpu", logger=False)
        model = MegatronGPTModel(cfg.model, trainer)
        init_distributed(trainer, model)
        with open_dict(model.cfg):
            model.cfg.target = f"{MegatronGPTModel.__module__}.{MegatronGPTModel.__qualname__}"
        model.save_to(output)
        with open_dict(model.cfg):
            model.cfg.micro_batch_size //= 2  # as PPO saves another one than pre-training
        for other in others:
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.data.normal_(std=cfg.model.init_method_std)
            model.save_to(other)


if __name__ == "__main__":
    main(*sys.argv[1:])
