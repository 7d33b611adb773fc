// Every row of the architecture's rules of invalidation (SDM 3C 29.4.3, SDM 3A 4.10.4), on the TLB that
// forgets nothing. A population of mappings of every kind under every tag is made; one row is applied; then
// the structures in memory are changed, so that whatever is still cached shows as an outcome that memory no
// longer gives.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "machine/retentive/retentive_tlb.hpp"
#include "tests/machine/translation_fixture.hpp"

namespace flatback::machine::invalidation_rows_test {
namespace {

using namespace test;

constexpr std::uint64_t ordinary_page = 0x1000;  // not global, used under every tag
constexpr std::uint64_t global_page = 0x2000;    // global, used under every tag
constexpr std::uint64_t unused_page =
    0x3000;  // in the same page table, never used: reached by cached structures only
constexpr std::uint64_t other_page = 0x20'0000;    // another page table, not global, used under every tag
constexpr std::uint64_t other_unused = 0x20'1000;  // its never-used neighbour
constexpr std::uint64_t alias_page =
    0x40'0000;  // never used; maps the same guest-physical page as `ordinary_page`

/// One thing that may be cached, named by its tags and by what it maps.
struct Cached {
    enum class Kind { page, structure, guest_physical };
    Kind kind = Kind::page;
    std::uint16_t vpid = 0;
    std::uint16_t pcid = 0;
    int ept = 0;  // 0: EPT not in use; 1 and 2: two EP4TAs
    std::uint64_t address = 0;

    [[nodiscard]] std::string name() const {
        const char* kinds[] = {"page", "structure", "guest-physical"};
        char text[96];
        std::snprintf(text, sizeof text, "%s 0x%llx VPID %u PCID %u EPT %d", kinds[static_cast<int>(kind)],
                      static_cast<unsigned long long>(address), vpid, pcid, ept);
        return text;
    }
    [[nodiscard]] bool is_global() const { return kind == Kind::page && address == global_page; }
    [[nodiscard]] bool is_linear_or_combined() const { return kind != Kind::guest_physical; }
    [[nodiscard]] bool is_combined() const { return is_linear_or_combined() && ept != 0; }
};

class InvalidationRows : public testing::Test, public Structures {
protected:
    static constexpr std::array<std::uint16_t, 3> vpids = {0, 1, 2};
    static constexpr std::array<std::uint16_t, 3> pcids = {0, 1, 2};

