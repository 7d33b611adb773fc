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

# flatback_compile_together(TARGET): of hosted code eight sources are compiled at once. Headers are then read once, and what templates and
# inline functions become stands once. A source with COMPILE_OPTIONS of its own stays alone, and all do where lines are counted. Not for L0
# and the guests: in another unit GCC inlines otherwise, and their ticks are measured.
option(FLATBACK_COMPILE_TOGETHER "Compile several sources at once: sooner from nothing, later after a change of one file" ON)
set(flatback_together 8)
function(flatback_compile_together target)
    if(FLATBACK_COMPILE_TOGETHER AND NOT FLATBACK_COVERAGE)
        set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${flatback_together})
        # Of the package, for a host's own flags: its function is weak, and here a test may have the other.
        set_property(SOURCE ${PROJECT_SOURCE_DIR}/tag/unpaid_flush.cpp ${PROJECT_SOURCE_DIR}/c/flatback.cpp
            PROPERTY SKIP_UNITY_BUILD_INCLUSION ON)
    endif()
endfunction()

# flatback_compile_rooms_together(TARGET) and flatback_room(NAME SOURCES...): the same, but no two rooms at once, so that a name without
# linkage is a matter of its room alone.
function(flatback_compile_rooms_together target)
    flatback_compile_together(${target})
    set_target_properties(${target} PROPERTIES UNITY_BUILD_MODE GROUP)
endfunction()
function(flatback_room name)
    set(number 0)
    foreach(source IN LISTS ARGN)
        math(EXPR group "${number} / ${flatback_together}")
        set_property(SOURCE ${source} PROPERTY UNITY_GROUP ${name}-${group})
        math(EXPR number "${number} + 1")
    endforeach()
endfunction()
