//! Expressions of all keys, arguments and filters, each evaluated once per batch however often it is used.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};
use crate::functions::room::evaluate;

/// Distinct expressions, addressed by index.
#[derive(Debug, Default)]
pub(crate) struct ExprSet {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether an expression is used as a filter.
    filters: Vec<bool>,
}

impl ExprSet {
    /// The index of an expression, added if it is new.
    pub(crate) fn add(&mut self, expr: &Arc<dyn PhysicalExpr>) -> usize {
        if let Some(known) = self.exprs.iter().position(|e| e == expr) {
            return known;
        }
        self.exprs.push(Arc::clone(expr));
        self.filters.push(false);
        self.exprs.len() - 1
    }

    /// As [`ExprSet::add`], for a condition.
    pub(crate) fn add_filter(&mut self, expr: &Arc<dyn PhysicalExpr>) -> usize {
        let index = self.add(expr);
        self.filters[index] = true;
        index
    }

    /// Types of the columns over rows of `input`.
    pub(crate) fn types(&self, input: &SchemaRef) -> Result<Vec<DataType>> {
        Ok(self.exprs.iter().map(|e| e.data_type(input)).collect::<Result<_, _>>()?)
    }

    /// All columns of a batch.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Result<Evaluated> {
        let columns: Vec<ArrayRef> = self.exprs.iter().map(|e| evaluate(e, rows)).collect::<Result<_>>()?;
        self.evaluated(columns, rows.num_rows())
    }

    /// Columns that were evaluated before, by expression.
    pub(crate) fn evaluated(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<Evaluated> {
        let mut masks = vec![None; columns.len()];
        for ((mask, column), is_filter) in masks.iter_mut().zip(&columns).zip(&self.filters) {
            if !is_filter {
                continue;
            }
            let Some(condition) = column.as_any().downcast_ref::<BooleanArray>() else {
                return Err(Error::internal("the filter of an aggregate is not a condition"));
            };
            *mask = Some(match condition.nulls() {
                Some(_) => prep_null_mask_filter(condition),
                None => condition.clone(),
            });
        }
        Ok(Evaluated { columns, masks, rows })
    }
}

/// The columns of one batch by expression.
pub(crate) struct Evaluated {
    pub(crate) columns: Vec<ArrayRef>,
    /// Filters without nulls.
    pub(crate) masks: Vec<Option<BooleanArray>>,
    pub(crate) rows: usize,
}

impl Evaluated {
    /// The columns at `indices`.
    pub(crate) fn pick(&self, indices: &[usize]) -> Vec<ArrayRef> {
        indices.iter().map(|i| Arc::clone(&self.columns[*i])).collect()
    }

    /// A range of rows, without copying.
    pub(crate) fn slice(&self, offset: usize, length: usize) -> Evaluated {
        if offset == 0 && length == self.rows {
            return Evaluated { columns: self.columns.clone(), masks: self.masks.clone(), rows: length };
        }
        Evaluated {
            columns: self.columns.iter().map(|c| c.slice(offset, length)).collect(),
            masks: self.masks.iter().map(|m| m.as_ref().map(|m| m.slice(offset, length))).collect(),
            rows: length,
        }
    }

    /// The rows at `indices`.
    pub(crate) fn take(&self, indices: &[u32]) -> Result<Evaluated> {
        let indices = arrow::array::UInt32Array::from(indices.to_vec());
        let take = |c: &dyn Array| arrow::compute::take(c, &indices, None);
        Ok(Evaluated {
            columns: self.columns.iter().map(|c| Ok(take(c)?)).collect::<Result<_>>()?,
            masks: self
                .masks
                .iter()
                .map(|m| match m {
                    Some(m) => Ok(Some(BooleanArray::from(take(m)?.to_data()))),
                    None => Ok(None),
                })
                .collect::<Result<_>>()?,
            rows: indices.len(),
        })
    }
}
