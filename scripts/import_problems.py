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
"""Writes a benchmark's files as a problem file: `python scripts/import_problems.py format=livecodebench ...`"""

from __future__ import annotations

from pathlib import Path

from nemo_prm.config import ImportProblemsConfig
from nemo_prm.entry import script


@script(ImportProblemsConfig)
def main(config: ImportProblemsConfig) -> None:
    from nemo_prm.data.benchmarks import load_benchmark
    from nemo_prm.data.jsonl import write_jsonl
    from nemo_prm.data.problems import problem_to_json
    from nemo_prm.errors import DataError

    found = load_benchmark(config.format, config.sources, config.released_from, config.released_until, config.limit)
    left_out = ", ".join(f"{count} left out ({reason})" for reason, count in found.left_out.items())
    if not found.problems:
        raise DataError(f"no problem is left of {', '.join(config.sources)}: {left_out or 'there was none'}")
    output = Path(config.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(output, map(problem_to_json, found.problems))
    print(f"{output}: {len(found.problems)} problems{', ' * bool(left_out)}{left_out}")


if __name__ == "__main__":
    main()
