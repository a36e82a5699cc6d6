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
// tries: standard error without end, with the signal of the limit ignored
// verdict: output_limit, time_limit, runtime_error

#include <csignal>
#include <unistd.h>
static char block[1 << 20];
int main() {
    std::signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 300; ++i)
        if (write(2, block, sizeof block) < 0) _exit(3);
}
