//! Placeholder of the command line.
pub mod broker;

/// Entry point.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
