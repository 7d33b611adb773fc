#include <flatback/port_tests/port_tests.hpp>

#include "port.hpp"

bool port_holds(outside::Port& port, const flatback::port_tests::Subject& subject) {
    return flatback::port_tests::run(port, subject, [](const char*, const char*) {});
}
