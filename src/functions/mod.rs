//! Flink's built-in functions and the meaning of its expressions, on DataFusion.
//!
//! ```text
//!  sqlparser tree ─► rewrite     literal types, special syntax as calls, LIKE patterns
//!                     │ SqlToRel with types (type planner), operators (expression planner), the registries below
//!                     ▼
//!  LogicalPlan   ─► rules       casts and comparisons by type
//!                     │ DataFusion's analyzer, optimizer, physical planner
//!                     ▼
//!  PhysicalExpr  ─► udf frame → arith · cast · temporal · strings · math · collection · json · bitmap
//! ```
//!
//! Batch and streaming evaluate the same physical expressions. What agrees with DataFusion stays DataFusion's.

pub(crate) mod aggregate;
mod arith;
pub(crate) mod bitmap;
pub(crate) mod cast;
mod chain;
mod comparisons;
pub mod context;
mod infer;
mod infer_aggregates;
mod infer_functions;
mod infix;
mod kinds;
mod random;
mod ranks;
mod reference;
mod registry;
mod rewrite;
pub(crate) mod room;
mod rules;
mod signature;
mod strings;
pub(crate) mod temporal;
mod type_of;
mod types;
mod udf;
pub mod user;

mod collection;
pub(crate) mod json;
mod math;

pub use chain::Chains;
pub(crate) use collection::common as common_type;
pub use comparisons::no_condition;
pub use context::{Clock, FixedClock, FunctionContext, SystemClock, parse_zone};
pub use infer::{Scope, common_root, same_arrow};
pub use infix::FlinkExprPlanner;
pub use kinds::without_over;
pub use random::Randoms;
pub use reference::{FunctionInfo, describe};
pub use registry::{
    aggregate_functions, analyzer_rules, expr_planners, is_builtin, missing_function, names,
    refused_function, scalar_functions, undescribed_function, unknown_function, window_functions,
};
pub use rewrite::{fraction_digits, rewrite_expr_ast, rewrite_query_ast};
pub use rules::{FlinkSemantics, analyze_expr};
pub use strings::with_precision;
pub use temporal::CURRENT_WATERMARK;
pub use type_of::{has_times, may_read_types, reads_types, settle_types};
pub use types::{FlinkTypePlanner, arrow_type, type_planner};
pub(crate) use user::{UserAggregate, UserState};

#[cfg(test)]
mod tests;
