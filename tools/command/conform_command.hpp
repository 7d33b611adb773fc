// `flatback conform`: the bare L1 on a hypervisor's nested VMX, reported by section of the SDM and row of the
// ledger.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

#include "tools/emulator/bochs_configuration.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

struct ConformOptions {
    std::string under = "flatback";              // or kvm, direct, image
    std::optional<std::filesystem::path> image;  // the image that is booted for the last of these
    std::optional<unsigned> memory;              // of the machine, in MB; only for an image
    std::string processor{usual_processor};      // one of processor_models
    std::string only;             // a part of the bare L1, with a * at its end all that begin so; empty: all
    std::string l0_command_line;  // of Flatback's L0
    std::optional<std::filesystem::path> l0;  // in place of the one that was built
    bool costs = true;
    std::optional<std::filesystem::path> json_file;
    std::optional<std::filesystem::path> junit_file;
    std::chrono::seconds limit{1800};
};

// success where everything passed or is not offered; incomplete where something failed, or the run did not
// come to its end. Error: what kept it from running.
[[nodiscard]] Result<ExitStatus> conform_command(const ConformOptions& options);

}  // namespace flatback::tools
