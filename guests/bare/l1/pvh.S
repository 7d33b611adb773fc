# The other way in, for a hypervisor that starts its guests by PVH (Xen): the processor is as behind a Multiboot loader,
# EBX has the start information. EAX says nothing; it gets the magic that the start information begins with.

.set pvh_magic, 0x336EC578
.set phys32_entry, 18                   # XEN_ELFNOTE_PHYS32_ENTRY

.section .note.pvh, "a", @note
.balign 4
    .long 2f - 1f
    .long 4f - 3f
    .long phys32_entry
1:  .asciz "Xen"
2:  .balign 4
3:  .long start_pvh
4:  .balign 4

.section .text
.code32
start_pvh:
    movl $pvh_magic, %eax
    jmp start

.section .note.GNU-stack, "", @progbits
