include(GoogleTest)
find_package(GTest REQUIRED)
target_link_libraries(flatback_hosted_test INTERFACE GTest::gtest_main)

# flatback_add_test(NAME SOURCES...): a GoogleTest program, built with the sanitizers; each TEST in it is
# registered with ctest as NAME.Suite.Case. Link further libraries with
# target_link_libraries(NAME PRIVATE ...). The *_test.cpp are mostly assertions, which GCC takes twice as long to compile
# where it optimizes them, and which run no sooner for it; what they test is in other sources, and is optimized. They are compiled several
# at once, and so each has a namespace of its own name. Property tests run from one seed here, so that a run can be repeated; run the
# program itself for others.
function(flatback_add_test name)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE flatback_hosted_test)
    if(NOT FLATBACK_COVERAGE)
        set_target_properties(${name} PROPERTIES FLATBACK_COMPILES_SOON TRUE)
        set(tested ${ARGN})
        list(FILTER tested EXCLUDE REGEX "_test\\.cpp$")
        set_property(SOURCE ${tested} APPEND PROPERTY COMPILE_OPTIONS -O1)
    endif()
    flatback_compile_together(${name})
    gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300
        ENVIRONMENT "RC_PARAMS=seed=20261122")
endfunction()
