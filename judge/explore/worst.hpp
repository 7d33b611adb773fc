// What no processor has to have any more, taken for the worst that it can be.
#pragma once

#include "judge/explore/pair.hpp"
#include "judge/explore/state.hpp"

namespace flatback::machine::explore {

/// Under every tag, on every processor where its mark says that something is to be flushed before the tag's
/// next use there, everything that this flush reaches is there, and dead; where that is the whole tag, and
/// under tags that nobody has, it is nobody's, so that whoever is entered there without a flush has met
/// another's. So are guest-physical mappings where the mark of their EPT contexts says the same.
///
/// Nothing that may break is lost by it. Let one state be no better than another where both have the same
/// but for what is cached, and there every key that the other has, as it is there or dead, of the same owner
/// or of nobody. Every step keeps that: what drops, drops the same keys of both (and nobody's by a flush of
/// the tag only); what is dead stays dead until it is dropped; the tag manager does not see what is cached;
/// and what is broken in the better one is broken in the worse one.
void assume_the_worst(State& state);
void assume_the_worst(PairState& pair);

}  // namespace flatback::machine::explore
