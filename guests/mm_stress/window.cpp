#include "guests/mm_stress/window.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "guests/mm_stress/faulting_access.hpp"

namespace flatback::guests {
namespace {

constexpr std::size_t page_size = 4096;

[[nodiscard]] Failure wrong(std::string_view when, std::size_t page, std::string_view what) {
    return std::string(when) + ": page " + std::to_string(page) + " " + std::string(what);
}

}  // namespace

Expected<Window> Window::create(std::size_t pages) {
    void* start = ::mmap(nullptr, pages * page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        return system_failure("mmap");
    }
    return Window(static_cast<std::byte*>(start), pages);
}

Window::Window(Window&& other) noexcept
    : start_(std::exchange(other.start_, nullptr)),
      pages_(other.pages_),
      generation_(other.generation_),
      published_(other.published_.load()) {}

Window::~Window() {
    if (start_ != nullptr) {
        ::munmap(start_, pages_ * page_size);
    }
}

volatile std::uint64_t* Window::word(std::size_t page) const {
    // Not always the same one: caches and pages' beginnings are not to matter.
    const std::size_t offset = (page * 72 + generation_ * 8) % (page_size - 8);
    return reinterpret_cast<volatile std::uint64_t*>(start_ + page * page_size + offset);
}

/// Pages that hold zeros, in the place of those that were there.
Expected<void> Window::map_anew() {
    void* const mapped = ::mmap(start_, pages_ * page_size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return mapped == MAP_FAILED ? Expected<void>(system_failure("mmap")) : Expected<void>();
}

Expected<void> Window::check(std::string_view when) const {
    for (std::size_t page = 0; page < pages_; ++page) {
        const auto found = try_read(word(page));
        if (!found) {
            return std::unexpected(wrong(when, page, "faults"));
        }
        if (*found != value_of(page)) {
            return std::unexpected(wrong(
                when, page, "has " + std::to_string(*found) + ", not " + std::to_string(value_of(page))));
        }
    }
    return {};
}

Expected<void> Window::turn() {
    if (auto mapped = map_anew(); !mapped) {
        return mapped;
    }
    ++generation_;
    for (std::size_t page = 0; page < pages_; ++page) {
        if (*word(page) != 0) {
            return std::unexpected(wrong("mapped anew", page, "is not zero"));
        }
        *word(page) = value_of(page);
        // What look() reads, wherever the generation's own word is.
        *reinterpret_cast<volatile std::uint64_t*>(start_ + page * page_size + page_size - 8) = generation_;
    }
    published_.store(generation_);
    if (auto right = check("written"); !right) {
        return right;
    }
    if (::mprotect(start_, pages_ * page_size, PROT_READ) < 0) {
        return system_failure("mprotect");
    }
    if (auto right = check("read-only"); !right) {
        return right;
    }
    const std::size_t chosen = generation_ % pages_;
    if (try_write(word(chosen), 0)) {
        return std::unexpected(wrong("read-only", chosen, "takes a write"));
    }
    if (::mprotect(start_, pages_ * page_size, PROT_READ | PROT_WRITE) < 0) {
        return system_failure("mprotect");
    }
    if (!try_write(word(chosen), value_of(chosen))) {
        return std::unexpected(wrong("writable again", chosen, "faults"));
    }
    if (auto right = check("writable again"); !right) {
        return right;
    }
    if (::madvise(start_, page_size, MADV_DONTNEED) < 0) {
        return system_failure("madvise");
    }
    if (const auto found = try_read(word(0)); !found || *found != 0) {
        return std::unexpected(wrong("given back", 0, "is not zero"));
    }
    if (::mmap(start_, pages_ * page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
        MAP_FAILED) {
        return system_failure("mmap");
    }
    if (try_read(word(chosen))) {
        return std::unexpected(wrong("unmapped", chosen, "can be read"));
    }
    return {};
}

Expected<void> Window::fork_turn() {
    if (auto mapped = map_anew(); !mapped) {
        return mapped;
    }
    ++generation_;
    for (std::size_t page = 0; page < pages_; ++page) {
        *word(page) = value_of(page);
    }
    const pid_t child = ::fork();
    if (child < 0) {
        return system_failure("fork");
    }
    if (child == 0) {
        // What the parent writes from now on is not seen here, nor what is written here there.
        bool right = check("forked").has_value();
        for (std::size_t page = 0; page < pages_; ++page) {
            *word(page) = ~value_of(page);
        }
        for (std::size_t page = 0; page < pages_; ++page) {
            right = right && *word(page) == ~value_of(page);
        }
        ::_exit(right ? 0 : 1);
    }
    ++generation_;
    for (std::size_t page = 0; page < pages_; ++page) {
        *word(page) = value_of(page);
    }
    int status = 0;
    if (::waitpid(child, &status, 0) != child) {
        return system_failure("waitpid");
    }
    if (status != 0) {
        return std::unexpected("a forked process found other values, status " + std::to_string(status));
    }
    return check("behind fork");
}

/// The last word of a page says which generation it is of. 0: it is mapped, and not written yet.
Expected<void> Window::look() const {
    const std::uint64_t known = published_.load();
    for (std::size_t page = 0; page < pages_; ++page) {
        const auto found =
            try_read(reinterpret_cast<const volatile std::uint64_t*>(start_ + (page + 1) * page_size - 8));
        if (found && *found != 0 && *found < known) {
            return std::unexpected(wrong("seen by another thread", page,
                                         "is of generation " + std::to_string(*found) + ", when " +
                                             std::to_string(known) + " is there"));
        }
    }
    return {};
}

}  // namespace flatback::guests
