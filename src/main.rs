//! The `tidelake` binary: see [`tidelake::cli`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tidelake::cli::main()
}
