// Loaded into Bochs before the C library: Bochs takes the buffer off its standard output, so that each line
// of the debugger's trace goes out in a dozen writes, for each of which who reads it is woken. Where that
// output is a pipe (tools/emulator/dialogue.hpp) it keeps a buffer, which is written when it is full, and
// before Bochs reads a command.
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>

namespace {

constexpr std::size_t buffer_bytes = 1 << 16;

bool is_pipe(std::FILE* stream) {
    struct stat status {};
    return ::fstat(::fileno(stream), &status) == 0 && S_ISFIFO(status.st_mode);
}

template <typename Function>
Function of_the_library(const char* name) {
    return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" void setbuf(std::FILE* stream, char* buffer) noexcept {
    const bool keeps_one = buffer == nullptr && stream == stdout && is_pipe(stream);
    static_cast<void>(std::setvbuf(stream, buffer, keeps_one || buffer != nullptr ? _IOFBF : _IONBF,
                                   keeps_one ? buffer_bytes : BUFSIZ));
}

extern "C" char* fgets(char* line, int size, std::FILE* stream) {
    static const auto next = of_the_library<char* (*)(char*, int, std::FILE*)>("fgets");
    static_cast<void>(std::fflush(stdout));
    return next(line, size, stream);
}

extern "C" char* readline(const char* prompt) {
    static const auto next = of_the_library<char* (*)(const char*)>("readline");
    static_cast<void>(std::fflush(stdout));
    return next(prompt);
}
