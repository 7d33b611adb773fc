#include "guests/bare/l1/outcome.hpp"

namespace flatback::guests {

Line& operator<<(Line& line, const Outcome& outcome) {
    switch (outcome.kind) {
        case Outcome::Kind::succeed:
            return line << "VMsucceed";
        case Outcome::Kind::fail_invalid:
            return line << "VMfailInvalid";
        case Outcome::Kind::fail_valid:
            return line << "VMfailValid " << std::uint64_t{outcome.error};
        case Outcome::Kind::strange_flags:
            return (line << "flags ").hexadecimal(outcome.detail);
        case Outcome::Kind::vm_exit:
            return line << "VM entry and exit";
        case Outcome::Kind::fault:
            break;
    }
    line << "fault " << std::uint64_t{outcome.vector} << " error ";
    line.hexadecimal(outcome.error) << " cr2 ";
    return line.hexadecimal(outcome.detail);
}

}  // namespace flatback::guests
