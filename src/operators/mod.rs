//! The streaming operators: one operator, one file or folder.

pub mod group_aggregate;
pub mod window_aggregate;
