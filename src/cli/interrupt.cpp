#include "cli/interrupt.h"

#include <csignal>

namespace cortex {
namespace {

volatile std::sig_atomic_t seen = 0;

void note(int) { seen = 1; }

}  // namespace

InterruptWatch::InterruptWatch() {
  seen = 0;
  struct sigaction action{};
  action.sa_handler = note;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

InterruptWatch::~InterruptWatch() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

bool InterruptWatch::interrupted() { return seen != 0; }

void InterruptWatch::check() {
  if (interrupted()) throw Interrupted();
}

}  // namespace cortex
