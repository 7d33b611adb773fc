#include "guests/lat_ctx/ring.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <new>
#include <utility>

#include "guests/lat_ctx/work.hpp"

namespace flatback::guests {

struct RingTally {
    std::array<Turns, most_processes> turns{};
};

namespace {

[[nodiscard]] Expected<std::uint32_t> receive(const Descriptor& pipe) {
    std::uint32_t token = 0;
    const ssize_t count = ::read(pipe.number(), &token, sizeof token);
    if (count < 0) {
        return system_failure("reading the token");
    }
    if (count != sizeof token) {
        return std::unexpected("a process of the ring has ended");
    }
    return token;
}

[[nodiscard]] Expected<void> send(const Descriptor& pipe, std::uint32_t token) {
    if (::write(pipe.number(), &token, sizeof token) != sizeof token) {
        return system_failure("writing the token");
    }
    return {};
}

[[nodiscard]] bool run_on(unsigned processor) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(processor, &only);
    return ::sched_setaffinity(0, sizeof only, &only) == 0;
}

void take_turn(Turns& turns, std::span<const std::uint32_t> words) {
    turns.sum += sum_of(words);
    ++turns.count;
}

/// A child's life: the token in, its turn, the token out, until the pipe before it is closed.
void hand_on(const Descriptor& from, const Descriptor& to, Turns& turns,
             std::span<const std::uint32_t> words) {
    for (;;) {
        const auto token = receive(from);
        if (!token) {
            return;
        }
        take_turn(turns, words);
        if (!send(to, *token + 1)) {
            return;
        }
    }
}

}  // namespace

Expected<Pipe> Pipe::create() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) < 0) {
        return system_failure("pipe");
    }
    return Pipe{Descriptor(ends[0]), Descriptor(ends[1])};
}

Expected<Ring> Ring::create(const Column& column, unsigned processors) {
    void* const shared =
        ::mmap(nullptr, sizeof(RingTally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return system_failure("mmap");
    }
    Ring ring(column, new (shared) RingTally);
    const pid_t parent = ::getpid();
    auto before = Pipe::create();
    if (!before) {
        return std::unexpected(before.error());
    }
    ring.to_second_ = std::move(before->write_end);
    for (unsigned index = 1; index < column.processes; ++index) {
        auto after = Pipe::create();
        if (!after) {
            return std::unexpected(after.error());
        }
        const pid_t child = ::fork();
        if (child < 0) {
            return system_failure("fork");
        }
        if (child == 0) {
            // The parent may be killed: nobody would close the ring then.
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (::getppid() == parent && (processors == 1 || run_on(index % processors))) {
                // Only its own two ends may stay open, or it would keep others waiting at the ring's end.
                ring.to_second_.close();
                after->read_end.close();
                const auto words = make_words(column.kilobytes, index);
                hand_on(before->read_end, after->write_end, ring.tally_->turns[index], words);
            }
            ::_exit(0);
        }
        ring.children_.push_back(child);
        after->write_end.close();
        before = std::move(after);
    }
    ring.from_last_ = std::move(before->read_end);
    ring.words_ = make_words(column.kilobytes, 0);
    return ring;
}

Ring::Ring(Ring&& other) noexcept
    : column_(other.column_),
      tally_(std::exchange(other.tally_, nullptr)),
      words_(std::move(other.words_)),
      children_(std::exchange(other.children_, {})),
      from_last_(std::move(other.from_last_)),
      to_second_(std::move(other.to_second_)),
      token_(other.token_),
      rounds_(other.rounds_) {}

Ring::~Ring() {
    // The second process reads the end of its pipe and ends, which closes the third one's, and so on around.
    to_second_.close();
    for (const pid_t child : children_) {
        while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
        }
    }
    if (tally_ != nullptr) {
        ::munmap(tally_, sizeof *tally_);
    }
}

Expected<void> Ring::go_round() {
    take_turn(tally_->turns[0], words_);
    if (auto sent = send(to_second_, token_ + 1); !sent) {
        return sent;
    }
    const auto token = receive(from_last_);
    if (!token) {
        return std::unexpected(token.error());
    }
    token_ = *token;
    ++rounds_;
    return {};
}

Expected<void> Ring::check() const {
    if (token_ != static_cast<std::uint32_t>(rounds_ * column_.processes)) {
        return std::unexpected("the token did not visit every process");
    }
    for (unsigned index = 0; index < column_.processes; ++index) {
        const Turns& turns = tally_->turns[index];
        const auto sum = sum_of(make_words(column_.kilobytes, index));
        if (turns.count != rounds_ || turns.sum != static_cast<std::uint32_t>(sum * rounds_)) {
            return std::unexpected("process " + std::to_string(index) +
                                   " of the ring did not do its work: it has summed " +
                                   std::to_string(turns.count) + " times in " + std::to_string(rounds_) +
                                   " rounds, to " + std::to_string(turns.sum));
        }
    }
    return {};
}

Expected<SingleProcess> SingleProcess::create(const Column& column) {
    std::vector<Pipe> pipes;
    for (unsigned index = 0; index < column.processes; ++index) {
        auto pipe = Pipe::create();
        if (!pipe) {
            return std::unexpected(pipe.error());
        }
        pipes.push_back(std::move(*pipe));
    }
    return SingleProcess(std::move(pipes), make_words(column.kilobytes, 0));
}

Expected<void> SingleProcess::go_round() {
    for (const Pipe& pipe : pipes_) {
        take_turn(turns_, words_);
        if (auto sent = send(pipe.write_end, token_ + 1); !sent) {
            return sent;
        }
        const auto token = receive(pipe.read_end);
        if (!token) {
            return std::unexpected(token.error());
        }
        token_ = *token;
    }
    ++rounds_;
    return {};
}

Expected<void> SingleProcess::check() const {
    const std::uint64_t expected = rounds_ * pipes_.size();
    const auto sum = sum_of(words_);
    if (turns_.count != expected || token_ != static_cast<std::uint32_t>(expected) ||
        turns_.sum != static_cast<std::uint32_t>(sum * expected)) {
        return std::unexpected("the single process did not do its work");
    }
    return {};
}

}  // namespace flatback::guests
