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
# tries: exceptions whose text, name, notes and traceback raise or lie
# kind: call
# verdict: runtime_error, wrong_answer


class Bad(Exception):
    def __str__(self):
        raise self

    __repr__ = __str__
    __traceback__ = property(lambda self: 1 / 0)
    __class__ = AssertionError
    __notes__ = property(lambda self: 1 / 0)
    __cause__ = property(lambda self: 1 / 0)


Bad.__name__ = 'passed\n{"done": 0}\n\x00\ud800'
Bad.__qualname__ = "MemoryError"


def f(x):
    raise Bad
