//! Filter and projection: `SELECT exprs WHERE condition`.
//!
//! ```text
//!  batch ─► condition ─► mask
//!        └► leaves: the columns and row fields that the projection reads ─► filtered by the mask ─► projection
//! ```
//!
//! Only what the projection reads is filtered: a row of ten strings of which one is selected costs one.
//!
//! | | |
//! |---|---|
//! | state | none; between calls the rest of a batch whose texts grow beyond a few batches |
//! | changelog | any in, the same out; halves of an update pair that the filter tears apart become `-D` and `+I` |
//! | watermark, barrier, end | pass; CURRENT_WATERMARK is the last one heard of |

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, UInt8Array};
use arrow::compute::{concat, filter, filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};
use crate::functions::room::{Parts, evaluate, in_parts, project};
use crate::operators::calc_watermark::SharedWatermark;
use crate::runtime::operator::{Operator, Output, Progress};
use crate::stream::{ChangeBatch, RowKinds, Timestamp};

/// Columns of a schema as expressions.
pub(crate) fn column_exprs(schema: &SchemaRef, columns: &[usize]) -> Vec<Arc<dyn PhysicalExpr>> {
    columns
        .iter()
        .map(|i| Arc::new(Column::new(schema.field(*i).name(), *i)) as Arc<dyn PhysicalExpr>)
        .collect()
}

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
    condition: Option<Arc<dyn PhysicalExpr>>,
    /// Columns and row fields that the projection reads; only with both condition and projection.
    leaves: Option<Vec<Arc<dyn PhysicalExpr>>>,
    /// Over the leaves where there are leaves, over the input otherwise.
    projection: Option<Vec<Arc<dyn PhysicalExpr>>>,
    schema: SchemaRef,
    watermark: SharedWatermark,
    pending: Option<Pending>,
}

/// A batch that has not been sent on whole, as its texts grow.
#[derive(Debug)]
struct Pending {
    batch: ChangeBatch,
    parts: Parts,
    /// Rows sent on.
    made: usize,
}

impl CalcOperator {
    /// A calc.
    ///
    /// # Errors
    /// From DataFusion, if an expression cannot be rewritten.
    pub fn try_new(config: CalcConfig) -> Result<Self> {
        let CalcConfig { condition, projection, schema } = config;
        let watermark = SharedWatermark::default();
        let condition = condition.map(|e| watermark.put_into(e)).transpose()?;
        let projection: Option<Vec<_>> = projection
            .map(|exprs| exprs.into_iter().map(|e| watermark.put_into(e)).collect::<Result<_>>())
            .transpose()?;
        let (leaves, projection) = match (&condition, projection) {
            (Some(_), Some(exprs)) => {
                let mut leaves = Vec::new();
                let exprs = exprs.into_iter().map(|e| over_leaves(e, &mut leaves)).collect::<Result<_>>()?;
                (Some(leaves), Some(exprs))
            }
            (_, projection) => (None, projection),
        };
        Ok(CalcOperator { condition, leaves, projection, schema, watermark, pending: None })
    }

    /// The rows of `batch` that satisfy the condition, as leaves if there are leaves.
    fn filter(&self, batch: ChangeBatch) -> Result<ChangeBatch> {
        let Some(condition) = &self.condition else { return Ok(batch) };
        let masks = in_parts(batch.num_rows(), |part| {
            let rows = batch.rows.slice(part.start, part.len());
            evaluate(condition, &rows)
        })?;
        let mask = match masks.as_slice() {
            [mask] => Arc::clone(mask),
            masks => concat(&masks.iter().map(|m| m.as_ref()).collect::<Vec<_>>())?,
        };
        let mask: &BooleanArray = mask
            .as_boolean_opt()
            .ok_or_else(|| Error::internal(format!("the condition {condition} is not boolean")))?;
        let mask = if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() };
        let passing = mask.true_count();
        let rows = match &self.leaves {
            None => batch.rows,
            // Nothing is left: what the leaves are does not matter.
            Some(_) if passing == 0 => batch.rows,
            Some(leaves) => {
                let fields = leaves
                    .iter()
                    .map(|l| Ok(l.return_field(batch.rows.schema_ref())?))
                    .collect::<Result<Vec<_>>>()?;
                project(&batch.rows, leaves, &Arc::new(Schema::new(fields)))?
            }
        };
        if passing == mask.len() {
            return Ok(ChangeBatch { rows, kinds: batch.kinds });
        }
        let rows = filter_record_batch(&rows, &mask)?;
        let Some(kinds) = &batch.kinds else { return Ok(ChangeBatch::insert_only(rows)) };
        let kept = filter(&kinds.to_array(), &mask)?;
        let kept: &UInt8Array = kept.as_primitive();
        let mut codes = kept.values().to_vec();
        ChangeBatch::heal_pairs(&mut codes);
        Ok(ChangeBatch::with_kinds(rows, RowKinds::new(codes)))
    }
}

/// Rewrites an expression over the input to one over `leaves`, adding those it needs.
fn over_leaves(
    expr: Arc<dyn PhysicalExpr>,
    leaves: &mut Vec<Arc<dyn PhysicalExpr>>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let rewritten = expr.transform_down(|e| {
        if !is_leaf(&e) {
            return Ok(Transformed::no(e));
        }
        let i = leaves.iter().position(|l| l == &e).unwrap_or_else(|| {
            leaves.push(e.clone());
            leaves.len() - 1
        });
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(&e.to_string(), i));
        Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
    })?;
    Ok(rewritten.data)
}

/// A column, or a field of a row that is a column: costs nothing to evaluate.
fn is_leaf(expr: &Arc<dyn PhysicalExpr>) -> bool {
    if expr.is::<Column>() {
        return true;
    }
    match expr.downcast_ref::<ScalarFunctionExpr>() {
        Some(call) if call.name() == "get_field" => match call.args().split_first() {
            Some((row, names)) => is_leaf(row) && names.iter().all(|n| n.is::<Literal>()),
            None => false,
        },
        _ => false,
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
        if self.projection.is_none() {
            out.emit(batch);
            return Ok(Progress::Done);
        }
        let parts = Parts::of(batch.num_rows());
        self.pending = Some(Pending { batch, parts, made: 0 });
        self.resume(out)
    }

    fn on_watermark(&mut self, watermark: Timestamp, _out: &mut Output) -> Result<Progress> {
        self.watermark.set(watermark);
        Ok(Progress::Done)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let (Some(exprs), Some(mut pending)) = (&self.projection, self.pending.take()) else {
            return Ok(Progress::Done);
        };
        let Pending { batch, parts, made } = &mut pending;
        while let Some(rows) = parts.project(&batch.rows, exprs, &self.schema, |row| batch.holds_next(row))? {
            let kinds = batch.kinds.as_ref().map(|k| k.slice(*made, rows.num_rows()));
            *made += rows.num_rows();
            out.emit(ChangeBatch { rows, kinds });
            if out.is_full(usize::MAX) && !parts.is_at_end() {
                self.pending = Some(pending);
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done)
    }
}
