//! The `tidelake` binary: see [`tidelake::cli`].

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_minimal_purge_size` of the mimalloc that Cargo.toml pins, in KiB.
const MINIMAL_PURGE_SIZE: mi_option_t = 44;

fn main() -> std::process::ExitCode {
    give_back_whole_pages();
    tidelake::cli::main()
}

/// Free memory goes back to the system by 2 MiB, not by 4 KiB: a huge page that has lost a small one comes back in small
/// ones, and for a state that grows their clearing in the kernel was half of the CPU time. `MIMALLOC_MINIMAL_PURGE_SIZE`
/// in the environment wins.
#[expect(unsafe_code, reason = "the allocator has no safe interface for its options")]
fn give_back_whole_pages() {
    // SAFETY: sets a number, before there are other threads; numbers out of range are ignored.
    unsafe { mi_option_set_default(MINIMAL_PURGE_SIZE, 2048) }
}
