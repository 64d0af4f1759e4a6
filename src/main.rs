//! The `tidelake` binary: see [`tidelake::cli`].

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`: milliseconds until free memory goes back to the system; -1 is never.
const PURGE_DELAY: mi_option_t = 15;

fn main() -> std::process::ExitCode {
    keep_free_memory();
    tidelake::cli::main()
}

/// A job's state grows and its batches come and go: memory that was given back is soon asked for again, and the kernel has to
/// clear every page of it first. `MIMALLOC_PURGE_DELAY` in the environment wins.
#[expect(
    unsafe_code,
    reason = "the allocator has no safe interface for its options; any thread may set them at any time"
)]
fn keep_free_memory() {
    // SAFETY: the option exists and takes any number.
    unsafe { mi_option_set_default(PURGE_DELAY, -1) }
}
