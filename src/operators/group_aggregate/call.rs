//! One aggregate call of a GROUP BY, as both aggregate operators take it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::logical_expr::GroupsAccumulator;
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result, ResultExt};
use crate::functions::UserAggregate;
use crate::functions::room::evaluate;

/// `name([DISTINCT] args) FILTER (WHERE filter)`.
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// Function name in lower case, e.g. `count`.
    pub name: String,
    /// Arguments over the input schema.
    pub args: Vec<Arc<dyn PhysicalExpr>>,
    /// The FILTER condition over the input schema.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Whether DISTINCT was written.
    pub distinct: bool,
    /// Name, type and nullability of the result.
    pub return_field: FieldRef,
    /// DataFusion's aggregate: state columns, accumulators.
    pub expr: Arc<AggregateFunctionExpr>,
}

impl AggregateCall {
    /// From DataFusion's physical aggregate, with its FILTER beside it (as DataFusion plans them).
    pub fn new(expr: Arc<AggregateFunctionExpr>, filter: Option<Arc<dyn PhysicalExpr>>) -> Self {
        AggregateCall {
            name: expr.fun().name().to_ascii_lowercase(),
            args: expr.expressions(),
            filter,
            distinct: expr.is_distinct(),
            return_field: expr.field(),
            expr,
        }
    }

    /// Type of the result.
    pub fn return_type(&self) -> &DataType {
        self.return_field.data_type()
    }

    /// Whether it counts rows rather than values: `COUNT(*)`, planned as `count` of a constant.
    pub fn counts_rows(&self) -> bool {
        self.name == "count"
            && !self.distinct
            && self
                .args
                .iter()
                .all(|a| a.downcast_ref::<Literal>().is_some_and(|literal| !literal.value().is_null()))
    }

    /// The arguments that differ from row to row: not the separator of LISTAGG, not the fractions of PERCENTILE.
    pub(crate) fn value_args(&self) -> Vec<usize> {
        let constant = match self.name.as_str() {
            "listagg" | "percentile" => Some(1),
            _ => None,
        };
        (0..self.args.len()).filter(|i| Some(*i) != constant).collect()
    }

    /// Whether NULL is a value for it like others.
    pub(crate) fn takes_nulls(&self) -> bool {
        match self.name.as_str() {
            "array_agg" => !self.expr.ignore_nulls(),
            "__json_arrayagg_null" | "single_value" => true,
            _ => UserAggregate::of(self.expr.fun()).is_some_and(UserAggregate::takes_nulls),
        }
    }

    /// The argument columns of a batch.
    ///
    /// # Errors
    /// What the expressions fail with.
    pub fn evaluate_args(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.args.iter().map(|a| evaluate(a, rows)).collect::<Result<_>>().context(|| self.text())
    }

    /// The rows that the FILTER lets pass: never null.
    ///
    /// # Errors
    /// What the expression fails with.
    pub fn evaluate_filter(&self, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
        let Some(filter) = &self.filter else { return Ok(None) };
        let mask = evaluate(filter, rows).context(|| self.text())?;
        let Some(mask) = mask.as_any().downcast_ref::<BooleanArray>() else {
            return Err(Error::internal(format!("the filter of {} is not a condition", self.text())));
        };
        Ok(Some(match mask.nulls() {
            Some(_) => arrow::compute::prep_null_mask_filter(mask),
            None => mask.clone(),
        }))
    }

    /// A fresh accumulator for groups.
    ///
    /// # Errors
    /// What DataFusion refuses.
    pub(crate) fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        // DataFusion's group accumulators of bit operations forget DISTINCT.
        let forgets = self.distinct && self.name.starts_with("bit_");
        if self.expr.groups_accumulator_supported() && !forgets {
            return Ok(self.expr.create_groups_accumulator()?);
        }
        let expr = Arc::clone(&self.expr);
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || expr.create_accumulator())))
    }

    /// As it reads in messages: `sum(DISTINCT a)`.
    pub fn text(&self) -> String {
        let args: Vec<String> = self.args.iter().map(ToString::to_string).collect();
        let nulls = if self.expr.ignore_nulls() { " IGNORE NULLS" } else { "" };
        format!("{}({}{}{nulls})", self.name, if self.distinct { "DISTINCT " } else { "" }, args.join(", "))
    }
}

/// Several expressions over a batch.
pub(crate) fn evaluate_all(exprs: &[Arc<dyn PhysicalExpr>], rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    exprs.iter().map(|e| evaluate(e, rows)).collect()
}
