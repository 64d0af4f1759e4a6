//! Aggregates in OVER windows of batch whose rows leave again.
//!
//! | what DataFusion has | what is done |
//! |---|---|
//! | MIN, MAX | when the last value that is not NULL has left, DataFusion's stay what they were: counted, and NULL |
//! | takes rows back | as it is |
//! | does not (LISTAGG, ARRAY_AGG, SUM(DISTINCT …), …) | rows of the frame are kept, and aggregated for each result |

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ReversedUDAF, Signature, WindowFunctionDefinition,
};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_plan::PhysicalExpr;

/// An aggregate that is computed over frames.
pub(crate) fn in_window(function: WindowFunctionDefinition) -> WindowFunctionDefinition {
    match function {
        WindowFunctionDefinition::AggregateUDF(udf) => WindowFunctionDefinition::AggregateUDF(wrapped(&udf)),
        other => other,
    }
}

/// The aggregate that [`in_window`] was given.
pub(crate) fn out_of_window(udf: &Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    udf.inner().downcast_ref::<Sliding>().map_or_else(|| Arc::clone(udf), |s| Arc::clone(&s.0))
}

fn wrapped(udf: &Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    if udf.inner().is::<Sliding>() {
        return Arc::clone(udf);
    }
    Arc::new(AggregateUDF::new_from_impl(Sliding(Arc::clone(udf))))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sliding(Arc<AggregateUDF>);

impl AggregateUDFImpl for Sliding {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        self.0.return_type(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> DfResult<FieldRef> {
        self.0.return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.0.is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        self.0.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let owned = OwnedArgs::of(&args);
        let inner = self.0.create_sliding_accumulator(args)?;
        if !inner.supports_retract_batch() {
            let function = Arc::clone(&self.0);
            return Ok(Box::new(Recomputed { function, args: owned, rows: VecDeque::new() }));
        }
        if matches!(self.name(), "min" | "max") {
            return Ok(Box::new(Counted { inner, values: 0, ty: owned.return_field.data_type().clone() }));
        }
        Ok(inner)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.0.reverse_udf() {
            ReversedUDAF::Reversed(udf) => ReversedUDAF::Reversed(wrapped(&udf)),
            other => other,
        }
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.0.coerce_types(arg_types)
    }

    fn default_value(&self, data_type: &DataType) -> DfResult<ScalarValue> {
        self.0.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.0.supports_null_handling_clause()
    }
}

/// [`AccumulatorArgs`] to be used again.
#[derive(Debug)]
struct OwnedArgs {
    return_field: FieldRef,
    schema: Schema,
    expr_fields: Vec<FieldRef>,
    ignore_nulls: bool,
    order_bys: Vec<PhysicalSortExpr>,
    is_reversed: bool,
    name: String,
    is_distinct: bool,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
}

impl OwnedArgs {
    fn of(args: &AccumulatorArgs<'_>) -> Self {
        OwnedArgs {
            return_field: Arc::clone(&args.return_field),
            schema: args.schema.clone(),
            expr_fields: args.expr_fields.to_vec(),
            ignore_nulls: args.ignore_nulls,
            order_bys: args.order_bys.to_vec(),
            is_reversed: args.is_reversed,
            name: args.name.to_owned(),
            is_distinct: args.is_distinct,
            exprs: args.exprs.to_vec(),
        }
    }

    fn accumulator(&self, function: &AggregateUDF) -> DfResult<Box<dyn Accumulator>> {
        function.accumulator(AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &self.schema,
            expr_fields: &self.expr_fields,
            ignore_nulls: self.ignore_nulls,
            order_bys: &self.order_bys,
            is_reversed: self.is_reversed,
            name: &self.name,
            is_distinct: self.is_distinct,
            exprs: &self.exprs,
        })
    }
}

/// NULL while there is no value.
#[derive(Debug)]
struct Counted {
    inner: Box<dyn Accumulator>,
    values: usize,
    ty: DataType,
}

fn values_in(columns: &[ArrayRef]) -> usize {
    columns.first().map_or(0, |c| c.len() - c.logical_null_count())
}

impl Accumulator for Counted {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.values += values_in(values);
        self.inner.update_batch(values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.values = self.values.saturating_sub(values_in(values));
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        if self.values == 0 { ScalarValue::try_from(&self.ty) } else { self.inner.evaluate() }
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.inner.merge_batch(states)
    }
}

/// Keeps the rows of the frame: they leave in the order in which they came.
#[derive(Debug)]
struct Recomputed {
    function: Arc<AggregateUDF>,
    args: OwnedArgs,
    /// Argument columns, the oldest rows first.
    rows: VecDeque<Vec<ArrayRef>>,
}

impl Accumulator for Recomputed {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        if values.first().is_some_and(|c| !c.is_empty()) {
            self.rows.push_back(values.to_vec());
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let mut left = values.first().map_or(0, |c| c.len());
        while left > 0
            && let Some(oldest) = self.rows.front_mut()
        {
            let rows = oldest.first().map_or(0, |c| c.len());
            if rows <= left {
                left -= rows;
                self.rows.pop_front();
            } else {
                oldest.iter_mut().for_each(|c| *c = c.slice(left, rows - left));
                left = 0;
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let mut accumulator = self.args.accumulator(&self.function)?;
        for rows in &self.rows {
            accumulator.update_batch(rows)?;
        }
        accumulator.evaluate()
    }

    fn size(&self) -> usize {
        self.rows.iter().flatten().map(|c| c.get_array_memory_size()).sum()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        datafusion::common::internal_err!("an aggregate of a frame has no partial results")
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> DfResult<()> {
        datafusion::common::internal_err!("an aggregate of a frame has no partial results")
    }
}
