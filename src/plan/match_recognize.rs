//! MATCH_RECOGNIZE made ready to run, for both modes.
//!
//! ```text
//!  DEFINE b AS x < LAST(b.x, 1) AND SUM(a.x) > 3
//!     └─► All[Compare(this row's x, <, x of LAST b 1), Computed(SUM > 3)]     see `operators::match_recognize`
//!  MEASURES LAST(b.x + 1) - a.x AS m
//!     └─► values x + 1 of LAST b, x of LAST a, and m over these two columns
//! ```

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result as DfResult, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr::Between;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};
use datafusion::physical_expr::aggregate::{LoweredAggregate, LoweredAggregateBuilder};
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};
use crate::functions::room::evaluate;
use crate::operators::group_aggregate::AggregateCall;
use crate::operators::match_recognize::{
    Comparison, Condition, Input, MatchOutput, MatchRecognizeConfig, Program, RowRef, RowValues,
    is_comparable,
};
use crate::operators::top_n::SortColumn;
use crate::plan::nodes::match_recognize::{MatchRecognizeNode, Navigation, Reference};

/// Where keys and order are among the columns of the rows.
#[derive(Debug, Clone)]
pub struct MatchColumns {
    /// The columns.
    pub input: SchemaRef,
    /// The key.
    pub partition: Vec<usize>,
    /// The time.
    pub time: usize,
    /// The order of rows of one time.
    pub then: Vec<SortColumn>,
    /// Whether the time is a processing time.
    pub by_proctime: bool,
}

/// The operator of a node over rows with the columns of `schema`.
///
/// # Errors
/// From DataFusion, for expressions that cannot be made physical.
pub fn match_config(
    node: &MatchRecognizeNode,
    schema: &DFSchema,
    columns: MatchColumns,
    props: &ExecutionProps,
) -> Result<MatchRecognizeConfig> {
    let MatchColumns { input, partition, time, then, by_proctime } = columns;
    let mut build = Builder { schema, input: &input, props, values: RowValues::default(), aggregates: 0 };
    let mut defines: Vec<Option<Condition>> = vec![None; node.clauses.variables.len()];
    for (variable, condition) in &node.defines {
        if let Some(place) = defines.get_mut(usize::from(*variable)) {
            *place = Some(build.condition(condition, false)?);
        }
    }
    let output = build.output(node)?;
    let has_row_time = !by_proctime && row_times(node).iter().any(|is| *is);
    Ok(MatchRecognizeConfig {
        values: build.values,
        partition,
        time,
        then,
        program: Program::new(&node.clauses.pattern)?,
        least_rows: node.clauses.pattern.least_rows(),
        variables: node.clauses.variables.clone(),
        defines,
        within: node.clauses.within,
        after: node.clauses.after,
        output,
        has_row_time,
        by_proctime,
        input,
    })
}

/// Which columns of the output are row times: `MATCH_ROWTIME`, and the time of each row where all come out. Where all
/// come out and there is no WITHIN, none is: a row may wait for ever for the end of its match, and all that is behind
/// would wait with it.
pub fn row_times(node: &MatchRecognizeNode) -> Vec<bool> {
    let time = node.order.first().map(|o| &o.expr);
    let is_bounded = !node.clauses.all_rows || node.clauses.within.is_some();
    node.output()
        .iter()
        .map(|(_, e)| {
            let e = e.clone().unalias();
            let is_match_time =
                Reference::of(&e).is_some_and(|(r, _)| matches!(r.navigation, Navigation::RowTime { .. }));
            is_bounded && (is_match_time || (node.clauses.all_rows && Some(&e) == time))
        })
        .collect()
}

struct Builder<'a> {
    schema: &'a DFSchema,
    input: &'a SchemaRef,
    props: &'a ExecutionProps,
    values: RowValues,
    /// Aggregates in definitions.
    aggregates: usize,
}

