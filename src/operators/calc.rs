//! Filter and projection: `SELECT exprs WHERE condition`.
//!
//! | | |
//! |---|---|
//! | state | none |
//! | changelog | any in, the same out; halves of an update pair that the filter tears apart become `-D` and `+I` |
//! | watermark, barrier, end | pass |

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, UInt8Array};
use arrow::compute::{filter, filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};
use crate::runtime::operator::{Operator, Output, Progress};
use crate::runtime::source::project;
use crate::runtime::{ChangeBatch, RowKinds};

/// What a calc does.
#[derive(Debug, Clone)]
pub struct CalcConfig {
    /// Rows that pass; evaluated first.
    pub condition: Option<Arc<dyn PhysicalExpr>>,
    /// Columns to make; `None` keeps them all.
    pub projection: Option<Vec<Arc<dyn PhysicalExpr>>>,
    /// Columns of the result.
    pub schema: SchemaRef,
}

/// Filters, then projects.
#[derive(Debug)]
pub struct CalcOperator {
    config: CalcConfig,
}

impl CalcOperator {
    /// A calc.
    pub fn new(config: CalcConfig) -> Self {
        CalcOperator { config }
    }

    /// The rows of `batch` that satisfy the condition.
    fn filter(&self, batch: ChangeBatch) -> Result<ChangeBatch> {
        let Some(condition) = &self.config.condition else { return Ok(batch) };
        let mask = condition.evaluate(&batch.rows)?.into_array(batch.num_rows())?;
        let mask: &BooleanArray = mask
            .as_boolean_opt()
            .ok_or_else(|| Error::internal(format!("the condition {condition} is not boolean")))?;
        let mask = if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() };
        if mask.true_count() == mask.len() {
            return Ok(batch);
        }
        let rows = filter_record_batch(&batch.rows, &mask)?;
        let Some(kinds) = &batch.kinds else { return Ok(ChangeBatch::insert_only(rows)) };
        let kept = filter(&kinds.to_array(), &mask)?;
        let kept: &UInt8Array = kept.as_primitive();
        let mut codes = kept.values().to_vec();
        ChangeBatch::heal_pairs(&mut codes);
        Ok(ChangeBatch::with_kinds(rows, RowKinds::new(codes)))
    }
}

impl Operator for CalcOperator {
    fn name(&self) -> &'static str {
        "Calc"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let batch = self.filter(batch)?;
        if batch.num_rows() == 0 {
            return Ok(Progress::Done);
        }
        out.emit(match &self.config.projection {
            None => batch,
            Some(exprs) => {
                ChangeBatch { rows: project(&batch.rows, exprs, &self.config.schema)?, kinds: batch.kinds }
            }
        });
        Ok(Progress::Done)
    }
}
