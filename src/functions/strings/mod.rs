//! Functions over strings and bytes.

mod bounded;
pub(crate) mod like;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

/// All of them.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut out = like::functions();
    out.extend(bounded::functions());
    out
}
