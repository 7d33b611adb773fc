// Which fields L1 may read or write without an exit where the processor shadows VMCSs, and which L0 reads at
// once when L2 exits: lists of the field sheet's last column.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "field_sheet.hpp"

namespace flatback::nested {

namespace detail {
// The encodings of the rows whose shadow class is one of these.
template <FieldShadow... Classes>
inline constexpr auto fields_shadowed_as = [] {
    constexpr auto is_one = [](const FieldRow& row) { return ((row.shadow == Classes) || ...); };
    std::array<std::uint32_t, std::count_if(field_sheet.begin(), field_sheet.end(), is_one)> encodings{};
    std::size_t used = 0;
    for (const FieldRow& row : field_sheet) {
        if (is_one(row)) encodings[used++] = row.encoding;
    }
    return encodings;
}();
}  // namespace detail

// Read in vmcs02 at every exit that L1 will see, and written to the shadow VMCS where they changed.
inline constexpr auto exit_fields =
    detail::fields_shadowed_as<FieldShadow::read, FieldShadow::read_and_written>;
// Defined only for some exits; read and shadowed there.
inline constexpr auto conditional_exit_fields = detail::fields_shadowed_as<FieldShadow::read_where_defined>;
// L1 may write these in its shadow VMCS; L0 looks at every entry.
inline constexpr auto written_fields =
    detail::fields_shadowed_as<FieldShadow::written, FieldShadow::read_and_written>;
// The same, of what is in use: L0 looks only then.
inline constexpr auto written_with_timer = detail::fields_shadowed_as<FieldShadow::written_with_timer>;
inline constexpr auto written_with_tpr_shadow =
    detail::fields_shadowed_as<FieldShadow::written_with_tpr_shadow>;
inline constexpr auto written_with_event = detail::fields_shadowed_as<FieldShadow::written_with_event>;

}  // namespace flatback::nested
