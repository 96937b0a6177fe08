//! Runs work on a stack of its own, large enough for whatever depth foreign code is allowed: the template engine walks
//! expressions and values by recursion and bounds it in places only, the grammar compiler the parts of a schema.

use std::panic::resume_unwind;
use std::thread;

use crate::failure::{Failure, Outcome};

/// Reserved, not used, until somebody goes that deep. An expression takes up to 480 bytes a level and a level at least
/// one byte of source, of which `template` takes 128 KiB; a value has fewer levels than a template has steps.
const STACK_BYTES: usize = 128 << 20;

/// `what` is to run: the thread's name, and in the error.
pub fn run<T: Send>(what: &str, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(what.into()).stack_size(STACK_BYTES);
        let running = thread.spawn_scoped(scope, work).map_err(|error| {
            Failure::Unavailable(format!("{what}: the machine can't start a thread for it: {error}"))
        })?;
        running.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
