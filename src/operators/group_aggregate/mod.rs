//! Updating aggregates: `GROUP BY` without windows.

mod call;
mod config;

pub use call::AggregateCall;
pub use config::{GroupAggregateConfig, GroupOutput};
