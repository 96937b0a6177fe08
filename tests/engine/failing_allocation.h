// Lets a test run out of memory where it wants: the whole test binary's operator new, with a switch a thread. Any
// thread; a switch concerns its own thread only.
#pragma once

namespace cortex {

// The allocation after `allocations` more of this thread throws std::bad_alloc, those after it don't.
void fail_allocation_after(int allocations);
// Every allocation of this thread throws from now on.
void fail_every_allocation();
// Back to normal; whether any allocation has failed since.
bool allow_allocations();

}  // namespace cortex
