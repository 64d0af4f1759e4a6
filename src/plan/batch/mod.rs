//! What only batch has: own nodes lowered to plain plans, execution plans over readers, what DataFusion must forget.

pub mod bounded;
pub mod distinct;
pub mod forget_order;
mod grouping_sets;
pub mod lower;
pub mod match_recognize;
pub mod net_rows_exec;
mod operator_exec;
pub mod push_filters;
pub mod rank;
pub mod reader_exec;
mod set_operation;
mod unnest;
pub mod window_slices;
mod window_tvf;