/// Expressions that are read, and columns for them.
struct Read {
    exprs: Vec<Expr>,
    fields: Vec<Field>,
}

impl Read {
    /// The column for an expression over the input.
    fn column(&mut self, e: Expr, schema: &DFSchema) -> DfResult<Expr> {
        let i = match self.exprs.iter().position(|known| *known == e) {
            Some(i) => i,
            None => {
                let (_, field) = e.to_field(schema)?;
                let name = format!("read_{}", self.fields.len());
                self.fields.push(Field::new(name, field.data_type().clone(), true));
                self.exprs.push(e);
                self.exprs.len() - 1
            }
        };
        Ok(Expr::Column(Column::new_unqualified(format!("read_{i}"))))
    }

    fn schema(&self) -> Result<(SchemaRef, DFSchema)> {
        let schema = Arc::new(Schema::new(self.fields.clone()));
        let df = DFSchema::try_from(Arc::clone(&schema))?;
        Ok((schema, df))
    }
}

/// The row that an expression is about, if it is one; several, or an aggregate, give `None`.
fn single_row(e: &Expr) -> DfResult<Option<RowRef>> {
    let (mut found, mut several) = (None, false);
    e.apply(|e| {
        let row = match e {
            Expr::AggregateFunction(_) => {
                several = true;
                return Ok(TreeNodeRecursion::Stop);
            }
            Expr::Column(_) => RowRef::Current,
            other => match row_of(other) {
                Some(row) => row,
                None => return Ok(TreeNodeRecursion::Continue),
            },
        };
        several |= found.replace(row).is_some_and(|before| before != row);
        Ok(TreeNodeRecursion::Jump)
    })?;
    Ok(if several { None } else { Some(found.unwrap_or(RowRef::Current)) })
}

/// The row of a reference.
fn row_of(e: &Expr) -> Option<RowRef> {
    let (reference, _) = Reference::of(e)?;
    match reference.navigation {
        Navigation::First(n) => Some(RowRef::First(reference.variable, n)),
        Navigation::Last(n) => Some(RowRef::Last(reference.variable, n)),
        Navigation::RowTime { .. } => Some(RowRef::Last(None, 0)),
        Navigation::Each | Navigation::Classifier => None,
    }
}

/// The expression over its row, without references.
fn over_row(e: &Expr) -> DfResult<Expr> {
    let plain = e.clone().transform_down(|e| {
        Ok(match Reference::of(&e) {
            Some((_, Some(value))) => Transformed::new(value.clone(), true, TreeNodeRecursion::Jump),
            _ => Transformed::no(e),
        })
    })?;
    Ok(plain.data)
}

