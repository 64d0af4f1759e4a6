//! Arrays, maps and rows.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

/// All of them.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    Vec::new()
}

/// `MAP[k, v, …]`.
pub(crate) fn map_constructor() -> Arc<ScalarUDF> {
    datafusion::functions_nested::map::map_udf()
}
