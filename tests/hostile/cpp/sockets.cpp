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
// tries: connections to loopback, by every family
// verdict: wrong_answer

#include <arpa/inet.h>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
template <class Address> void reach(int kind, Address &address, socklen_t size) {
    int fd = socket(reinterpret_cast<sockaddr &>(address).sa_family, kind, 0);
    if (fd < 0) return;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (connect(fd, reinterpret_cast<sockaddr *>(&address), size) == 0 && send(fd, "found you", 9, 0) == 9 &&
        (kind == SOCK_STREAM || reinterpret_cast<sockaddr &>(address).sa_family == AF_UNIX))
        std::puts("LEAK connected");
    usleep(1000);
}
int main() {
    sockaddr_in four{AF_INET, htons(@TCP4_PORT@), {htonl(INADDR_LOOPBACK)}, {}};
    reach(SOCK_STREAM, four, sizeof four);
    four.sin_port = htons(@UDP4_PORT@);
    reach(SOCK_DGRAM, four, sizeof four);
    sockaddr_in6 six{AF_INET6, htons(@TCP6_PORT@), 0, in6addr_loopback, 0};
    reach(SOCK_STREAM, six, sizeof six);
    sockaddr_un name{AF_UNIX, "\0@ABSTRACT@"};
    reach(SOCK_STREAM, name, offsetof(sockaddr_un, sun_path) + sizeof "@ABSTRACT@");
    sockaddr_un path{AF_UNIX, "@UNIX_PATH@"};
    reach(SOCK_STREAM, path, sizeof path);
    std::puts("nothing");
}
