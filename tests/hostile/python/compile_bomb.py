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
# tries: a source that breaks or stalls the compiler
# kind: call
# verdict: compile_error, runtime_error, memory_limit, time_limit

f = lambda x: (((((((((((1 << 10) ** 9) ** 9) ** 9) ** 9) ** 9) ** 9) ** 9) ** 9) ** 9) ** 9) ** 9
f = lambda x: eval("(" * 100_000 + ")" * 100_000)
f = lambda x, source="-" * 2_000_000 + "1": eval(source)
