include(GoogleTest)
find_package(GTest REQUIRED)
target_link_libraries(flatback_hosted_test INTERFACE GTest::gtest_main)

# flatback_add_test(NAME SOURCES...): a GoogleTest program, built with the sanitizers; each TEST in it is
# registered with ctest as NAME.Suite.Case. Link further libraries with
# target_link_libraries(NAME PRIVATE ...). Property tests run from one seed here, so that a run can be repeated; run the
# program itself for others.
function(flatback_add_test name)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE flatback_hosted_test)
    gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300
        ENVIRONMENT "RC_PARAMS=seed=20261122")
endfunction()
