//! The streaming operators: one operator, one file or folder.

pub mod calc;
mod calc_watermark;
pub mod changelog_functions;
pub mod changelog_normalize;
pub mod conflict;
pub mod constraint_enforcer;
pub mod deduplicate;
pub(crate) mod emit;
pub mod expand;
pub mod group_aggregate;
#[cfg(test)]
pub mod harness;
pub mod interval_join;
pub mod join;
pub(crate) mod keyed_rows;
pub mod late_rows;
pub mod lookup_join;
pub mod match_recognize;
pub mod over_aggregate;
pub mod session_window;
pub mod set_operation;
pub mod temporal_join;
pub mod temporal_sort;
pub(crate) mod timed_rows;
pub mod top_n;
pub mod union;
pub mod unnest;
pub mod updating_over;
pub mod window_aggregate;
pub mod window_emit;
pub mod window_table_function;
pub mod window_top_n;
