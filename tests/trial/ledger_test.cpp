// The ledger of nested VPID's known defects (docs/trial.md), one test a row or more: the program that shows
// the rule runs bare and under the engine, and both must be the same.
#include "judge/ledger/ledger.hpp"

#include <gtest/gtest.h>

#include <string>

namespace flatback::machine::ledger_test {
namespace {

void expect_holds(const std::string& name) {
    const LedgerCase* which = find_ledger_case(name);
    ASSERT_NE(which, nullptr);
    const auto wrong = judge(*which);
    EXPECT_FALSE(wrong.has_value()) << *wrong;
}

TEST(LedgerRow01, InvvpidThatIsNotOfferedIsInvalidOpcodeAndTheVmLives) {
    expect_holds("InvvpidThatIsNotOfferedIsInvalidOpcodeAndTheVmLives");
}
TEST(LedgerRow02, NoTagHasTwoOwners) {
    expect_holds("NoTagHasTwoOwners");
}
TEST(LedgerRow02, VirtualCpusOnOneProcessorShareNoTag) {
    expect_holds("VirtualCpusOnOneProcessorShareNoTag");
}
TEST(LedgerRow03, InvvpidNeedsNoCurrentVmcsNorOneWithVpid) {
    expect_holds("InvvpidNeedsNoCurrentVmcsNorOneWithVpid");
}
TEST(LedgerRow04, ABadTypeIsError28AndRipAdvances) {
    expect_holds("ABadTypeIsError28AndRipAdvances");
}
TEST(LedgerRow05, Type1Works) {
    expect_holds("Type1Works");
}
TEST(LedgerRow06, EveryTypeThatIsNotListedIsError28) {
    expect_holds("EveryTypeThatIsNotListedIsError28");
}
TEST(LedgerRow07, Vpid0IsError28ForTypes0And1And3) {
    expect_holds("Vpid0IsError28ForTypes0And1And3");
}
TEST(LedgerRow08, ControlCapabilityAndInvvpidVanishTogether) {
    expect_holds("ControlCapabilityAndInvvpidVanishTogether");
}
TEST(LedgerRow08, ControlCapabilityAndInvvpidAreThereTogether) {
    expect_holds("ControlCapabilityAndInvvpidAreThereTogether");
}
TEST(LedgerRow09, TheWholeDescriptorIsReadAndItsReservedBitsAreChecked) {
    expect_holds("TheWholeDescriptorIsReadAndItsReservedBitsAreChecked");
}
TEST(LedgerRow10, DestroyedAtAnyPointAVmLeavesNoTag) {
    expect_holds("DestroyedAtAnyPointAVmLeavesNoTag");
}
TEST(LedgerRow11, Type0TakesOneAddressInAllPcids) {
    expect_holds("Type0TakesOneAddressInAllPcids");
}
TEST(LedgerRow11, Type0TakesAGlobalAddressAndNoOther) {
    expect_holds("Type0TakesAGlobalAddressAndNoOther");
}
TEST(LedgerRow12, Vpid0WithVpidEnabledIsError7) {
    expect_holds("Vpid0WithVpidEnabledIsError7");
}
TEST(LedgerRow12, Vpid0OnOneProcessorIsError7ThereAlone) {
    expect_holds("Vpid0OnOneProcessorIsError7ThereAlone");
}
TEST(LedgerRow13, InvvpidOfAnInactiveVpid12TakesThatOne) {
    expect_holds("InvvpidOfAnInactiveVpid12TakesThatOne");
}
TEST(LedgerRow14, WithoutASecondTagInvvpidReachesTheSharedOne) {
    expect_holds("WithoutASecondTagInvvpidReachesTheSharedOne");
}
TEST(LedgerRow15, TheFlushIsOfTheDestination) {
    expect_holds("TheFlushIsOfTheDestination");
}
TEST(LedgerRow16, SameVpid12EntersWithoutFlushing) {
    expect_holds("SameVpid12EntersWithoutFlushing");
}
TEST(LedgerRow17, APageThatL0TookIsOutOfReachOfL1AndL2) {
    expect_holds("APageThatL0TookIsOutOfReachOfL1AndL2");
}
TEST(LedgerRow17, APageThatL0TookWhileL2RanIsOutOfReachOfEveryContext) {
    expect_holds("APageThatL0TookWhileL2RanIsOutOfReachOfEveryContext");
}
TEST(LedgerRow17, APageThatL0TookIsOutOfReachOfAnL2OnAnotherProcessor) {
    expect_holds("APageThatL0TookIsOutOfReachOfAnL2OnAnotherProcessor");
}
TEST(LedgerRow17, APageThatL0TookIsOutOfReachOfL1OnAnotherProcessor) {
    expect_holds("APageThatL0TookIsOutOfReachOfL1OnAnotherProcessor");
}
TEST(LedgerRow18, InveptOfAnInactiveEptpIsEffectiveAtItsNextUse) {
    expect_holds("InveptOfAnInactiveEptpIsEffectiveAtItsNextUse");
}
TEST(LedgerRow19, AnEditOfAPteIsSeenAfterInvvpidInCurrentAndEarlierRoots) {
    expect_holds("AnEditOfAPteIsSeenAfterInvvpidInCurrentAndEarlierRoots");
}
TEST(LedgerRow20, TwoVpid12TakingTurnsFlushNothing) {
    expect_holds("TwoVpid12TakingTurnsFlushNothing");
}
TEST(LedgerRow20, L2WithEptIsEnteredWithoutFlushing) {
    expect_holds("L2WithEptIsEnteredWithoutFlushing");
}
TEST(LedgerRow20, InveptOfOneContextInUseIsOneInvept) {
    expect_holds("InveptOfOneContextInUseIsOneInvept");
}
TEST(LedgerRow20, AfterAMoveOnlyTheFirstEntryFlushes) {
    expect_holds("AfterAMoveOnlyTheFirstEntryFlushes");
}
TEST(LedgerRow20, InvvpidOfAVpid12ThatNeverRanFlushesNothing) {
    expect_holds("InvvpidOfAVpid12ThatNeverRanFlushesNothing");
}
TEST(LedgerRow20, ManyInvvpidsOfOneVpid12AreOneFlush) {
    expect_holds("ManyInvvpidsOfOneVpid12AreOneFlush");
}
TEST(LedgerRow21, TwoEptpsWithOneEp4taAreOneContext) {
    expect_holds("TwoEptpsWithOneEp4taAreOneContext");
}
TEST(LedgerRow22, TogglingPgeInL2DropsItsOwnEntriesOnly) {
    expect_holds("TogglingPgeInL2DropsItsOwnEntriesOnly");
}
TEST(LedgerRow22, AFlushOfAnL2sReachesThatL2) {
    expect_holds("AFlushOfAnL2sReachesThatL2");
}
TEST(LedgerRow23, WhatL1DroppedRightBeforeAnEntryIsGoneWhenItIsBack) {
    expect_holds("WhatL1DroppedRightBeforeAnEntryIsGoneWhenItIsBack");
}
TEST(LedgerRow23, WhatL0OwesL1RightBeforeAnEntryIsPaidToL1) {
    expect_holds("WhatL0OwesL1RightBeforeAnEntryIsPaidToL1");
}
TEST(LedgerRow24, Vpid12OneTwoOneWithEditsBetween) {
    expect_holds("Vpid12OneTwoOneWithEditsBetween");
}
TEST(LedgerRow25, EntryAndExitWithoutVpidDropWhatL1AndThatL2Have) {
    expect_holds("EntryAndExitWithoutVpidDropWhatL1AndThatL2Have");
}
TEST(LedgerRow25, TheTagsOfOthersSurviveAnL2WithoutVpid) {
    expect_holds("TheTagsOfOthersSurviveAnL2WithoutVpid");
}
TEST(LedgerRow26, ALamTaggedAddressIsError28) {
    expect_holds("ALamTaggedAddressIsError28");
}
TEST(LedgerRow27, ATagThatCameBackFromAnotherVmIsFlushedFirst) {
    expect_holds("ATagThatCameBackFromAnotherVmIsFlushedFirst");
}
TEST(LedgerRow27, ATagThatCameBackFromAnotherProcessorIsFlushedFirst) {
    expect_holds("ATagThatCameBackFromAnotherProcessorIsFlushedFirst");
}
TEST(LedgerRow28, RunOnAInvvpidOnBBackOnA) {
    expect_holds("RunOnAInvvpidOnBBackOnA");
}
TEST(LedgerRow28, InvvpidOnTheProcessorMovedTo) {
    expect_holds("InvvpidOnTheProcessorMovedTo");
}
TEST(LedgerRow28, InveptOnTheProcessorMovedTo) {
    expect_holds("InveptOnTheProcessorMovedTo");
}
TEST(LedgerRow28, RunOnAInveptOnBBackOnA) {
    expect_holds("RunOnAInveptOnBBackOnA");
}
TEST(LedgerRow28, AnL2ThatL1MovesIsFlushedOnceAMove) {
    expect_holds("AnL2ThatL1MovesIsFlushedOnceAMove");
}
TEST(LedgerRow28, InvvpidReachesTheProcessorThatExecutesIt) {
    expect_holds("InvvpidReachesTheProcessorThatExecutesIt");
}
TEST(LedgerRow28, InveptReachesTheProcessorThatExecutesIt) {
    expect_holds("InveptReachesTheProcessorThatExecutesIt");
}
TEST(LedgerRow29, AFailedEntryLeavesTheFlushForTheNext) {
    expect_holds("AFailedEntryLeavesTheFlushForTheNext");
}
TEST(LedgerRow29, AFailedEntryTakesNoFlushFromTheGoodOne) {
    expect_holds("AFailedEntryTakesNoFlushFromTheGoodOne");
}
TEST(LedgerRow30, WithoutAnyTagL1StillSeesAValidEntry) {
    expect_holds("WithoutAnyTagL1StillSeesAValidEntry");
}
TEST(LedgerRow31, Type3TakesAllButGlobals) {
    expect_holds("Type3TakesAllButGlobals");
}
TEST(LedgerRow32, HighHalfAddressesAreAccepted) {
    expect_holds("HighHalfAddressesAreAccepted");
}
TEST(LedgerRow33, TheCanonicalTestLooksAtBit47) {
    expect_holds("TheCanonicalTestLooksAtBit47");
}
TEST(LedgerRow33, InvvpidOfAllContextsIsNoRawOne) {
    expect_holds("InvvpidOfAllContextsIsNoRawOne");
}
TEST(LedgerRow33, WhatInvvpidSaysIsDoneIsDone) {
    expect_holds("WhatInvvpidSaysIsDoneIsDone");
}
TEST(LedgerRow34, Type2TakesEverythingWhateverTheVpidFieldHolds) {
    expect_holds("Type2TakesEverythingWhateverTheVpidFieldHolds");
}
TEST(LedgerRow35, InvvpidReachesEveryEptContextOfAVpid) {
    expect_holds("InvvpidReachesEveryEptContextOfAVpid");
}
TEST(LedgerRow36, NothingOfTheOldVpid12SurvivesAWrap) {
    expect_holds("NothingOfTheOldVpid12SurvivesAWrap");
}
TEST(LedgerRow37, MovesWhileOnlyL1RanAreCountedPerTag) {
    expect_holds("MovesWhileOnlyL1RanAreCountedPerTag");
}
TEST(LedgerRow37, AMoveIsPaidForPerTag) {
    expect_holds("AMoveIsPaidForPerTag");
}
TEST(LedgerRow37, WhatL1FlushedWhileItsL2WasElsewhereIsGoneWhenItIsBack) {
    expect_holds("WhatL1FlushedWhileItsL2WasElsewhereIsGoneWhenItIsBack");
}
TEST(LedgerOwnRules, AnEvictedVpid12FindsNothingOfAnothers) {
    expect_holds("AnEvictedVpid12FindsNothingOfAnothers");
}
TEST(LedgerOwnRules, OneTagForAllVpid12) {
    expect_holds("OneTagForAllVpid12");
}
TEST(LedgerOwnRules, TablesThatEpt02TakesBackAreForgotten) {
    expect_holds("TablesThatEpt02TakesBackAreForgotten");
}
TEST(LedgerOwnRules, AnEptContextThatIsGivenToAnotherEptpIsEmpty) {
    expect_holds("AnEptContextThatIsGivenToAnotherEptpIsEmpty");
}
TEST(LedgerOwnRules, AMovToCr4ThatL0MakesDropsGlobalTranslations) {
    expect_holds("AMovToCr4ThatL0MakesDropsGlobalTranslations");
}
TEST(LedgerOwnRules, AnEptViolationDropsEveryPieceOfItsPage) {
    expect_holds("AnEptViolationDropsEveryPieceOfItsPage");
}
TEST(LedgerOwnRules, AnEptViolationDropsWhatWasCachedForItsAddress) {
    expect_holds("AnEptViolationDropsWhatWasCachedForItsAddress");
}

}  // namespace
}  // namespace flatback::machine::ledger_test
