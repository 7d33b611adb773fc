#pragma once

#include <cstddef>
#include <cstdint>

#include "../memory/physical_memory.hpp"
#include "access.hpp"
#include "context.hpp"
#include "invalidation.hpp"
#include "outcome.hpp"

namespace flatback::machine {

/// One processor's cached translations: linear, guest-physical and combined mappings, and the entries of the
/// paging-structure caches, tagged by VPID, PCID and EP4TA.
class Tlb {
public:
    Tlb() = default;
    virtual ~Tlb() = default;

    /// Makes an access: translates, caches what the walk found, sets accessed and dirty flags. An outcome
    /// that is not `translated` has already made what it invalidates invalid (page fault, EPT violation).
    virtual Outcome access(PhysicalMemory& memory, const TranslationContext& context,
                           std::uint64_t linear_address, Access access) = 0;

    /// Makes one row's mappings invalid, now.
    virtual void invalidate(const Invalidation& what) = 0;

    /// Reset: everything goes.
    virtual void reset() = 0;

    /// How many entries are held, of all kinds.
    [[nodiscard]] virtual std::size_t size() const = 0;

protected:
    Tlb(const Tlb&) = default;
    Tlb(Tlb&&) = default;
    Tlb& operator=(const Tlb&) = default;
    Tlb& operator=(Tlb&&) = default;
};

}  // namespace flatback::machine
