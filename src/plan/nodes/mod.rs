//! Own nodes of logical plans.

pub mod changelog;
pub mod lookup_join;
pub mod match_recognize;
pub mod set_operation;
pub mod temporal_join;
pub mod unnest;
pub mod view;
pub mod watermark;
pub mod window_tvf;
