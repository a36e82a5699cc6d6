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
"""The `nemo-prm` command: a thin front that starts instantly and imports a command's modules only when it runs.

`nemo-prm label problems=humaneval` is `python scripts/label.py problems=humaneval` of the checkout at hand. The
scripts and their YAML are not installed with the package, because they are meant to be read and edited.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn, Sequence

from nemo_prm import __version__
from nemo_prm.errors import ConfigError, NemoPrmError

# One line per script of scripts/, in the order of the pipeline.
SCRIPTS = {
    "quickstart": "run the whole pipeline on two CPU cores, with and without the PRM",
    "import_problems": "make a problem file of HumanEval, MBPP, APPS or LiveCodeBench",
    "import_hf": "make a policy (.nemo) of a Llama or Qwen2 model folder",
    "serve_generation": "serve a policy for sampling",
    "serve_verifier": "judge programs for other hosts",
    "label": "sample responses, execute them, and label their lines by binary search",
    "merge_labels": "merge the label stores of a job's shards into one manifest",
    "select_data": "choose which labelled responses train the PRM",
    "train_prm": "train the process reward model",
    "serve_reward": "serve the PRM's line rewards to PPO",
    "serve_critic": "serve and train PPO's critic",
    "train_ppo": "train the policy by PPO with unit tests and line rewards",
    "evaluate": "estimate Pass@k of a served policy on held-out problems",
    "evaluate_prm": "measure a served PRM on labelled responses",
    "study": "run the paper's tables at small scale and write docs/study.md",
    "search": "answer problems by search with a PRM and public tests",
    "export_hf": "write an imported policy, however trained since, as a Hugging Face model folder",
    "export_labels": "write labels as Parquet or as a Hugging Face data set",
    "report": "write one HTML page with coloured lines",
    "make_embedded_problems": "make the problem set that ships with the package anew",
    "pretrain_policy": "pre-train a small policy, such as the embedded one",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `nemo-prm`; `argv` defaults to the process's arguments."""
    args = build_parser().parse_args(argv)
    try:
        if args.command == "doctor":
            doctor(args.arguments)
        elif args.command == "verify":
            verify(args.arguments)
        else:
            forward(args.command, args.arguments)
    except NemoPrmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def build_parser() -> argparse.ArgumentParser:
    commands = {
        "doctor": "say what this machine has, and what that means",
        "verify": "judge programs by the tests of their problem, in the sandbox",
        **SCRIPTS,
    }
    width = max(map(len, commands))
    listing = "\n".join(f"  {name:<{width}}  {text}" for name, text in commands.items())
    parser = argparse.ArgumentParser(
        prog="nemo-prm",
        description="Process reward models for code, on NVIDIA NeMo-Aligner and Megatron.",
        epilog=f"commands:\n{listing}\n\nAll but doctor and verify take Hydra overrides (key=value); "
        "`nemo-prm COMMAND --help` shows the keys.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nemo-prm {__version__}")
    parser.add_argument("command", choices=commands, metavar="COMMAND", help="one of the commands below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments of the command")
    return parser


def doctor(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="nemo-prm doctor", description="Say what this machine has, and what that means for you."
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    args = parser.parse_args(argv)

    from nemo_prm import doctor as checks

    report = checks.examine()
    print(checks.as_json(report) if args.json else checks.as_table(report))


def verify(argv: Sequence[str]) -> NoReturn:
    from nemo_prm.sandbox import command

    sys.exit(command.main(argv))


def forward(stem: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the script, so that signals and the exit code are the script's own."""
    path = find_script(stem)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, str(path), *arguments])


def find_script(stem: str) -> Path:
    """The script in the checkout we run from: an editable install's own, else that of the current directory."""
    for root in (Path(__file__).resolve().parent.parent, Path.cwd()):
        path = root / "scripts" / f"{stem}.py"
        if path.is_file() and (root / "conf" / f"{stem}.yaml").is_file():
            return path
    raise ConfigError(
        "the scripts are not installed with the package; run this command from a checkout of the repository "
        "(the folder that holds scripts/ and conf/)"
    )
