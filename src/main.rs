//! The `tidelake` binary: see [`tidelake::cli`].

use libmimalloc_sys::{mi_option_set, mi_option_set_default, mi_option_t};
use tidelake::cli::AllocatorHooks;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Options of the mimalloc that Cargo.toml pins: `mi_option_purge_delay`, in ms, and `mi_option_minimal_purge_size`, in KiB.
const PURGE_DELAY: mi_option_t = 15;
const MINIMAL_PURGE_SIZE: mi_option_t = 44;

/// The allocator's own delay.
const SOON: i64 = 10;

fn main() -> std::process::ExitCode {
    keep_free_memory();
    tidelake::cli::with_allocator(AllocatorHooks { many_tables: save_memory, little_memory: give_back_soon });
    tidelake::cli::main()
}

/// Free memory goes back to the system after a second, not after 10 ms, and by 2 MiB, not by 4 KiB. For a state that grows, the
/// kernel's clearing of what has just been given back was a quarter to a half of the CPU time, and a huge page that has lost
/// a small one comes back in small ones. A second costs up to a quarter more resident memory (`benches/README.md`).
/// `MIMALLOC_PURGE_DELAY` and `MIMALLOC_MINIMAL_PURGE_SIZE` in the environment win.
#[expect(unsafe_code, reason = "the allocator has no safe interface for its options")]
fn keep_free_memory() {
    // SAFETY: sets numbers, before there are other threads; numbers out of range are ignored.
    unsafe {
        mi_option_set_default(PURGE_DELAY, 1000);
        mi_option_set_default(MINIMAL_PURGE_SIZE, 2048);
    }
}

/// Where memory is scarce it goes back as the allocator has it.
#[expect(unsafe_code, reason = "the allocator has no safe interface for its options")]
fn give_back_soon() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: sets a number that the allocator reads when memory becomes free.
        unsafe { mi_option_set(PURGE_DELAY, SOON as _) }
    }
}

/// A process of very many tables has a little for each of them, spread over all of its memory, and would hold twice of it in
/// huge pages that are half empty. `MIMALLOC_ALLOW_THP=0` in the environment does it from the start.
#[expect(unsafe_code, reason = "neither the allocator nor the kernel has a safe interface for it")]
fn save_memory() {
    give_back_soon();
    // SAFETY: sets a number that the allocator reads at each purge.
    unsafe { mi_option_set(MINIMAL_PURGE_SIZE, 64) }
    #[cfg(target_os = "linux")]
    {
        use std::ffi::{c_int, c_ulong};
        const PR_SET_THP_DISABLE: c_int = 41;
        unsafe extern "C" {
            fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int;
        }
        // SAFETY: takes numbers, and changes how pages are mapped that are touched later. Without it there is only more memory.
        unsafe { prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    }
}
