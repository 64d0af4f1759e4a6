//! The right side of a lookup join over the columns that are read of its table: what a view or computed columns make of them.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::physical_plan::PhysicalExpr;

use crate::edges::lookup::{Found, LookupBatch, LookupRows, LookupSource};
use crate::error::{Error, Result};
use crate::functions::room::{evaluate, project};

/// Filters, then columns.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Rows that pass.
    pub condition: Option<Arc<dyn PhysicalExpr>>,
    /// Columns to make.
    pub columns: Vec<Arc<dyn PhysicalExpr>>,
    /// Their schema.
    pub schema: SchemaRef,
}

impl Shape {
    /// The rows that pass.
    fn mask(&self, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
        let Some(condition) = &self.condition else { return Ok(None) };
        let mask = evaluate(condition, rows)?;
        let mask = mask
            .as_boolean_opt()
            .ok_or_else(|| Error::internal(format!("the condition {condition} is not boolean")))?;
        Ok(Some(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() }))
    }

    /// What is made of some rows.
    ///
    /// # Errors
    /// Of the expressions.
    pub fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        match self.mask(rows)? {
            Some(mask) => project(&filter_record_batch(rows, &mask)?, &self.columns, &self.schema),
            None => project(rows, &self.columns, &self.schema),
        }
    }

    fn apply_to(&self, answer: &LookupRows) -> Result<LookupRows> {
        let masks = answer.batches.iter().map(|b| self.mask(&b.rows)).collect::<Result<Vec<_>>>()?;
        let batches = answer
            .batches
            .iter()
            .map(|b| Ok(self.apply(&b.rows)?.into()))
            .collect::<Result<Vec<LookupBatch>>>()?;
        // Rows that pass before each row.
        let before: Vec<Option<Vec<u32>>> = masks.iter().map(|m| m.as_ref().map(passing_before)).collect();
        let moved = |found: &Found| match before.get(found.batch as usize) {
            Some(Some(before)) if found.rows > 0 => {
                let (first, end) = (found.first as usize, (found.first + found.rows) as usize);
                Found { first: before[first], rows: before[end] - before[first], ..*found }
            }
            _ => *found,
        };
        Ok(LookupRows { batches: batches.into(), found: answer.found.iter().map(moved).collect() })
    }
}

fn passing_before(mask: &BooleanArray) -> Vec<u32> {
    let mut before = Vec::with_capacity(mask.len() + 1);
    let mut passed = 0;
    before.push(passed);
    for passes in mask.values() {
        passed += u32::from(passes);
        before.push(passed);
    }
    before
}

/// Looks up and shapes.
#[derive(Debug)]
pub struct Shaped {
    inner: Arc<dyn LookupSource>,
    shape: Shape,
}

impl Shaped {
    /// The rows of `inner` in another shape.
    pub fn new(inner: Arc<dyn LookupSource>, shape: Shape) -> Self {
        Shaped { inner, shape }
    }
}

#[async_trait]
impl LookupSource for Shaped {
    async fn lookup(&self, keys: &RecordBatch) -> Result<LookupRows> {
        self.shape.apply_to(&self.inner.lookup(keys).await?)
    }
}
