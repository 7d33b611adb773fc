# The interface targets that every part of Flatback builds with.

# Warnings are errors, in every target.
add_library(flatback_warnings INTERFACE)
target_compile_options(flatback_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
        -Wnon-virtual-dtor -Wold-style-cast -Werror>
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wuseless-cast>)
# clang 14 with GCC 12's library: std::expected asks for a newer value of the concepts macro.
target_compile_options(flatback_warnings INTERFACE
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:Clang>>:-D__cpp_concepts=202002L
        -Wno-builtin-macro-redefined>)
# The include root is the root of the repository: #include "vmx/field.hpp".
target_include_directories(flatback_warnings INTERFACE ${PROJECT_SOURCE_DIR})

# Code that runs without an operating system, in the upper 2 GB of the address space.
add_library(flatback_freestanding INTERFACE)
target_link_libraries(flatback_freestanding INTERFACE flatback_warnings)
target_compile_options(flatback_freestanding INTERFACE
    -ffreestanding -mgeneral-regs-only -mno-red-zone -mcmodel=kernel -fno-pic -fno-stack-protector
    -fno-asynchronous-unwind-tables -O2
    $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti -fno-threadsafe-statics>)
target_link_options(flatback_freestanding INTERFACE -nostdlib -static -no-pie -Wl,--build-id=none
    -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack)

# Programs of the host and tests of engine code: the sanitizers are on in tests, so that undefined
# behaviour in the engine is seen where it can be seen.
add_library(flatback_sanitized INTERFACE)
# For `flatback test --coverage`: the lines that run are counted, and the sanitizers add none of theirs. Only
# hosted tests can be built so.
option(FLATBACK_COVERAGE "Count the lines that hosted tests run" OFF)
if(FLATBACK_COVERAGE)
    add_compile_options(--coverage -O1)
    add_link_options(--coverage)
else()
    target_compile_options(flatback_sanitized INTERFACE -fsanitize=address,undefined
        -fno-sanitize-recover=all -fno-omit-frame-pointer
        # The build type's own level takes twice as long to compile with the sanitizers; so does this one where
        # a target of large libraries' templates says that it would rather compile soon than run fast.
        $<IF:$<BOOL:$<TARGET_PROPERTY:FLATBACK_COMPILES_SOON>>,-O0,-O1> -g1)
    target_link_options(flatback_sanitized INTERFACE -fsanitize=address,undefined)
endif()

add_library(flatback_hosted_test INTERFACE)
target_link_libraries(flatback_hosted_test INTERFACE flatback_warnings flatback_sanitized)
