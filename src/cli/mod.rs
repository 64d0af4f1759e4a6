//! The command line.
//!
//! ```text
//!  arguments ─► run      scripts ─► session ─► render (table, csv, json) ─► stdout      progress, notices ─► stderr
//!             ├ explain  the same, but queries and inserts are only planned
//!             ├ test     .slt files, each in batch and in streaming
//!             ├ tableflow  topics into tables
//!             ├ maintain  tables are kept small
//!             ├ checkpoint, savepoint  what is kept of jobs
//!             └ broker   the embedded Kafka broker, alone
//! ```
//!
//! Queries print to standard output, everything else to standard error. Exit codes: 0; 1 with an error; 130 or 143 when
//! Ctrl-C or SIGTERM came before all was done.

mod args;
pub mod broker;
mod catalog_args;
mod checkpoint;
mod display;
mod explain;
mod http;
mod interrupt;
mod job_metrics;
mod maintain;
mod materialize;
mod progress;
pub mod render;
mod run;
mod savepoint;
mod script;
mod stderr;
mod tableflow;
pub mod test;

use std::process::ExitCode;

use clap::Parser;

use crate::error::{Error, Result};

use args::{Cli, Command};

/// What a binary tells its allocator.
#[derive(Debug, Clone, Copy)]
pub struct AllocatorHooks {
    /// When a process comes to write very many tables.
    pub many_tables: fn(),
    /// When a process may hold little memory (`--memory`).
    pub little_memory: fn(),
}

static ALLOCATOR: std::sync::OnceLock<AllocatorHooks> = std::sync::OnceLock::new();

/// Says what the allocator is to be told, which is the binary's.
pub fn with_allocator(hooks: AllocatorHooks) {
    // Only the first ones count.
    let _ = ALLOCATOR.set(hooks);
}

/// Entry point of the binary.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Plans of deeply nested queries are walked recursively.
        .thread_stack_size(8 << 20)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: cannot start: {e}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::main(args).await,
            Command::Explain(args) => explain::main(args).await,
            Command::Test(args) => test::main(args).await,
            Command::Checkpoint(command) => checkpoint::main(command).await,
            Command::Savepoint(command) => savepoint::main(command).await,
            Command::Tableflow(args) => tableflow::main(*args).await,
            Command::Maintain(args) => maintain::main(args).await,
            Command::Broker(args) => match broker::run(args).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("error: {e}");
                    ExitCode::FAILURE
                }
            },
        }
    });
    // Whatever still reads in the background (a blocking read of stdin, a closing client) must not hold the end up.
    runtime.shutdown_background();
    code
}

/// A duration such as `10s`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::options::parse_duration(text).ok_or_else(|| "expected a duration such as 30s".to_owned())
}

/// `key=value` of `-s`.
fn parse_setting(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(Error::validation(format!("'{text}' is not of the form key=value"))),
    }
}
