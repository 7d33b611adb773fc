// The checks, each made in one mode of this guest after the other.
#pragma once

namespace flatback::guests::bare32 {

// Without paging there is no VMX operation.
void check_without_paging();

// These need VMX operation, and paging.
void check_vmcs_pointer();
void check_field_halves();
void check_segments();
void check_wrapping();
void check_loaded_pdptes();  // PAE paging only
void check_invalidation();
void check_launch();
void check_guests();
void check_host_state();

}  // namespace flatback::guests::bare32
