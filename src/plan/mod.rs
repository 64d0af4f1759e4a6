//! Planning: statements to DataFusion logical plans, and those to batch plans or stream graphs.
//!
//! ```text
//!  ast::Query ─► rewrite (Flink's literals) ─► SqlToRel + own table factors ─► LogicalPlan
//!      tables: ConnectorTable ─► computed columns ─► WatermarkNode;  window functions: WindowTvfNode
//!      INTERSECT, EXCEPT: SetOperationNode;  UNNEST: UnnestNode
//!      sub-queries: joins
//!  ─► analyzer ─► optimizer (`optimizer`: one list of rules, a few of them for one mode only)
//!      ├─ batch:     own nodes lowered to plain plans ─► DataFusion ExecutionPlan
//!      └─ streaming: StreamPlanner ─► StreamGraph
//! ```

pub mod batch;
pub mod context;
mod declared_table;
pub mod forget_order;
pub mod grouping_sets;
pub mod insert;
pub mod nested;
pub mod net_rows_exec;
pub mod nullability;
pub mod optimizer;
pub mod reader_exec;
pub mod select_names;
pub mod set_operation;
pub mod state_ttl;
pub mod stream;
pub mod subquery;
pub mod table;
pub mod union_types;
mod unknown_column;
pub mod unnest;
pub mod unnest_keys;
pub mod watermark;
pub mod window_tvf;
