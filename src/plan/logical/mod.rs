//! Rewrites of logical plans, for both modes.

pub mod balance;
pub mod exact_types;
pub mod group_window;
pub mod grouping_sets;
pub mod inline_functions;
pub mod join_unnests;
pub mod lookup_filters;
pub mod lookup_join;
pub mod nested;
pub mod nullability;
pub mod prune_unnests;
pub mod push_filters;
pub mod subquery;
pub mod temporal_join;
pub mod union_types;
pub mod unnest_keys;
