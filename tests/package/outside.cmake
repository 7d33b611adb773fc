# A project of somebody else's: builds without a warning, links with no library, and runs.
include(${CMAKE_CURRENT_LIST_DIR}/run.cmake)

configure(${CMAKE_CURRENT_LIST_DIR}/outside -DFLATBACK_FROM=${FROM} -DCMAKE_PREFIX_PATH=${PREFIX})
run(${CMAKE_COMMAND} --build ${WORK})
run(nm --undefined-only ${WORK}/kernel)
if(NOT output MATCHES "^[ \n]*$")
    message(FATAL_ERROR "a kernel with the engine needs a library:\n${output}")
endif()
run(${WORK}/kernel)
run(${WORK}/hosted)

# Of the engine itself: what a compiler calls by itself in freestanding code, and the C++ ABI's for a static object.
file(GLOB_RECURSE object ${WORK}/CMakeFiles/kernel.dir/host.cpp.o)
run(nm --undefined-only --format=posix ${object})
string(REGEX REPLACE "([^ \n]+) U[^\n]*\n?" "\\1;" symbols "${output}")
foreach(symbol IN LISTS symbols)
    if(NOT symbol MATCHES "^(|memcpy|memmove|memset|memcmp|__cxa_atexit|__dso_handle|_ZN8flatback3tag12unpaid_flush.*)$")
        message(FATAL_ERROR "the engine needs ${symbol}")
    endif()
endforeach()
