//! Rewrites of the syntax tree before names are known, and planners for the table factors that are not tables.

mod changelog;
pub mod group_window;
pub mod match_recognize;
pub mod row_subquery;
pub mod select_names;
pub mod set_operation;
pub mod temporal_table;
pub(super) mod unknown_column;
pub mod unnest;
pub mod user_functions;
pub mod using;
pub mod values;
pub mod window_tvf;
