// Where things of this checkout and its build are.
#pragma once

#include <filesystem>

namespace flatback::tools {

[[nodiscard]] std::filesystem::path source_directory();
[[nodiscard]] std::filesystem::path build_directory();

// What the build makes that runs inside the emulator.
[[nodiscard]] inline std::filesystem::path l0_image() {
    return build_directory() / "metal" / "flatback-l0.elf";
}
// The same, with what ends it when L1 asks for it (tests/metal/stops/).
[[nodiscard]] inline std::filesystem::path l0_image_that_stops() {
    return build_directory() / "tests" / "metal" / "flatback-l0-stops.elf";
}
// The same, where one of the machine's processors seems to differ (tests/metal/unlike/).
[[nodiscard]] inline std::filesystem::path l0_image_of_unlike_processors() {
    return build_directory() / "tests" / "metal" / "flatback-l0-unlike.elf";
}
// The same, with the tests of a Port, which it runs on its own before L1 starts (tests/metal/port/).
[[nodiscard]] inline std::filesystem::path l0_image_that_tests_its_port() {
    return build_directory() / "tests" / "metal" / "flatback-l0-port.elf";
}
[[nodiscard]] inline std::filesystem::path world_kernel() {
    return build_directory() / "guests" / "world" / "world.elf";
}
[[nodiscard]] inline std::filesystem::path bare_l1_image() {
    return build_directory() / "guests" / "bare" / "bare-l1.elf";
}
// Its copy for the processor of this number, from 2 on (guests/bare/l1/beside.hpp).
[[nodiscard]] inline std::filesystem::path bare_l1_copy(unsigned number) {
    return build_directory() / "guests" / "bare" / ("bare-l1-" + std::to_string(number) + ".bin");
}
[[nodiscard]] inline std::filesystem::path random_l1_image() {
    return build_directory() / "guests" / "random" / "random-l1.elf";
}
[[nodiscard]] inline std::filesystem::path bare32_l1_image() {
    return build_directory() / "guests" / "bare32" / "bare32-l1.elf";
}
[[nodiscard]] inline std::filesystem::path l2_vmm_program() {
    return build_directory() / "guests" / "linux" / "l2-vmm";
}
[[nodiscard]] inline std::filesystem::path lat_ctx_program() {
    return build_directory() / "guests" / "lat_ctx" / "lat-ctx";
}
[[nodiscard]] inline std::filesystem::path mm_stress_program() {
    return build_directory() / "guests" / "mm_stress" / "mm-stress";
}

// The program of `flatback machine`, and what tools/report/ is built to.
[[nodiscard]] inline std::filesystem::path machine_program() {
    return build_directory() / "judge" / "flatback-machine";
}
[[nodiscard]] inline std::filesystem::path report_page_template() {
    return build_directory() / "tools" / "report" / "page.html";
}
[[nodiscard]] inline std::filesystem::path l0_trace_program() {
    return build_directory() / "guests" / "linux" / "l0-trace";
}

// preload/
[[nodiscard]] inline std::filesystem::path bochs_preload_library() {
    return build_directory() / "tools" / "bochs-preload.so";
}

// What was downloaded and unpacked; kept between runs.
[[nodiscard]] inline std::filesystem::path cache_directory() {
    return build_directory() / "cache";
}
[[nodiscard]] inline std::filesystem::path busybox_program() {
    return cache_directory() / "busybox";
}

}  // namespace flatback::tools
