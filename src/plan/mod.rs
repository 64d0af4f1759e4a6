//! Planning: statements to DataFusion logical plans, and those to batch plans or stream graphs.
//!
//! ```text
//!  ast::Query ─► rewrite (Flink's literals) ─► SqlToRel + own table factors ─► LogicalPlan
//!      tables: ConnectorTable ─► computed columns ─► WatermarkNode;  window functions: WindowTvfNode
//!      INTERSECT, EXCEPT: SetOperationNode;  UNNEST: UnnestNode;  MATCH_RECOGNIZE: MatchRecognizeNode
//!      sub-queries: joins
//!  ─► analyzer ─► optimizer (`optimizer`: one list of rules, a few of them for one mode only)
//!      ├─ batch:     own nodes lowered to plain plans ─► DataFusion ExecutionPlan
//!      └─ streaming: StreamPlanner ─► StreamGraph
//! ```

pub mod batch;
pub(crate) mod declared_table;
pub(crate) mod errors;
mod function_registry;
pub mod insert;
mod interval;
pub mod logical;
pub(crate) mod match_recognize;
pub mod nodes;
pub(crate) mod output_types;
pub mod passes;
pub mod planner;
pub(crate) mod planner_options;
pub mod state_ttl;
pub mod stream;
mod syntax;
pub mod table;
pub mod time_attribute;
mod user_functions;
