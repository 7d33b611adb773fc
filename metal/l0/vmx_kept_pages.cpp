#include <algorithm>
#include <cstring>

#include "metal/ground/log.hpp"
#include "metal/ground/vmx_instructions.hpp"
#include "metal/l0/kept_pages.hpp"
#include "metal/memory/address_space.hpp"
#include "metal/memory/ept01.hpp"
#include "metal/memory/page_pool.hpp"
#include "vmx/ept.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/field.hpp"
#include "vmx/interruption.hpp"

namespace flatback::metal {

namespace bits = vmx::ept_entry;
namespace field = vmx::field;

namespace {

template <typename Word>
volatile Word& register_at(std::uint64_t address) {
    return *static_cast<volatile Word*>(direct_map(x86::Hpa{address}));
}

}  // namespace

KeptPages::KeptPages(BootResult& boot) {
    for (const std::uint64_t page : boot.kept.pages()) {
        std::uint64_t* const leaf =
            page < direct_map_size() ? boot.ept01->leaf_of_4k(x86::Gpa<x86::L1>{page}) : nullptr;
        if (leaf == nullptr) {
            log::info("warning: L0 cannot watch the registers at ", log::hex(page),
                      ", by which L1 could suspend the machine; it must not");
            continue;
        }
        *leaf &= ~bits::write;
        pages_[pages_used_] = page;
        leaves_[pages_used_++] = leaf;
    }
    if (pages_used_ != 0)
        scratch_ = physical_of(boot.pages->allocate_page_or_panic("the page of writes to kept registers"));
}

std::uint64_t* KeptPages::leaf_of(std::uint64_t guest_physical) const {
    for (std::size_t i = 0; i < pages_used_; ++i) {
        if (pages_[i] == (guest_physical & ~(x86::page_size_4k - 1))) return leaves_[i];
    }
    return nullptr;
}

std::uint64_t KeptPages::read(std::uint64_t address, unsigned size) {
    switch (size) {
        case 1:
            return register_at<std::uint8_t>(address);
        case 2:
            return register_at<std::uint16_t>(address);
        case 4:
            return register_at<std::uint32_t>(address);
        default:
            return register_at<std::uint64_t>(address);
    }
}

void KeptPages::write(const RegisterWrite& write) {
    switch (write.size) {
        case 1:
            register_at<std::uint8_t>(write.address) = static_cast<std::uint8_t>(write.value);
            break;
        case 2:
            register_at<std::uint16_t>(write.address) = static_cast<std::uint16_t>(write.value);
            break;
        case 4:
            register_at<std::uint32_t>(write.address) = static_cast<std::uint32_t>(write.value);
            break;
        default:
            register_at<std::uint64_t>(write.address) = write.value;
            break;
    }
}

// A flag of a paging-structure entry is no access of the instruction's own, nor is an event's frame: what
// such a thing writes has no effect.
nested::HostMapping KeptPages::let_write(std::uint64_t address) {
    letting_ = true;
    length_ = 0;
    auto* const scratch = direct_map_as<std::uint8_t>(scratch_);
    std::memset(scratch, 0, x86::page_size_4k);
    const vmx::EptViolation violation{get(field::exit_qualification)};
    const vmx::InterruptionInformation event{get(field::idt_vectoring_information)};
    if (!event.is_valid() &&
        violation.has(vmx::EptViolation::linear_address_valid | vmx::EptViolation::of_linear_address)) {
        constexpr std::uint64_t around = most_around / 2;
        start_ = address & ~(around - 1);
        const std::uint64_t offset = start_ % x86::page_size_4k;
        length_ = std::min<std::size_t>(most_around, x86::page_size_4k - offset);
        for (std::size_t at = 0; at < length_; at += sizeof(std::uint32_t)) {
            const std::uint32_t word = register_at<std::uint32_t>(start_ + at);
            std::memcpy(&before_[at], &word, sizeof word);
        }
        std::memcpy(scratch + offset, before_.data(), length_);
    }
    return {scratch_, 12, x86::MemoryType::write_back, false};
}

void KeptPages::let_write_in_ept01(std::uint64_t address) {
    std::uint64_t* const leaf = leaf_of(address);
    if (open_leaf_ != leaf) {
        if (open_leaf_ != nullptr) *open_leaf_ = closed_;
        open_leaf_ = leaf;
        closed_ = *leaf;
    }
    const nested::HostMapping place = let_write(address);
    *leaf =
        place.address.value() | bits::permissions | bits::memory_type(place.memory_type) | bits::ignore_pat;
}

std::span<const std::uint8_t> KeptPages::written() const {
    return {direct_map_as<const std::uint8_t>(scratch_ + start_ % x86::page_size_4k), length_};
}

}  // namespace flatback::metal
