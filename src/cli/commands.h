// The subcommands of `cortex`, one file each. Called once, by main's thread; argv[0] is the command's name. The result
// is the exit status, after sysexits.h.
#pragma once

namespace cortex {

inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 64;
inline constexpr int kExitUnavailable = 69;  // the address is taken or not allowed
inline constexpr int kExitInternal = 70;
inline constexpr int kExitNoMemory = 75;
inline constexpr int kExitConfig = 78;  // a file or option that start-up can't go on with

int serve_command(int argc, char** argv);
int chat_command(int argc, char** argv);
int perplexity_command(int argc, char** argv);
int worker_command(int argc, char** argv);

}  // namespace cortex
