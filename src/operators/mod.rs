//! The streaming operators: one operator, one file or folder.

pub mod group_aggregate;
#[cfg(test)]
pub mod harness;
pub mod window_aggregate;
