#include "owed_flush.hpp"

namespace flatback::tag {

[[gnu::weak]] void unpaid_flush(const FlushTarget&) noexcept {
    __builtin_trap();
}

}  // namespace flatback::tag
