# README.md's example of embedding the engine compiles as it stands there, once what it leaves to its reader is declared.
include(${CMAKE_CURRENT_LIST_DIR}/run.cmake)

file(READ ${SOURCES}/README.md readme)
string(FIND "${readme}" "## Embed the engine" start)
string(SUBSTRING "${readme}" ${start} -1 readme)
if(NOT readme MATCHES "```cpp\n(#include [^\n]*\n)")
    message(FATAL_ERROR "README.md has no example in C++ that begins with an #include")
endif()
set(include "${CMAKE_MATCH_1}")
string(FIND "${readme}" "```cpp\n" start)
string(SUBSTRING "${readme}" ${start} -1 readme)
string(REPLACE "```cpp\n${include}" "" readme "${readme}")
string(FIND "${readme}" "```" end)
string(SUBSTRING "${readme}" 0 ${end} snippet)

file(WRITE ${WORK}/readme.cpp "${include}
#include \"${CMAKE_CURRENT_LIST_DIR}/outside/port.hpp\"

using MyPort = outside::Port;

void readme(const flatback::vmx::Capabilities& hardware, unsigned physical_address_width, flatback::x86::Hpa vmcs01,
            flatback::vmx::ExitReasonField reason, flatback::nested::Entry& entry) {
${snippet}
}
")
run(${COMPILER} -std=c++2b -fsyntax-only -Wall -Wextra -Werror -isystem ${PREFIX}/include ${WORK}/readme.cpp)
