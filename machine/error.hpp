#pragma once

#include <stdexcept>
#include <string>

namespace flatback::machine {

/// A bound that the user set (memory, retained entries, ...) was reached. The message is one line that names
/// the bound and its value; the machine's state is then of no further use.
class LimitReached : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

}  // namespace flatback::machine
