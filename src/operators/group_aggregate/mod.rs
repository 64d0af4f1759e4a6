//! Updating aggregates: `GROUP BY` without windows.

mod call;
mod config;

pub use call::AggregateCall;
pub(crate) use call::evaluate_all;
pub use config::{GroupAggregateConfig, GroupOutput};
