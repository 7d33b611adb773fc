#include "judge/ledger/ledger_rows.hpp"

namespace flatback::machine {

std::string_view name_of(LedgerTheme theme) {
    switch (theme) {
        case LedgerTheme::operands:
            return "INVVPID's operands";
        case LedgerTheme::promise:
            return "What is promised";
        case LedgerTheme::owners:
            return "Whose tag it is";
        case LedgerTheme::target:
            return "Which tag is flushed";
        case LedgerTheme::time:
            return "When it is flushed, and where";
        case LedgerTheme::reach:
            return "How far it reaches";
        case LedgerTheme::cost:
            return "What it costs";
    }
    return {};
}

// A row is one line: number, theme, year, where, title, what went wrong, rule. Its tests and mutants carry
// its number; write the page anew with FLATBACK_WRITE_LEDGER=1 and the test LedgerPage.
// clang-format off
const std::vector<LedgerRow>& ledger_rows() {
    using enum LedgerTheme;
    static const std::vector<LedgerRow> rows = {
        {1, promise, "2014", "KVM, CVE-2014-3646", "An instruction that was not offered kills the VM", "INVVPID exits whether it is offered or not, and there was no handler for the exit: one instruction of an unprivileged guest ended its VM.", "Not offered is #UD, and the VM lives."},
        {2, owners, "2015", "KVM, nested VPID's first version; repaired 2018, 63aff65573d7", "A tag that is freed twice", "The tag came with the virtual CPU and went with VMXOFF: leaked where VMX was never used, used after it was freed, and freed twice.", "A tag is an owning handle: taken once, given back once, one owner at a time."},
        {3, operands, "2016", "KVM, b2467e744f89", "INVVPID without a VMCS", "The handler looked at the current VMCS, and there need not be one.", "INVVPID asks for VMX operation and nothing else: it succeeds with no current VMCS, and with one that does not use VPIDs."},
        {4, operands, "2016", "KVM, f6870ee9e534", "A guest that hangs in its own error", "A bad type was answered, but RIP stayed: the guest executed it again, for ever.", "VMfail with error 28 completes the instruction."},
        {5, promise, "2016", "KVM, ef697a712a61", "The type that old hypervisors use", "Only type 2 was offered. Older hypervisors use type 1 and do not look at its bit.", "All four types, or no INVVPID."},
        {6, operands, "2016", "KVM, 85c856b39b47", "The guest's number in a shift of the host's", "`1 << type` with the type as the guest wrote it, and what was not found in the mask was a bug of the host's own: the host stopped.", "All 64 bits of the type are looked at before anything is done with it."},
        {7, operands, "2016", "KVM, bcdde302b826", "VPID 0000H is no guest's", "VPID 0 was accepted, which is the hypervisor's own.", "Error 28 for types 0, 1 and 3; type 2 does not look."},
        {8, promise, "2017", "KVM, 63cb6d5f004c", "A promise without the means", "\"Enable VPID\" was offered on a processor, or by a host, that had no VPIDs to give.", "The control, the capability bits and INVVPID are there together or not at all."},
        {9, operands, "2017", "KVM, 403526054a38", "Four bytes of sixteen", "Of the 16-byte descriptor only four were read: reserved bits went unseen, and a second half on an unmapped page did not fault.", "The whole descriptor is read, with its faults, and every bit of 63:16 is error 28."},
        {10, owners, "2017", "KVM", "Destroyed at the wrong moment", "A VM that ended while its nested state was put away for system management left that state, tags included, behind.", "A VM can be destroyed after any step of any program, and every tag is back."},
        {11, reach, "2018", "KVM, cd9a491f6ef7", "One address, the whole context", "INVVPID of one address took everything that the VPID had.", "Type 0 takes one address, in every PCID, global or not, and no other."},
        {12, operands, "2018", "KVM, ba8e23db59bb", "An entry with VPID 0", "\"Enable VPID\" with VPID 0000H was let through.", "VMfail with error 7."},
        {13, target, "2018", "KVM, 327c072187f7", "The wrong instruction at the right moment", "When the guest's VPID changed, the host ran INVEPT of the guest's own root, and no INVVPID.", "The right operation, on the right tag, and no other."},
        {14, target, "2018", "KVM, 3d5bdae8b164", "No second tag", "Where no tag was left for L2 it ran under L1's, and INVVPID went to the one that did not exist.", "What runs under a shared tag is flushed under the shared tag."},
        {15, target, "2018", "KVM, 1438921c6dc1", "Before the destination is there", "The flush ran while the source's CR3 and EPT pointer were still loaded, and reached the source.", "A flush names its tag; \"current\" is no target."},
        {16, cost, "2018", "KVM, efebf0aaec3d", "Every exit flushed", "The tag survived, and every exit of L2 emptied it all the same.", "The same vpid12, there and back: no flush."},
        {17, reach, "2020", "KVM", "A page that was taken away", "A flush for all contexts reached only the one in use: L2 kept its translation of a page that the host had given to somebody else. A guest's way to the host.", "L0 takes a page, and every EPT context of the virtual CPU owes an INVEPT, running or not."},
        {18, time, "2020", "KVM", "INVEPT of an EPTP that is not in use", "It had no effect on a cached root that was not the current one.", "It is in effect at that root's next use."},
        {19, reach, "2020", "KVM, shadow paging", "The roots of before", "Without EPT, INVVPID did not bring the shadow pages up to date: L2 saw old entries, in the current root or in an earlier one.", "What L1 edits is seen after INVVPID, in every root."},
        {20, cost, "2020", "KVM, 1196cb970b99", "More than was asked", "Transitions flushed more than they owed; without it a nested CPUID fell from 19,000 to 14,000 cycles.", "The number of flushes is asserted, not only that there are enough."},
        {21, reach, "2021", "KVM, 85aa8889b82e", "Two pointers, one context", "EPT contexts were told apart by the whole EPTP, so that one with other low bits was another.", "Bits 51:12 are the context: two EPTPs that differ elsewhere share it."},
        {22, target, "2021", "KVM, 2b4a5a5d5688", "Always L1's", "A guest's own flush was run under L1's tag even while L2 ran.", "L2's CR4.PGE takes L2's entries and leaves L1's."},
        {23, time, "2021", "KVM, 40e5f9080472", "Paid by the wrong one", "A flush that L1 had raised was consumed by the entry into L2, under L2's tag; back in L1 the old entries were there.", "What is owed to a context is paid in that context."},
        {24, target, "2021", "KVM, 712494de96f3, shadow paging", "One, two, one", "A new vpid12 did not bring the shadow pages up to date: after 1, 2 and 1 again the edits in between were missing.", "A vpid12 that comes back finds what L1 has flushed since gone."},
        {25, target, "2024", "KVM, 2657b82a78f1", "An L2 that uses no VPID", "It ran under L1's tag, and its flushes went to L2's.", "The flush hits the tag that the guest ran under."},
        {26, operands, "2024", "KVM", "Bits of a pointer that are none", "The address was untagged as a load's would be (LAM), and so accepted.", "INVVPID's address is not untagged: a tagged one is not canonical, error 28."},
        {27, owners, "2026", "KVM, CVE-2026-89932", "The memory of VMXOFF", "The last vpid12 was remembered across VMXOFF. The next VMXON found \"the same\", and ran under a new tag, with whatever another VM had left there, without a flush.", "A tag that is handed out is owed a flush, whoever had it."},
        {28, time, "2026", "KVM, 6d00e67326d8", "On another processor", "INVVPID ran where L1 was, and the entries were where L2 had been.", "The flush is owed on the processor that holds the entries."},
        {29, time, "2026", "KVM, CVE-2026-89930", "Lost with a failed entry", "An entry that failed took the flush along and gave it to L1's tag. The next, good entry had none.", "Paid is what the processor has executed; a failed entry leaves the rest owed, exactly once."},
        {30, owners, "by reading", "KVM", "No tag at all", "With not even a tag for L1, \"enable VPID\" stayed set with tag 0, and an entry that was valid failed with error 7.", "\"Enable VPID\" is clear in the hardware's VMCS; L1 sees a valid entry."},
        {31, promise, "by reading", "Xen", "Offered, and refused", "Type 3 is offered, and fails when it is used. No operand is checked.", "Every type that is offered works."},
        {32, operands, "by reading", "XMHF64", "Half of the address space", "Every address with bit 63 set is refused, and the hardware runs L2 under the number that L1 wrote.", "High-half addresses are addresses; the hardware never holds a vpid12."},
        {33, operands, "by reading", "ACRN", "Three in one handler", "The test for canonical addresses does not look at bit 47, a failure of the hardware's INVVPID is told as success, and all contexts are all VMs' contexts.", "Bits 63:47 are equal; what fails is not told as done; type 2 is L1's own contexts."},
        {34, operands, "by reading", "pKVM-IA", "An operand that type 2 ignores", "Type 2 used the descriptor's VPID: with 0 there, nothing was flushed.", "All of L1's contexts, whatever the field holds."},
        {35, reach, "by reading", "a comment in BitVisor", "One VPID, several EPTs", "A VPID used with several EPT contexts was flushed in one of them.", "INVVPID reaches every EPT context of that VPID."},
        {36, time, "any", "whoever counts up", "65,535 and then 1", "Numbers run out, and the old 1 is taken for the new.", "Nothing of the old 1 survives where L1 flushed it."},
        {37, time, "any", "whoever marks virtual CPUs", "There and back while only L1 ran", "A virtual CPU moves A, B, A. Its mark says \"A\", L2's entries on A are older than what was flushed on B.", "Marks are a tag's, on a processor, not a virtual CPU's."},
    };
    return rows;
}
// clang-format on

}  // namespace flatback::machine
