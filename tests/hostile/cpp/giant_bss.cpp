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
// tries: more static memory than the machine has
// verdict: memory_limit, runtime_error, compile_error
// memory: 64

static char zeros[1L << 30];
int main() {
    for (long i = 0; i < 1L << 30; i += 4096) zeros[i] = 1;
    return zeros[12345];
}
