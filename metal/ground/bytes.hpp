// Untrusted bytes, as formats/ reads and writes them.
#pragma once

#include "formats/bytes.hpp"

namespace flatback::metal {

using formats::Bytes;
using formats::copy_bytes;
using formats::read;
using formats::read_text;
using formats::slice;
using formats::write;

}  // namespace flatback::metal
