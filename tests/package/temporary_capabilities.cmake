# The engine keeps a reference to the capabilities: an object that is gone at once must not compile.
include(${CMAKE_CURRENT_LIST_DIR}/run.cmake)

set(compile ${COMPILER} -std=c++2b -fsyntax-only -isystem ${PREFIX}/include ${CMAKE_CURRENT_LIST_DIR}/temporary_capabilities.cpp)
run(${compile})
execute_process(COMMAND ${compile} -DTEMPORARY RESULT_VARIABLE status ERROR_VARIABLE output)
if(status EQUAL 0)
    message(FATAL_ERROR "a temporary capabilities object compiles")
endif()
if(NOT output MATCHES "deleted")
    message(FATAL_ERROR "it does not compile, but for another reason:\n${output}")
endif()
