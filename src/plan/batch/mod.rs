//! What only batch has: own nodes lowered to plain plans, execution plans over readers, what DataFusion must forget, and the
//! streaming operators that stand in for its nodes:
//!
//! | shape | operator | rule |
//! |---|---|---|
//! | `ROW_NUMBER() OVER (…) <= n` | `top_n` | `rank` |
//! | DISTINCT aggregates by a key | `group_aggregate::at_end` | `distinct` |
//! | MATCH_RECOGNIZE | `match_recognize` | `match_recognize`, over sorted rows |

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
mod window_tvf;