fn comparison(op: Operator, negated: bool) -> Option<Comparison> {
    Some(match (op, negated) {
        (Operator::Eq, false) | (Operator::NotEq, true) => Comparison::Equal,
        (Operator::NotEq, false) | (Operator::Eq, true) => Comparison::NotEqual,
        (Operator::Lt, false) | (Operator::GtEq, true) => Comparison::Less,
        (Operator::LtEq, false) | (Operator::Gt, true) => Comparison::LessOrEqual,
        (Operator::Gt, false) | (Operator::LtEq, true) => Comparison::Greater,
        (Operator::GtEq, false) | (Operator::Lt, true) => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

impl Builder<'_> {
    fn physical(&self, e: &Expr) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(create_physical_expr(e, self.schema, self.props)?)
    }

    /// What an expression is where its rows are not there.
    fn without_row(&self, e: &Expr) -> Result<ScalarValue> {
        let schema = self.schema;
        let nulls = e.clone().transform_down(|e| {
            if Reference::of(&e).is_none() {
                return Ok(Transformed::no(e));
            }
            let null = ScalarValue::try_from(&e.get_type(schema)?)?;
            Ok(Transformed::new(Expr::Literal(null, None), true, TreeNodeRecursion::Jump))
        })?;
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
        let physical = create_physical_expr(&nulls.data, &DFSchema::empty(), self.props)?;
        Ok(ScalarValue::try_from_array(&evaluate(&physical, &row)?, 0)?)
    }

    /// The condition, or its opposite; NULL is neither.
    fn condition(&mut self, e: &Expr, negated: bool) -> Result<Condition> {
        match e {
            Expr::Alias(alias) => return self.condition(&alias.expr, negated),
            Expr::Not(inner) => return self.condition(inner, !negated),
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let parts = vec![self.condition(left, negated)?, self.condition(right, negated)?];
                let all = (*op == Operator::And) != negated;
                return Ok(if all { Condition::All(parts) } else { Condition::Any(parts) });
            }
            Expr::Between(Between { expr, negated: outside, low, high }) if single_row(e)?.is_none() => {
                let binary = |op, side: &Expr| {
                    let (left, right) = (expr.clone(), Box::new(side.clone()));
                    Expr::BinaryExpr(BinaryExpr { left, op, right })
                };
                let inside = binary(Operator::GtEq, low).and(binary(Operator::LtEq, high));
                return self.condition(&inside, negated != *outside);
            }
            _ => {}
        }
        let own = if negated { Expr::Not(Box::new(e.clone())) } else { e.clone() };
        if let Some(row) = single_row(&own)? {
            let without = match row {
                RowRef::Current => false,
                _ => matches!(self.without_row(&own)?, ScalarValue::Boolean(Some(true))),
            };
            let fact = self.physical(&over_row(&own)?)?;
            return Ok(Condition::Fact(row, add(&mut self.values.facts, fact), without));
        }
        if let Expr::BinaryExpr(BinaryExpr { left, op, right }) = e
            && let Some(comparison) = comparison(*op, negated)
            && let (Some(l), Some(r)) = (self.operand(left)?, self.operand(right)?)
            && l.2 == r.2
        {
            let mut place = |(row, value, _)| (row, add(&mut self.values.operands, value));
            return Ok(Condition::Compare(place(l), comparison, place(r)));
        }
        self.computed(&own)
    }

    /// A value of one row that can be compared, and is NULL where the row is not there.
    #[expect(clippy::type_complexity, reason = "row, value and type, once")]
    fn operand(&self, e: &Expr) -> Result<Option<(RowRef, Arc<dyn PhysicalExpr>, DataType)>> {
        let Some(row) = single_row(e)? else { return Ok(None) };
        let ty = e.get_type(self.schema)?;
        if !is_comparable(&ty) || (row != RowRef::Current && !self.without_row(e)?.is_null()) {
            return Ok(None);
        }
        Ok(Some((row, self.physical(&over_row(e)?)?, ty)))
    }

    fn computed(&mut self, e: &Expr) -> Result<Condition> {
        let (over, read) = self.read(e)?;
        let (schema, df) = read.schema()?;
        let condition = create_physical_expr(&over, &df, self.props)?;
        let mut inputs = Vec::new();
        for read in &read.exprs {
            inputs.push(match read {
                Expr::AggregateFunction(_) => {
                    let (variable, call) = self.aggregate(read)?;
                    self.aggregates += 1;
                    Input::Aggregate(variable, Box::new(call), self.aggregates - 1)
                }
                other => {
                    let row = row_of(other).unwrap_or(RowRef::Current);
                    Input::Value(row, self.physical(&over_row(other)?)?)
                }
            });
        }
        Ok(Condition::Computed { inputs, schema, condition })
    }

    /// An expression over columns for the aggregates, references and columns in it.
    fn read(&self, e: &Expr) -> Result<(Expr, Read)> {
        let mut read = Read { exprs: Vec::new(), fields: Vec::new() };
        let over = self.read_into(e, &mut read)?;
        Ok((over, read))
    }

    fn read_into(&self, e: &Expr, read: &mut Read) -> Result<Expr> {
        let schema = self.schema;
        let over = e.clone().transform_down(|e| {
            let is_read =
                matches!(e, Expr::AggregateFunction(_) | Expr::Column(_)) || Reference::of(&e).is_some();
            if !is_read {
                return Ok(Transformed::no(e));
            }
            Ok(Transformed::new(read.column(e, schema)?, true, TreeNodeRecursion::Jump))
        })?;
        Ok(over.data)
    }

    /// An aggregate, and the variable whose rows it aggregates.
    fn aggregate(&self, e: &Expr) -> Result<(Option<u8>, AggregateCall)> {
        let mut variable = None;
        e.apply(|e| {
            if let Some((reference, _)) = Reference::of(e) {
                variable = reference.variable;
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let plain = over_row(e)?;
        let name = plain.schema_name().to_string();
        let builder = LoweredAggregateBuilder::new(&plain, self.schema, self.input, self.props);
        let LoweredAggregate { aggregate, filter, order_bys } = builder.with_name(name).build()?;
        if !order_bys.is_empty() {
            return Err(Error::internal("ORDER BY in an aggregate of MATCH_RECOGNIZE"));
        }
        Ok((variable, AggregateCall::new(aggregate, filter)))
    }

    fn output(&self, node: &MatchRecognizeNode) -> Result<MatchOutput> {
        let mut read = Read { exprs: Vec::new(), fields: Vec::new() };
        let mut over = Vec::new();
        let last = Navigation::Last(0);
        let measures: Vec<&String> = node.measures.iter().map(|(name, _)| name).collect();
        for (name, e) in node.output() {
            // Plain columns are those of the row at hand.
            let e = if measures.contains(&&name) { e } else { Reference::call(last, None, Some(e)) };
            over.push(self.read_into(&e, &mut read)?);
        }
        let (mut rows, mut values, mut aggregates) = (Vec::new(), Vec::new(), Vec::new());
        let (mut of_values, mut of_aggregates, mut of_class) = (Vec::new(), Vec::new(), None);
        for (i, e) in read.exprs.iter().enumerate() {
            match (e, row_of(e)) {
                (Expr::AggregateFunction(_), _) => {
                    aggregates.push(self.aggregate(e)?);
                    of_aggregates.push(i);
                }
                (_, Some(row)) => {
                    let place = rows.iter().position(|known| *known == row).unwrap_or_else(|| {
                        rows.push(row);
                        rows.len() - 1
                    });
                    values.push((place, self.physical(&over_row(e)?)?));
                    of_values.push(i);
                }
                _ if matches!(Reference::of(e), Some((r, _)) if r.navigation == Navigation::Classifier) => {
                    of_class = Some(i);
                }
                _ => return Err(Error::internal(format!("{e} in a measure"))),
            }
        }
        // Columns in the order of the operator: values, aggregates, the variable.
        let order: Vec<usize> = of_values.into_iter().chain(of_aggregates).chain(of_class).collect();
        let fields: Vec<Field> = order.iter().map(|i| read.fields[*i].clone()).collect();
        let read_schema = Arc::new(Schema::new(fields));
        let df = DFSchema::try_from(Arc::clone(&read_schema))?;
        let columns =
            over.iter().map(|e| Ok(create_physical_expr(e, &df, self.props)?)).collect::<Result<Vec<_>>>()?;
        use datafusion::logical_expr::UserDefinedLogicalNodeCore;
        let schema = Arc::new(node.schema().as_arrow().clone());
        Ok(MatchOutput {
            all_rows: node.clauses.all_rows,
            rows,
            values,
            aggregates,
            classes: of_class.map(|_| node.clauses.variables.clone()),
            read: read_schema,
            columns,
            schema,
        })
    }
}

/// The place of an expression in a list.
fn add(list: &mut Vec<Arc<dyn PhysicalExpr>>, e: Arc<dyn PhysicalExpr>) -> usize {
    list.iter().position(|known| known == &e).unwrap_or_else(|| {
        list.push(e);
        list.len() - 1
    })
}
