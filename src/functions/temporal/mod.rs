//! Dates, times and instants.
//!
//! ```text
//!  calendar  days ↔ civil dates, default text forms     fields   EXTRACT, YEAR …, FLOOR and CEIL TO unit
//!  pattern   java.time and SimpleDateFormat patterns    convert  TO_TIMESTAMP, DATE_FORMAT, UNIX_TIMESTAMP …
//!  shift     TIMESTAMPADD, TIMESTAMPDIFF, OVERLAPS      clock    CURRENT_TIMESTAMP and kin
//! ```

pub(crate) mod calendar;
mod clock;
mod convert;

mod fields;
mod java_zone;
pub(crate) mod pattern;

mod shift;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use crate::functions::context::FunctionContext;

pub use clock::CURRENT_WATERMARK;
pub(crate) use fields::round;
pub(crate) use shift::{interval_times, time_plus};

/// All of them.
pub(crate) fn functions(context: &FunctionContext) -> Vec<Arc<ScalarUDF>> {
    let mut out = fields::functions(context);
    out.extend(convert::functions(context));
    out.extend(shift::functions(context));
    out.extend(clock::functions(context));
    out
}
