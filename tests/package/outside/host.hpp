#pragma once

// 0, or the number of the step that went wrong.
int use_the_engine();
