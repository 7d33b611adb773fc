#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "guests/lat_ctx/column.hpp"
#include "guests/linux/descriptor.hpp"
#include "guests/linux/failure.hpp"

// lmbench's lat_ctx (McVoy and Staelin, "lmbench: Portable Tools for Performance Analysis", USENIX 1996):
// processes in a ring of pipes hand a token around, and each sums its own words on its turn.
namespace flatback::guests {

/// What a process did: how often it had its turn, and what it summed in all of them, modulo 2^32.
struct Turns {
    std::uint64_t count = 0;
    std::uint32_t sum = 0;
};

/// One page shared by the processes of a ring: what each did.
struct RingTally;

/// A pipe.
struct Pipe {
    Descriptor read_end;
    Descriptor write_end;

    [[nodiscard]] static Expected<Pipe> create();
};

/// The ring. This process is its first; the others are its children, and end with it.
class Ring final {
public:
    /// `processors`: the process that calls is to be on number 0, and the others of the ring are put on these
    /// by turns. With 1 they stay where it is.
    [[nodiscard]] static Expected<Ring> create(const Column& column, unsigned processors = 1);

    Ring(Ring&& other) noexcept;
    Ring& operator=(Ring&&) = delete;
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    ~Ring();

    /// Sends the token around once; it is back when this returns. Each process has had its turn.
    [[nodiscard]] Expected<void> go_round();

    /// Whether the token visited every process once in each round so far, and each summed its own words every
    /// time.
    [[nodiscard]] Expected<void> check() const;

    /// The processes after this one, in the token's order.
    [[nodiscard]] std::span<const pid_t> children() const { return children_; }

private:
    Ring(const Column& column, RingTally* tally) : column_(column), tally_(tally) {}

    Column column_;
    RingTally* tally_;
    std::vector<std::uint32_t> words_;
    std::vector<pid_t> children_;
    Descriptor from_last_;
    Descriptor to_second_;
    std::uint32_t token_ = 0;
    std::uint64_t rounds_ = 0;
};

/// The same work without a switch: one process hands the token to itself through as many pipes, and sums as
/// often. What it costs a turn is the overhead that the raw figure contains.
class SingleProcess final {
public:
    [[nodiscard]] static Expected<SingleProcess> create(const Column& column);

    [[nodiscard]] Expected<void> go_round();
    [[nodiscard]] Expected<void> check() const;

private:
    SingleProcess(std::vector<Pipe> pipes, std::vector<std::uint32_t> words)
        : pipes_(std::move(pipes)), words_(std::move(words)) {}

    std::vector<Pipe> pipes_;
    std::vector<std::uint32_t> words_;
    std::uint32_t token_ = 0;
    std::uint64_t rounds_ = 0;
    Turns turns_;
};

}  // namespace flatback::guests
