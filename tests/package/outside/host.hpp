#pragma once

// 0, or the number of the step that went wrong. Of a host in C++ (host.cpp) or in C (c_host.c).
extern "C" int use_the_engine();
