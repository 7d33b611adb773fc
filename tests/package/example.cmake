# An example as its README says: built from the installed package, and run.
include(${CMAKE_CURRENT_LIST_DIR}/run.cmake)

configure(${SOURCES}/examples/${EXAMPLE} -DCMAKE_PREFIX_PATH=${PREFIX} -DCMAKE_COMPILE_WARNING_AS_ERROR=ON)
run(${CMAKE_COMMAND} --build ${WORK})
run(${WORK}/${EXAMPLE})
if(NOT output MATCHES "\n  ok     VMXOFF\n" OR output MATCHES "WRONG|misuse")
    message(FATAL_ERROR "${output}")
endif()
