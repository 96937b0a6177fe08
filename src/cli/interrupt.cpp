#include "cli/interrupt.h"

namespace cortex {
namespace {

volatile std::sig_atomic_t seen = 0;

void note(int) { seen = 1; }

struct sigaction watch(int signal) {
  struct sigaction before{};
  sigaction(signal, nullptr, &before);
  if (before.sa_handler == SIG_IGN) return before;
  struct sigaction action{};
  action.sa_handler = note;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(signal, &action, nullptr);
  return before;
}

}  // namespace

InterruptWatch::InterruptWatch() {
  seen = 0;
  interrupt_before_ = watch(SIGINT);
  terminate_before_ = watch(SIGTERM);
}

InterruptWatch::~InterruptWatch() {
  sigaction(SIGINT, &interrupt_before_, nullptr);
  sigaction(SIGTERM, &terminate_before_, nullptr);
}

bool InterruptWatch::interrupted() { return seen != 0; }

void InterruptWatch::check() {
  if (interrupted()) throw Interrupted();
}

}  // namespace cortex
