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
#
# tries: to have the clean-up follow its links, or to hang on what it left: loops, pipes, odd names
# kind: call
# verdict: wrong_answer, runtime_error

import os


def f(x):
    for deed in (
        lambda: os.symlink("@KEEP_FOLDER@", "nemo_hostile_link"),
        lambda: os.symlink(".", "nemo_hostile_loop"),
        lambda: os.symlink("/proc", "nemo_hostile_many"),
        lambda: os.link("@KEEP_FOLDER@/keep", "nemo_hostile_hard"),
        lambda: os.mkfifo("nemo_hostile_fifo"),
        lambda: os.mknod("nemo_hostile_node", 0o20666, os.makedev(1, 5)),
        lambda: open(b"nemo_hostile_\xff\n -rf *", "w").close(),
        lambda: open("-rf", "w").close(),
    ):
        try:
            deed()
        except OSError:
            pass
    return "wrong"
