//! The current time: fixed at the query's start in batch, read from the injected clock per batch of rows in streaming.

use std::sync::Arc;

use arrow::array::{Date32Array, Time32MillisecondArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::{ScalarUDF, Volatility};

use crate::error::Error;
use crate::functions::context::{FunctionContext, instant_to_wall};
use crate::functions::udf::{Builtin, Nulls, Ret};

/// The watermark of the task that handles a row.
pub const CURRENT_WATERMARK: &str = "current_watermark";

pub(super) fn functions(context: &FunctionContext) -> Vec<Arc<ScalarUDF>> {
    let ltz = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let wall = DataType::Timestamp(TimeUnit::Millisecond, None);
    let steady = if context.batch { Volatility::Stable } else { Volatility::Volatile };
    let mut out = Vec::new();
    for name in ["current_timestamp", "now"] {
        let c = context.clone();
        out.push((
            Builtin::new(name, "", Ret::Type(ltz.clone()), move |call| {
                let a = TimestampMillisecondArray::from_value(c.now_millis(), call.rows);
                Ok(Arc::new(a.with_timezone("UTC")))
            }),
            steady,
        ));
    }
    for name in ["current_row_timestamp", "proctime"] {
        let c = context.clone();
        out.push((
            Builtin::new(name, "", Ret::Type(ltz.clone()), move |call| {
                let a = TimestampMillisecondArray::from_value(c.clock.now_millis(), call.rows);
                Ok(Arc::new(a.with_timezone("UTC")))
            }),
            Volatility::Volatile,
        ));
    }
    let c = context.clone();
    out.push((
        Builtin::new("localtimestamp", "", Ret::Type(wall), move |call| {
            Ok(Arc::new(TimestampMillisecondArray::from_value(wall_millis(&c), call.rows)))
        }),
        steady,
    ));
    let c = context.clone();
    out.push((
        Builtin::new("current_date", "", Ret::Type(DataType::Date32), move |call| {
            let day = wall_millis(&c).div_euclid(86_400_000);
            Ok(Arc::new(Date32Array::from_value(i32::try_from(day).unwrap_or_default(), call.rows)))
        }),
        steady,
    ));
    for name in ["current_time", "localtime"] {
        let c = context.clone();
        let time = DataType::Time32(TimeUnit::Millisecond);
        out.push((
            Builtin::new(name, "", Ret::Type(time), move |call| {
                // TIME(0): whole seconds.
                let millis = wall_millis(&c).rem_euclid(86_400_000) / 1000 * 1000;
                Ok(Arc::new(Time32MillisecondArray::from_value(
                    i32::try_from(millis).unwrap_or_default(),
                    call.rows,
                )))
            }),
            steady,
        ));
    }
    let mut all: Vec<Arc<ScalarUDF>> =
        out.into_iter().map(|(b, v)| b.nulls(Nulls::Never).volatility(v).build()).collect();
    // Only a task knows it: `operators::calc` puts the watermark into the place of the call.
    let watermark = Builtin::new(CURRENT_WATERMARK, "t", Ret::Arg(0), |_| {
        Err(Error::unsupported("CURRENT_WATERMARK stands in SELECT and WHERE of a query in streaming mode")
            .hint("call it in a sub-query, and use the column"))
    });
    all.push(watermark.nulls(Nulls::May).volatility(Volatility::Volatile).build());
    all
}

fn wall_millis(c: &FunctionContext) -> i64 {
    instant_to_wall(c.now_millis().saturating_mul(1000), c.time_zone).div_euclid(1000)
}
