//! `CURRENT_WATERMARK(ts)` in a calc: the watermark that its task has heard of, NULL before there is one.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::Result;
use crate::functions::CURRENT_WATERMARK;
use crate::stream::Timestamp;

/// A watermark that expressions read.
#[derive(Debug, Clone)]
pub(super) struct SharedWatermark(Arc<AtomicI64>);

impl Default for SharedWatermark {
    fn default() -> Self {
        SharedWatermark(Arc::new(AtomicI64::new(Timestamp::MIN.0)))
    }
}

impl SharedWatermark {
    pub(super) fn set(&self, watermark: Timestamp) {
        self.0.store(watermark.0, Ordering::Relaxed);
    }

    /// An expression whose calls of `CURRENT_WATERMARK` read this watermark.
    pub(super) fn put_into(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let replaced = expr.transform_up(|e| {
            Ok(match e.downcast_ref::<ScalarFunctionExpr>() {
                Some(call) if call.name() == CURRENT_WATERMARK => {
                    let ty = call.return_type().clone();
                    Transformed::yes(Arc::new(CurrentWatermark { watermark: self.clone(), ty }))
                }
                _ => Transformed::no(e),
            })
        })?;
        Ok(replaced.data)
    }
}

#[derive(Debug)]
struct CurrentWatermark {
    watermark: SharedWatermark,
    ty: DataType,
}

impl PartialEq for CurrentWatermark {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.watermark.0, &other.watermark.0) && self.ty == other.ty
    }
}

impl Eq for CurrentWatermark {}

impl Hash for CurrentWatermark {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ty.hash(state);
    }
}

impl fmt::Display for CurrentWatermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CURRENT_WATERMARK)
    }
}

impl PhysicalExpr for CurrentWatermark {
    fn data_type(&self, _schema: &Schema) -> DfResult<DataType> {
        Ok(self.ty.clone())
    }

    fn nullable(&self, _schema: &Schema) -> DfResult<bool> {
        Ok(true)
    }

    fn evaluate(&self, _batch: &RecordBatch) -> DfResult<ColumnarValue> {
        let watermark = self.watermark.0.load(Ordering::Relaxed);
        let zone = match &self.ty {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let known = (watermark != Timestamp::MIN.0).then_some(watermark);
        let millis = ScalarValue::TimestampMillisecond(known, zone);
        if matches!(self.ty, DataType::Timestamp(TimeUnit::Millisecond, _)) {
            return Ok(ColumnarValue::Scalar(millis));
        }
        let exact = cast(&millis.to_array()?, &self.ty)?;
        Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&exact, 0)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DfResult<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use datafusion::config::ConfigOptions;
    use datafusion::physical_expr::expressions::col;

    use super::*;
    use crate::functions::{FunctionContext, scalar_functions};
    use crate::operators::calc::{CalcConfig, CalcOperator};
    use crate::operators::harness::{OperatorHarness, check};

    #[test]
    fn rows_see_the_watermark_before_them() {
        let ts = DataType::Timestamp(TimeUnit::Millisecond, None);
        let input = Arc::new(Schema::new(vec![Field::new("ts", ts.clone(), true)]));
        let function = scalar_functions(&FunctionContext::default())
            .into_iter()
            .find(|f| f.name() == CURRENT_WATERMARK)
            .unwrap();
        let output = Arc::new(Schema::new(vec![
            Field::new("ts", ts.clone(), true),
            Field::new("watermark", ts.clone(), true),
        ]));
        let schema = input.clone();
        let mut harness = OperatorHarness::new(input, &[], move |_| {
            let time = col("ts", &schema)?;
            let field = Arc::new(Field::new("w", ts.clone(), true));
            let options = Arc::new(ConfigOptions::default());
            let call: Arc<dyn PhysicalExpr> = Arc::new(ScalarFunctionExpr::new(
                CURRENT_WATERMARK,
                function.clone(),
                vec![time.clone()],
                field,
                options,
            ));
            let config =
                CalcConfig { condition: None, projection: Some(vec![time, call]), schema: output.clone() };
            Ok(Box::new(CalcOperator::try_new(config)?))
        });
        check(
            &mut harness,
            "+I 00:00:01
             ~ 00:00:05
             +I 00:00:07
             +I null
             ~ 00:00:09
             +I 00:00:08",
            "+I 00:00:01 null
             ~ 00:00:05
             +I 00:00:07 00:00:05
             +I null 00:00:05
             ~ 00:00:09
             +I 00:00:08 00:00:09",
        );
    }
}
