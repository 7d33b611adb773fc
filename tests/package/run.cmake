cmake_minimum_required(VERSION 3.25)

# run(COMMAND...): stops the test, with what it printed, where it fails.
function(run)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
    if(NOT status EQUAL 0)
        string(JOIN " " command ${ARGN})
        message(FATAL_ERROR "${command}: ${status}\n${output}")
    endif()
    set(output "${output}" PARENT_SCOPE)
endfunction()

# configure(SOURCES OPTIONS...): from nothing, in WORK.
macro(configure sources)
    file(REMOVE_RECURSE ${WORK})
    run(${CMAKE_COMMAND} -S ${sources} -B ${WORK} -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_BUILD_TYPE=RelWithDebInfo
        -DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER} ${ARGN})
endmacro()
