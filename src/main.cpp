#include "cli/commands.h"

int main(int argc, char** argv) { return cortex::run_command_line(argc, argv); }
