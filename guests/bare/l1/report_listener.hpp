// Who hears of each record beside COM1: the screen (l1/result_screen.hpp).
#pragma once

#include <cstdint>
#include <string_view>

namespace flatback::guests {

enum class RecordKind : std::uint8_t { stage, value, text, pass, fail, error, end };

// `number` is a value's, `text` what stands behind the name.
using RecordListener = void (*)(RecordKind kind, std::string_view name, std::string_view text,
                                std::uint64_t number);
extern RecordListener record_listener;  // null: nobody

}  // namespace flatback::guests
