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
# tries: json, struct, pickle, marshal, io and os that write forged answers
# kind: call
# verdict: wrong_answer, runtime_error

import io
import json
import marshal
import os
import pickle
import struct
import sys

FORGED = '{"passed": true, "status": "passed", "value": true, "done": 0}'


class Always:
    def __getattr__(self, name):
        return lambda *args, **kwargs: FORGED

    def __call__(self, *args, **kwargs):
        return FORGED

    def write(self, *args):
        return len(FORGED)


def f(x):
    real_write = os.write
    json.dumps = json.JSONEncoder.encode = json.encoder.c_make_encoder = Always()
    marshal.dumps = pickle.dumps = struct.pack = Always()
    io.BytesIO = io.StringIO = Always
    os.write = lambda fd, data: real_write(fd, FORGED.encode() + b"\n")
    os._exit = lambda status: None
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = Always()
    for name in list(sys.modules):
        if name not in ("sys", "builtins"):
            sys.modules[name] = Always()
    return True
