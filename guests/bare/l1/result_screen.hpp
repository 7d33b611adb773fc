// The results on the machine's screen: many PCs have no serial port.
#pragma once

namespace flatback::guests {

// From here on the screen shows what fails, and at the end how many checks passed and every value in columns,
// to be photographed. Without a screen in boot_information, or one above 4 GB, nothing happens.
void show_results_on_screen();

}  // namespace flatback::guests
