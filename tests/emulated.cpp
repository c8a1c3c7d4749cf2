// Runs functions of a library that was built for another processor, as a program of that processor under
// QEMU, in the memory of the process that asks: tests/emulated.py has the other end.
//
//     emulated LIBRARY
//
// Addresses are those of the asking process. Where one is first used here there is no memory, and the
// signal asks for the page at it. A call ends with all such pages sent back. So nobody has to know what
// the arguments point at, and an address that the asking process lacks is reported.
//
// It reads from its standard input, and writes to its standard output:
//     'c' NAME 0 integers[12] float   call a function       ->  'p' address           asks for a page
//                                                                                     <- 1 and its bytes, or 0
//                                                               'r' status count      after each call, then
//                                                                   (address bytes)...    its pages
//                                                               'u'                   no such function

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

// In the place of libc's, for the library as well. QEMU (7.2) goes on with wrong registers where the
// instruction that libc clears memory with, DC ZVA, meets a page that is not here.
extern "C" void* memset(void* to, int value, std::size_t bytes) {
    auto* at = static_cast<volatile char*>(to);
    for (std::size_t i = 0; i < bytes; ++i) at[i] = static_cast<char>(value);
    return to;
}

namespace {

constexpr std::size_t page_bytes = 4096, most_pages = 1 << 18;

std::uintptr_t pages[most_pages];  // those that are here, in the order in which they came
std::size_t count = 0;
volatile int busy = 0;  // one thread asks at a time

[[noreturn]] void end(const char* why, std::uintptr_t address) {
    std::fprintf(stderr, "emulated: %s (address 0x%zx)\n", why, static_cast<std::size_t>(address));
    std::_Exit(3);
}

void receive(void* to, std::size_t bytes) {
    for (auto* at = static_cast<char*>(to); bytes > 0;) {
        const ssize_t got = read(0, at, bytes);
        if (got <= 0) std::_Exit(0);  // nobody asks any more
        at += got, bytes -= static_cast<std::size_t>(got);
    }
}

void send(const void* from, std::size_t bytes) {
    for (auto* at = static_cast<const char*>(from); bytes > 0;) {
        const ssize_t put = write(1, at, bytes);
        if (put <= 0) std::_Exit(0);
        at += put, bytes -= static_cast<std::size_t>(put);
    }
}

bool is_here(std::uintptr_t page) {
    for (std::size_t i = count; i-- > 0;)
        if (pages[i] == page) return true;
    return false;
}

// Memory is put at its address when it is filled: another thread may be waiting to read there.
void fetch(int, siginfo_t* info, void*) {
    const auto page = reinterpret_cast<std::uintptr_t>(info->si_addr) & ~(page_bytes - 1);
    while (__sync_lock_test_and_set(&busy, 1)) usleep(100);
    if (!is_here(page)) {
        char found = 0;
        send("p", 1);
        send(&page, sizeof page);
        receive(&found, 1);
        if (!found) end("a kernel read or wrote where there is no memory", page);
        if (count == most_pages) end("too many pages", page);
        void* filled = mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        receive(filled, page_bytes);
        if (mremap(filled, page_bytes, page_bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
                   reinterpret_cast<void*>(page)) == MAP_FAILED)
            end("a page cannot be put at its address", page);
        pages[count++] = page;
    }
    __sync_lock_release(&busy);
}

// Under the calling convention of 64-bit Arm, any function of integers, pointers and one float may be
// called so: floats have registers of their own, and of integers as many are read as it takes.
using Function = std::int64_t (*)(std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                                  std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                                  std::int64_t, std::int64_t, std::int64_t, std::int64_t, float);

void call(void* library) {
    char name[256] = {};
    for (char* at = name;; ++at) {
        receive(at, 1);
        if (*at == 0) break;
    }
    std::int64_t x[12];
    float number = 0;
    receive(x, sizeof x);
    receive(&number, sizeof number);
    const auto function = reinterpret_cast<Function>(dlsym(library, name));
    if (function == nullptr) return send("u", 1);
    const std::int64_t status = function(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8], x[9],
                                         x[10], x[11], number);
    const auto sent = static_cast<std::int64_t>(count);
    send("r", 1);
    send(&status, sizeof status);
    send(&sent, sizeof sent);
    for (std::size_t i = 0; i < count; ++i) {
        send(&pages[i], sizeof pages[i]);
        send(reinterpret_cast<void*>(pages[i]), page_bytes);
        munmap(reinterpret_cast<void*>(pages[i]), page_bytes);
    }
    count = 0;
}

}  // namespace

int main(int, char** arguments) {
    struct sigaction action = {};
    action.sa_sigaction = fetch;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
    void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) end(dlerror(), 0);
    for (char command = 0;;) {
        receive(&command, 1);
        if (command == 'c') call(library);
    }
}