    void SetUp() override {
        map(ordinary_page, 0x5000);
        map(global_page, 0x6000, ordinary | global);
        map(unused_page, 0x7000);
        map(other_page, 0x8000);
        map(other_unused, 0x9000);
        map(alias_page, 0x5000);
        for (std::uint64_t& eptp : epts_) {
            eptp = new_ept();
            for (std::uint64_t page = 0; page < 0x20'0000; page += 0x1000) map_ept(eptp, page, page);
        }
        for (const int ept : {0, 1, 2}) {
            for (const std::uint16_t vpid : vpids) {
                if (ept != 0 && vpid == 0) continue;  // populated for VPID 0000H below
                for (const std::uint16_t pcid : pcids) populate(ept, vpid, pcid);
            }
        }
        for (const std::uint16_t pcid : pcids) {
            populate(1, 0, pcid);  // non-root operation with "enable VPID" = 0
            populate(2, 0, pcid);
        }
        before_ = still_cached();
    }

    [[nodiscard]] TranslationContext tagged(int ept, std::uint16_t vpid, std::uint16_t pcid) const {
        TranslationContext result =
            ept == 0 ? context() : context(epts_[static_cast<std::size_t>(ept - 1)], vpid);
        result.vpid = vpid;
        result.pcid = pcid;
        return result;
    }

    void populate(int ept, std::uint16_t vpid, std::uint16_t pcid) {
        for (const std::uint64_t page : {ordinary_page, global_page, other_page}) {
            ASSERT_TRUE(tlb_.access(memory, tagged(ept, vpid, pcid), page, load).is_translated());
        }
    }

    /// True if `context` may still get for `address` what memory gave before `change`.
    bool stale(const TranslationContext& now, std::uint64_t address, std::uint64_t old) {
        for (const PermittedOutcome& permitted : tlb_.permitted(memory, now, address, load)) {
            if (permitted.outcome == Outcome::translated(old)) return true;
        }
        return false;
    }

    /// What is still cached, by changing what it rests on and changing it back.
    std::vector<std::string> still_cached() {
        std::vector<std::string> names;
        for (const Cached& cached : population()) {
            if (is_cached(cached)) names.push_back(cached.name());
        }
        return names;
    }

    bool is_cached(const Cached& cached) {
        const TranslationContext now = tagged(cached.ept, cached.vpid, cached.pcid);
        switch (cached.kind) {
            case Cached::Kind::page: {
                // The page's own entry changes: tables that are cached lead to the new one.
                const std::uint64_t place = entry_address(cached.address, 1);
                const std::uint64_t entry_before = memory.read(place);
                memory.write(place, (entry_before & ~x86::page_entry::address_mask) | 0xF000);
                const bool result = stale(now, cached.address, entry_before & x86::page_entry::address_mask);
                memory.write(place, entry_before);
                return result;
            }
            case Cached::Kind::structure: {
                // The directory entry changes to a table in which everything is elsewhere.
                const std::uint64_t unused =
                    cached.address + (cached.address == ordinary_page ? 0x2000 : 0x1000);
                const std::uint64_t old =
                    memory.read(entry_address(unused, 1)) & x86::page_entry::address_mask;
                const std::uint64_t place = entry_address(cached.address, 2);
                const std::uint64_t entry_before = memory.read(place);
                constexpr std::uint64_t other_table = 0x1F'0000;
                for (std::uint64_t index = 0; index < 512; ++index) {
                    memory.write(other_table + 8 * index, 0xE000 | ordinary | accessed);
                }
                memory.write(place, other_table | ordinary | accessed);
                const bool result = stale(now, unused, old);
                memory.write(place, entry_before);
                return result;
            }
            case Cached::Kind::guest_physical: {
                // The EPT entry changes; the alias has no combined mapping.
                const std::uint64_t eptp = epts_[static_cast<std::size_t>(cached.ept - 1)];
                const std::uint64_t place = ept_entry_address(eptp, 0x5000, 1);
                const std::uint64_t entry_before = memory.read(place);
                memory.write(place, 0xF000 | ept_ordinary);
                // A VPID that nothing was ever cached under.
                const bool result = stale(tagged(cached.ept, 9, 0), alias_page, 0x5000);
                memory.write(place, entry_before);
                return result;
            }
        }
        return false;
    }

    static std::vector<Cached> population() {
        std::vector<Cached> all;
        for (const int ept : {0, 1, 2}) {
            if (ept != 0) all.push_back({Cached::Kind::guest_physical, 0, 0, ept, ordinary_page});
            for (const std::uint16_t vpid : vpids) {
                for (const std::uint16_t pcid : pcids) {
                    all.push_back({Cached::Kind::page, vpid, pcid, ept, ordinary_page});
                    all.push_back({Cached::Kind::page, vpid, pcid, ept, global_page});
                    all.push_back({Cached::Kind::page, vpid, pcid, ept, other_page});
                    all.push_back({Cached::Kind::structure, vpid, pcid, ept, ordinary_page});
                    all.push_back({Cached::Kind::structure, vpid, pcid, ept, other_page});
                }
            }
        }
        return all;
    }

    /// Applies the row; what stays must be exactly what `goes` does not hold for.
    void expect_row(const Invalidation& row, const std::function<bool(const Cached&)>& goes) {
        tlb_.invalidate(row);
        std::vector<std::string> expected;
        std::size_t gone = 0;
        for (const Cached& cached : population()) {
            if (goes(cached)) {
                ++gone;
            } else {
                expected.push_back(cached.name());
            }
        }
        EXPECT_EQ(before_.size(), population().size()) << "the population was not cached to begin with";
        EXPECT_EQ(still_cached(), expected);
        EXPECT_NE(gone, 0U) << "the row tests nothing";
    }

    /// Is the linear address of `cached` that of `page`, or does translating `page` use it?
    static bool serves(const Cached& cached, std::uint64_t page) {
        if (cached.kind == Cached::Kind::page) return cached.address == page;
        return (cached.address >> 21) == (page >> 21);
    }

    std::array<std::uint64_t, 2> epts_{};
    RetentiveTlb tlb_;
    std::vector<std::string> before_;
};

TEST_F(InvalidationRows, VmEntryAndExitWithoutVpidDropLinearAndCombinedOfVpid0) {
    expect_row(invalidation::vm_transition_without_vpid(),
               [](const Cached& it) { return it.is_linear_or_combined() && it.vpid == 0; });
}

TEST_F(InvalidationRows, InvvpidAddressDropsOneAddressInAllPcidsAndEptsWithGlobals) {
    expect_row(invalidation::invvpid_address(1, ordinary_page), [](const Cached& it) {
        return it.is_linear_or_combined() && it.vpid == 1 && serves(it, ordinary_page);
    });
}

TEST_F(InvalidationRows, InvvpidAddressDropsAGlobalPage) {
    expect_row(invalidation::invvpid_address(2, global_page), [](const Cached& it) {
        return it.is_linear_or_combined() && it.vpid == 2 && serves(it, global_page);
    });
}

TEST_F(InvalidationRows, InvvpidSingleContextDropsOneVpidWithGlobals) {
    expect_row(invalidation::invvpid_single_context(1),
               [](const Cached& it) { return it.is_linear_or_combined() && it.vpid == 1; });
}

TEST_F(InvalidationRows, InvvpidAllContextsDropsEveryVpidButZero) {
    expect_row(invalidation::invvpid_all_contexts(),
               [](const Cached& it) { return it.is_linear_or_combined() && it.vpid != 0; });
}

TEST_F(InvalidationRows, InvvpidRetainingGlobalsKeepsGlobalPagesOnly) {
    expect_row(invalidation::invvpid_single_context_retaining_globals(1), [](const Cached& it) {
        return it.is_linear_or_combined() && it.vpid == 1 && !it.is_global();
    });
}

TEST_F(InvalidationRows, InveptSingleContextDropsGuestPhysicalAndCombinedOfOneEp4ta) {
    expect_row(invalidation::invept_single_context(ep4ta_of(epts_[0])),
               [](const Cached& it) { return it.ept == 1; });
}

TEST_F(InvalidationRows, InveptSingleContextGoesByEp4taNotByTheRestOfTheEptp) {
    expect_row(invalidation::invept_single_context(ep4ta_of(epts_[1] | 1U << 6)),
               [](const Cached& it) { return it.ept == 2; });
}

TEST_F(InvalidationRows, InveptAllContextsDropsGuestPhysicalAndCombinedOfEveryEp4ta) {
    expect_row(invalidation::invept_all_contexts(), [](const Cached& it) { return it.ept != 0; });
}

TEST_F(InvalidationRows, EptViolationDropsTheGuestPhysicalAndTheCombinedOfTheAddress) {
    expect_row(invalidation::ept_violation(ep4ta_of(epts_[0]), 0x5000, 1, 2, ordinary_page),
               [](const Cached& it) {
                   if (it.ept != 1) return false;
                   if (it.kind == Cached::Kind::guest_physical) return true;
                   return it.vpid == 1 && it.pcid == 2 && serves(it, ordinary_page);
               });
}

TEST_F(InvalidationRows, EptViolationWithoutALinearAddressDropsTheGuestPhysicalOnly) {
    expect_row(invalidation::ept_violation(ep4ta_of(epts_[1]), 0x5000),
               [](const Cached& it) { return it.ept == 2 && it.kind == Cached::Kind::guest_physical; });
}

TEST_F(InvalidationRows, InvlpgDropsTheAddressAndEveryStructureOfTheCurrentPcid) {
    expect_row(invalidation::invlpg(1, 2, ordinary_page), [](const Cached& it) {
        if (!it.is_linear_or_combined() || it.vpid != 1 || it.pcid != 2) return false;
        return it.kind == Cached::Kind::structure || it.address == ordinary_page;
    });
}

TEST_F(InvalidationRows, InvlpgOfAGlobalPageReachesEveryPcid) {
    expect_row(invalidation::invlpg(1, 2, global_page), [](const Cached& it) {
        if (!it.is_linear_or_combined() || it.vpid != 1) return false;
        return it.is_global() || (it.kind == Cached::Kind::structure && it.pcid == 2);
    });
}

TEST_F(InvalidationRows, PageFaultDropsTheAddressOfTheCurrentPcid) {
    expect_row(invalidation::page_fault(2, 1, other_page), [](const Cached& it) {
        return it.is_linear_or_combined() && it.vpid == 2 && it.pcid == 1 && serves(it, other_page);
    });
}

TEST_F(InvalidationRows, MovToCr3DropsTheNonGlobalsOfOnePcid) {
    expect_row(invalidation::mov_cr3(1, 0), [](const Cached& it) {
        return it.is_linear_or_combined() && it.vpid == 1 && it.pcid == 0 && !it.is_global();
    });
}

TEST_F(InvalidationRows, MovToCr4ThatChangesPgeDropsEverythingOfTheCurrentVpid) {
    expect_row(invalidation::everything_of_vpid(2),
               [](const Cached& it) { return it.is_linear_or_combined() && it.vpid == 2; });
}

TEST_F(InvalidationRows, MovToCr4ThatSetsSmepDropsTheNonGlobalsOfTheCurrentPcid) {
    expect_row(invalidation::current_pcid(1, 1), [](const Cached& it) {
        return it.is_linear_or_combined() && it.vpid == 1 && it.pcid == 1 && !it.is_global();
    });
}

TEST_F(InvalidationRows, InvpcidAddressSparesGlobalsAndOtherPcids) {
    expect_row(invalidation::invpcid_address(1, 1, ordinary_page), [](const Cached& it) {
        return it.is_linear_or_combined() && it.vpid == 1 && it.pcid == 1 && serves(it, ordinary_page);
    });
}

TEST_F(InvalidationRows, InvpcidSingleContextDropsTheNonGlobalsOfOnePcid) {
    expect_row(invalidation::invpcid_single_context(2, 2), [](const Cached& it) {
        return it.is_linear_or_combined() && it.vpid == 2 && it.pcid == 2 && !it.is_global();
    });
}

TEST_F(InvalidationRows, InvpcidAllContextsDropsEverythingOfTheCurrentVpid) {
    expect_row(invalidation::invpcid_all_contexts(0),
               [](const Cached& it) { return it.is_linear_or_combined() && it.vpid == 0; });
}

TEST_F(InvalidationRows, InvpcidRetainingGlobalsDropsTheNonGlobalsOfTheCurrentVpid) {
    expect_row(invalidation::invpcid_all_contexts_retaining_globals(1), [](const Cached& it) {
        return it.is_linear_or_combined() && it.vpid == 1 && !it.is_global();
    });
}

TEST_F(InvalidationRows, ResetDropsEverything) {
    tlb_.reset();
    EXPECT_EQ(still_cached(), std::vector<std::string>{});
    EXPECT_EQ(tlb_.size(), 0U);
}

TEST_F(InvalidationRows, AnInvalidationOfWhatIsNotThereDropsNothing) {
    tlb_.invalidate(invalidation::invvpid_single_context(7));
    tlb_.invalidate(invalidation::invept_single_context(0x12345));
    tlb_.invalidate({});
    EXPECT_EQ(still_cached(), before_);
}

}  // namespace
}  // namespace flatback::machine::invalidation_rows_test
