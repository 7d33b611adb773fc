// The command line: words `check`, `bench` (both when neither is there), `only=NAME`, `iterations=N`; or
// `registers`, which is neither.
#pragma once

#include <cstdint>
#include <string_view>

namespace flatback::guests {

class Options final {
public:
    explicit Options(std::string_view command_line);

    // False where a word is not understood.
    bool good() const { return good_; }
    bool check() const { return check_ || !(bench_ || registers_); }
    bool bench() const { return bench_ || !(check_ || registers_); }
    bool registers() const { return registers_; }
    bool selects(std::string_view name) const { return only_.empty() || only_ == name; }

    // 0 where not given.
    std::uint64_t iterations() const { return iterations_; }

private:
    void take(std::string_view word);

    bool good_ = true;
    bool check_ = false;
    bool bench_ = false;
    bool registers_ = false;
    std::string_view only_;
    std::uint64_t iterations_ = 0;
};

}  // namespace flatback::guests
