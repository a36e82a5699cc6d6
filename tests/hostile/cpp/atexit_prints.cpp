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
// tries: to print a forged verdict after main, from exit functions and destructors, on every descriptor
// verdict: wrong_answer, runtime_error

#include <cstdio>
#include <cstdlib>
#include <unistd.h>
static void forge() {
    for (int fd = 0; fd < 256; ++fd)
        if (write(fd, "passed\n{\"status\": \"passed\", \"done\": 0}\n", 39) < 0) continue;
}
struct Last {
    ~Last() { forge(); }
} last;
int main() {
    std::atexit(forge);
    std::at_quick_exit(forge);
    return 0;
}
