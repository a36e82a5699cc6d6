// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.
//
// tries: to have the compiler read its own input, descriptors and environment
// minimum: namespaces
// verdict: compile_error

#include "/dev/stdin"
#include "/proc/self/fd/0"
#include "/proc/self/environ"
#include "/proc/1/environ"
#include "/proc/@JUDGE_PID@/environ"
int main() {}
