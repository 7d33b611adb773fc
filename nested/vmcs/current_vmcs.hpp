// The hardware VMCS that is current, by typed fields: a value has its field's width. For the engine, which
// counts what it does, and for hosts.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "../../vmx/field.hpp"
#include "../../x86/add_one.hpp"
#include "../../x86/address.hpp"
#include "../counters.hpp"
#include "field_sheet.hpp"

namespace flatback::nested {

template <typename P>
concept VmcsAccess = requires(P& port, std::uint32_t encoding, std::uint64_t value) {
    { port.vmread(encoding) } -> std::same_as<std::uint64_t>;
    {port.vmwrite(encoding, value)};
};

// To be derived from, or used as it is.
template <VmcsAccess P>
class CurrentVmcs {
public:
    explicit CurrentVmcs(P& port) : port_(port) {}

    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[nodiscard, gnu::always_inline]] vmx::field_value_t<W> get(vmx::Field<W, K> field) const {
        return static_cast<vmx::field_value_t<W>>(port_.vmread(field.encoding));
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[gnu::always_inline]] void put(vmx::Field<W, K> field,
                                    std::type_identity_t<vmx::field_value_t<W>> value) {
        port_.vmwrite(field.encoding, value);
    }
    // A field of a series: guest_es_selector and its seven neighbours.
    void put_encoded(std::uint32_t encoding, std::uint64_t value) { port_.vmwrite(encoding, value); }

protected:
    P& port_;
};

namespace detail {
void field_needs_a_capability();
}  // namespace detail

constexpr bool is_always_there(std::uint32_t field_encoding) {
    const FieldRow& row = field_sheet[static_cast<std::size_t>(vmx::dense_index(field_encoding))];
    return row.needs == FieldNeeds::always && row.handling != FieldHandling::unsupported;
}

// A field that is there on every processor that L0 runs on; of any other it does not compile.
struct AlwaysThere {
    template <vmx::FieldWidth W, vmx::FieldKind K>
    // NOLINTNEXTLINE(google-explicit-constructor): what takes one takes a field
    consteval AlwaysThere(vmx::Field<W, K> field) : AlwaysThere(field.encoding) {}
    // For constants. (constexpr, as clang 14 takes no consteval of what a template computes.)
    constexpr explicit AlwaysThere(std::uint32_t field_encoding) : encoding(field_encoding) {
        if (!is_always_there(field_encoding)) detail::field_needs_a_capability();
    }

    std::uint32_t encoding;
};

// The engine's: counted.
template <typename P>
class CountedVmcs {
protected:
    explicit CountedVmcs(P& port) : port_(port) {}

    template <vmx::FieldWidth W, vmx::FieldKind K>
    vmx::field_value_t<W> get(vmx::Field<W, K> field) {
        ++counters_.vmreads;
        return static_cast<vmx::field_value_t<W>>(port_.vmread(field.encoding));
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    void put(vmx::Field<W, K> field, std::type_identity_t<vmx::field_value_t<W>> value) {
        ++counters_.vmwrites;
        port_.vmwrite(field.encoding, value);
    }
    // The same for instructions of L1's, which need a field here and there: counted in memory at once. The
    // field is one that is always there (AlwaysThere), as those of a Row are.
    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[gnu::always_inline]] vmx::field_value_t<W> get_one(vmx::Field<W, K> field) {
        x86::add_one(counters_.vmreads);
        return static_cast<vmx::field_value_t<W>>(read_in_row(field.encoding));
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[gnu::always_inline]] void put_one(vmx::Field<W, K> field,
                                        std::type_identity_t<vmx::field_value_t<W>> value) {
        x86::add_one(counters_.vmwrites);
        write_in_row(field.encoding, value);
    }
    std::uint64_t get_raw(std::uint32_t encoding) {
        ++counters_.vmreads;
        return port_.vmread(encoding);
    }
    void put_raw(std::uint32_t encoding, std::uint64_t value) {
        ++counters_.vmwrites;
        port_.vmwrite(encoding, value);
    }
    // Accesses that follow each other, to the VMCS that is current and to fields that every processor with
    // VT-x has: counted together where the row ends. None of them can fail, so that a port may leave out what
    // it does where one did.
    class [[nodiscard]] Row {
    public:
        [[gnu::always_inline]] explicit Row(CountedVmcs& vmcs) : vmcs_(vmcs) {}
        [[gnu::always_inline]] ~Row() {
            vmcs_.counters_.vmreads += reads_;
            vmcs_.counters_.vmwrites += writes_;
        }
        Row(const Row&) = delete;
        Row& operator=(const Row&) = delete;

        [[gnu::always_inline]] std::uint64_t get(AlwaysThere field) {
            ++reads_;
            return vmcs_.read_in_row(field.encoding);
        }
        // value: the field has its low bits, as many as it holds.
        [[gnu::always_inline]] void put(AlwaysThere field, std::uint64_t value) {
            ++writes_;
            vmcs_.write_in_row(field.encoding, value);
        }

    private:
        CountedVmcs& vmcs_;
        std::uint64_t reads_ = 0;
        std::uint64_t writes_ = 0;
    };

    void load(x86::Hpa vmcs) {
        ++counters_.vmptrlds;
        port_.load_vmcs(vmcs);
    }

    // A VMCS is current while the action runs, and another behind it. (Not an object with a destructor, which
    // GCC keeps in memory across VMPTRLD.)
    template <typename Action>
    [[gnu::always_inline]] auto while_loaded(x86::Hpa vmcs, const x86::Hpa& afterwards, Action&& action) {
        load(vmcs);
        if constexpr (std::is_void_v<decltype(action())>) {
            action();
            load(afterwards);
        } else {
            const auto result = action();
            load(afterwards);
            return result;
        }
    }

    P& port_;
    Counters counters_;

private:
    [[gnu::always_inline]] std::uint64_t read_in_row(std::uint32_t encoding) {
        if constexpr (requires { port_.vmread_in_row(encoding); }) {
            return port_.vmread_in_row(encoding);
        } else {
            return port_.vmread(encoding);
        }
    }
    [[gnu::always_inline]] void write_in_row(std::uint32_t encoding, std::uint64_t value) {
        if constexpr (requires { port_.vmwrite_in_row(encoding, value); }) {
            port_.vmwrite_in_row(encoding, value);
        } else {
            port_.vmwrite(encoding, value);
        }
    }
};

}  // namespace flatback::nested
