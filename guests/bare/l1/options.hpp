// The command line: words `check`, `bench` (both when neither is there), `only=NAME`, `iterations=N`,
// `limit=SECONDS`, `skip=NAME,NAME`, `everywhere`, `emulator=bochs`, `rules`, `screen`; or `registers`, which
// is neither.
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
    // `only=` names one part, or with a * at its end all whose names begin so.
    bool selects(std::string_view name) const {
        if (only_.ends_with('*')) return name.starts_with(only_.substr(0, only_.size() - 1));
        return only_.empty() || only_ == name;
    }

    // Whether `skip=` names the part, among others behind commas.
    bool skips(std::string_view name) const;

    bool names_a_part() const { return !only_.empty(); }

    // 0 where not given.
    std::uint64_t iterations() const { return iterations_; }

    // Seconds that a part may take.
    unsigned limit() const { return limit_; }

    // The checks on all processors at once.
    bool everywhere() const { return everywhere_; }

    // Each result with the rule that it is about.
    bool rules() const { return rules_; }

    // The results on the screen too.
    bool screen() const { return screen_; }

    // Told, where another hypervisor hides it, that Bochs emulates the processor.
    bool on_bochs() const { return on_bochs_; }

private:
    void take(std::string_view word);

    bool good_ = true;
    bool check_ = false;
    bool bench_ = false;
    bool registers_ = false;
    bool screen_ = false;
    bool everywhere_ = false;
    std::string_view only_;
    std::string_view skip_;
    std::uint64_t iterations_ = 0;
    unsigned limit_ = 4;
    bool on_bochs_ = false;
    bool rules_ = false;
};

}  // namespace flatback::guests
