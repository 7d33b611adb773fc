# What other projects get: targets by find_package(flatback), FetchContent or add_subdirectory, and their installation. Nothing
# of what Flatback builds itself with (warnings, options, tests, GoogleTest) is part of them.
#
#   flatback::headers  the include folder that has flatback/ and nothing else; C++23
#   flatback::engine   the engine, freestanding: headers, and one source that a host's own definition replaces
#   flatback::host     what a host emulates for L1 beside VMX: headers over the engine
#   flatback::c        both for hosts in C or Rust: flatback.h, and one source in C++
#   flatback::port_tests  tests of a Port by its guarantees, for who writes one
#   flatback::machine  the software VT-x processor, for hosts of user space and for tests

include(GNUInstallDirs)

set(flatback_include ${PROJECT_BINARY_DIR}/include)
set(flatback_engine_folders x86 vmx tag nested host trace c port_tests)
set(flatback_machine_folders machine/cpu machine/memory machine/retentive machine/rules machine/translation)

file(MAKE_DIRECTORY ${flatback_include}/flatback/machine)
foreach(folder IN LISTS flatback_engine_folders flatback_machine_folders)
    file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${folder} ${flatback_include}/flatback/${folder} SYMBOLIC)
endforeach()
file(CREATE_LINK ${PROJECT_SOURCE_DIR}/machine/error.hpp ${flatback_include}/flatback/machine/error.hpp SYMBOLIC)
configure_file(${PROJECT_SOURCE_DIR}/cmake/version.hpp.in ${flatback_include}/flatback/version.hpp @ONLY)

add_library(flatback_headers INTERFACE)
target_compile_features(flatback_headers INTERFACE cxx_std_23)
target_include_directories(flatback_headers SYSTEM INTERFACE
    $<BUILD_INTERFACE:${flatback_include}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)

# The source is compiled by the host, with the host's own flags (code model, red zone). Its one function is weak: a host
# that defines flatback::tag::unpaid_flush gets its own.
add_library(flatback_engine INTERFACE)
target_link_libraries(flatback_engine INTERFACE flatback_headers)
target_sources(flatback_engine INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/tag/unpaid_flush.cpp>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/flatback/tag/unpaid_flush.cpp>)

add_library(flatback_host INTERFACE)
target_link_libraries(flatback_host INTERFACE flatback_engine)

# The host compiles it too: its project has C++ as a language, if only for this.
add_library(flatback_c INTERFACE)
target_link_libraries(flatback_c INTERFACE flatback_host)
target_sources(flatback_c INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/c/flatback.cpp>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/flatback/c/flatback.cpp>)

add_library(flatback_port_tests INTERFACE)
target_link_libraries(flatback_port_tests INTERFACE flatback_engine)

# The caches alone are compiled by themselves: who needs no processor (watch/) waits for none.
file(GLOB flatback_cache_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/machine/memory/*.cpp ${PROJECT_SOURCE_DIR}/machine/retentive/*.cpp
    ${PROJECT_SOURCE_DIR}/machine/rules/*.cpp ${PROJECT_SOURCE_DIR}/machine/translation/*.cpp)
file(GLOB flatback_cpu_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/machine/cpu/*.cpp)
add_library(flatback_machine_caches OBJECT ${flatback_cache_sources})
add_library(flatback_machine_cpu STATIC ${flatback_cpu_sources} $<TARGET_OBJECTS:flatback_machine_caches>)
set_target_properties(flatback_machine_cpu PROPERTIES EXPORT_NAME machine OUTPUT_NAME flatback_machine_cpu)
target_link_libraries(flatback_machine_cpu PUBLIC flatback_headers)
target_link_libraries(flatback_machine_caches PRIVATE flatback_headers)
foreach(part IN ITEMS flatback_machine_caches flatback_machine_cpu)
    target_include_directories(${part} PRIVATE ${PROJECT_SOURCE_DIR})
    set_target_properties(${part} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
    if(NOT FLATBACK_LIBRARY_ONLY)
        target_link_libraries(${part} PRIVATE $<BUILD_INTERFACE:flatback_warnings>)
    endif()
endforeach()

set_target_properties(flatback_headers PROPERTIES EXPORT_NAME headers)
set_target_properties(flatback_engine PROPERTIES EXPORT_NAME engine)
set_target_properties(flatback_host PROPERTIES EXPORT_NAME host)
set_target_properties(flatback_c PROPERTIES EXPORT_NAME c)
set_target_properties(flatback_port_tests PROPERTIES EXPORT_NAME port_tests)
add_library(flatback::headers ALIAS flatback_headers)
add_library(flatback::engine ALIAS flatback_engine)
add_library(flatback::host ALIAS flatback_host)
add_library(flatback::c ALIAS flatback_c)
add_library(flatback::port_tests ALIAS flatback_port_tests)
add_library(flatback::machine ALIAS flatback_machine_cpu)

if(NOT FLATBACK_INSTALL)
    return()
endif()

include(CMakePackageConfigHelpers)
set(flatback_cmake_directory ${CMAKE_INSTALL_LIBDIR}/cmake/flatback)

# flatback_install(COMPONENT TARGETS...): a component of find_package and of the installation.
function(flatback_install component)
    install(TARGETS ${ARGN} EXPORT flatback-${component}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT ${component})
    install(EXPORT flatback-${component} NAMESPACE flatback:: FILE flatback-${component}.cmake
        DESTINATION ${flatback_cmake_directory} COMPONENT ${component})
endfunction()

foreach(folder IN LISTS flatback_engine_folders)
    install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flatback COMPONENT engine
        FILES_MATCHING PATTERN *.hpp PATTERN *.h)
endforeach()
install(FILES c/flatback.cpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flatback/c COMPONENT engine)
install(FILES tag/unpaid_flush.cpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flatback/tag COMPONENT engine)
install(FILES ${flatback_include}/flatback/version.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flatback COMPONENT engine)
flatback_install(engine flatback_headers flatback_engine flatback_host flatback_c flatback_port_tests)

foreach(folder IN LISTS flatback_machine_folders)
    install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flatback/machine COMPONENT machine
        FILES_MATCHING PATTERN *.hpp)
endforeach()
install(FILES machine/error.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flatback/machine COMPONENT machine)
flatback_install(machine flatback_machine_cpu)

# Before 1.0.0 a new minor version may change the interface, as SemVer has it.
if(PROJECT_VERSION_MAJOR EQUAL 0)
    set(compatibility SameMinorVersion)
else()
    set(compatibility SameMajorVersion)
endif()
configure_package_config_file(cmake/flatback-config.cmake.in ${PROJECT_BINARY_DIR}/flatback-config.cmake
    INSTALL_DESTINATION ${flatback_cmake_directory})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/flatback-config-version.cmake COMPATIBILITY ${compatibility})
install(FILES ${PROJECT_BINARY_DIR}/flatback-config.cmake ${PROJECT_BINARY_DIR}/flatback-config-version.cmake
    DESTINATION ${flatback_cmake_directory} COMPONENT engine)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/libflatback-dev RENAME copyright COMPONENT engine)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME libflatback-dev)
set(CPACK_PACKAGE_VENDOR "The Flatback authors")
set(CPACK_PACKAGE_CONTACT "The Flatback authors")
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS cmake)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_MONOLITHIC_INSTALL ON)
include(CPack)
