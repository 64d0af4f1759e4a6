//! A long row of operators as one function: `__chain:+-(a, b, c)` is `a + b - c`.
//!
//! ```text
//!  (type of the result so far, operator, type of the next argument) ─► Step: the expression `l + r` over two columns,
//!                                                                     planned as it would be anywhere else
//! ```
//!
//! The parser makes calls of rows too long for a tree. Steps are planned once for each pair of types, so that the type of a
//! row costs its length; they are evaluated one after the other, from the left.

use std::collections::HashMap;
use std::fmt::{self, Debug, Write};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, TypeSignature, Volatility, col,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use xxhash_rust::xxh3::Xxh3;

use crate::error::Error;
use crate::functions::context::FunctionContext;
use crate::functions::registry::expr_planners;
use crate::functions::rules::analyze_expr;
use crate::sql::ast::CHAIN;

/// Whether a function is a row of operators.
pub(super) fn is_chain(name: &str) -> bool {
    name.starts_with(CHAIN)
}

/// Makes the functions, by their names.
#[derive(Debug, Clone)]
pub struct Chains(Arc<Steps>);

impl Chains {
    /// For a session.
    pub fn new(context: &FunctionContext) -> Self {
        Chains(Arc::new(Steps {
            context: context.clone(),
            planners: expr_planners(context),
            known: Mutex::default(),
        }))
    }

    /// The function of a name, if it is one of these.
    pub fn function(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let operators = name.strip_prefix(CHAIN)?.chars().map(operator).collect::<Option<Vec<_>>>()?;
        Some(Arc::new(ScalarUDF::new_from_impl(Chain {
            name: name.to_owned(),
            operators,
            signature: Signature::new(TypeSignature::UserDefined, Volatility::Immutable),
            steps: Arc::clone(&self.0),
        })))
    }
}

fn operator(sign: char) -> Option<Operator> {
    Some(match sign {
        '+' => Operator::Plus,
        '-' => Operator::Minus,
        '*' => Operator::Multiply,
        '/' => Operator::Divide,
        '%' => Operator::Modulo,
        '|' => Operator::StringConcat,
        _ => return None,
    })
}

fn sql_operator(op: Operator) -> BinaryOperator {
    match op {
        Operator::Minus => BinaryOperator::Minus,
        Operator::Multiply => BinaryOperator::Multiply,
        Operator::Divide => BinaryOperator::Divide,
        Operator::Modulo => BinaryOperator::Modulo,
        Operator::StringConcat => BinaryOperator::StringConcat,
        _ => BinaryOperator::Plus,
    }
}

/// A side of an operator: its type, and whether it can be NULL.
type Side = (DataType, bool);

/// One operator between two types.
struct Step {
    result: Side,
    expr: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
}

/// All steps planned so far.
struct Steps {
    context: FunctionContext,
    planners: Vec<Arc<dyn ExprPlanner>>,
    known: Mutex<HashMap<(Side, Operator, Side), Arc<Step>>>,
}

impl Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Steps {
    fn step(&self, left: &Side, op: Operator, right: &Side) -> DfResult<Arc<Step>> {
        let key = (left.clone(), op, right.clone());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(step) = known {
            return Ok(step);
        }
        let step = Arc::new(self.plan(left, op, right)?);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&step));
        Ok(step)
    }

    fn plan(&self, left: &Side, op: Operator, right: &Side) -> DfResult<Step> {
        let field = |name: &str, (ty, nullable): &Side| Field::new(name, ty.clone(), *nullable);
        let schema = DFSchema::from_unqualified_fields(
            vec![field("l", left), field("r", right)].into(),
            HashMap::new(),
        )?;
        let expr = analyze_expr(self.binary(op, &schema)?, &schema, &self.context)?;
        let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
        let expr = ExprSimplifier::new(context).coerce(expr, &schema)?;
        let result = expr.to_field(&schema)?.1;
        // Whether a side has NULLs is known for its type alone: `__add` of DECIMALs makes some.
        let evaluated =
            Schema::new(vec![field("l", &(left.0.clone(), true)), field("r", &(right.0.clone(), true))]);
        Ok(Step {
            result: (result.data_type().clone(), result.is_nullable()),
            expr: create_physical_expr(&expr, &schema, &ExecutionProps::new())?,
            schema: Arc::new(evaluated),
        })
    }

    fn binary(&self, op: Operator, schema: &DFSchema) -> DfResult<Expr> {
        let mut raw = RawBinaryExpr { op: sql_operator(op), left: col("l"), right: col("r") };
        for planner in &self.planners {
            match planner.plan_binary_op(raw, schema)? {
                PlannerResult::Planned(expr) => return Ok(expr),
                PlannerResult::Original(same) => raw = same,
            }
        }
        Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(raw.left), op, Box::new(raw.right))))
    }
}

impl Step {
    fn evaluate(&self, left: &ColumnarValue, right: &ColumnarValue, rows: usize) -> DfResult<ColumnarValue> {
        let once = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let rows = if once { 1 } else { rows };
        let columns = vec![left.to_array(rows)?, right.to_array(rows)?];
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let value = self.expr.evaluate(&batch)?;
        if !once {
            return Ok(value);
        }
        Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&value.into_array(rows)?, 0)?))
    }
}

struct Chain {
    name: String,
    operators: Vec<Operator>,
    signature: Signature,
    steps: Arc<Steps>,
}

impl Chain {
    /// The steps from the left to the right; the last one has the type of all.
    fn steps(&self, sides: &[Side]) -> DfResult<Vec<Arc<Step>>> {
        let Some((first, others)) =
            sides.split_first().filter(|(_, others)| others.len() == self.operators.len())
        else {
            return Err(Error::internal(format!("a row of {} values", sides.len())).into());
        };
        let mut steps: Vec<Arc<Step>> = Vec::with_capacity(others.len());
        let mut before: Option<(Side, Operator, &Side)> = None;
        for (op, right) in self.operators.iter().zip(others) {
            let left = steps.last().map_or(first, |s| &s.result);
            // Mostly the same as the one before.
            let step = match (&before, steps.last()) {
                (Some(b), Some(last)) if b.0 == *left && b.1 == *op && b.2 == right => Arc::clone(last),
                _ => self.steps.step(left, *op, right)?,
            };
            before = Some((left.clone(), *op, right));
            steps.push(step);
        }
        Ok(steps)
    }

    fn result(&self, sides: &[Side]) -> DfResult<Side> {
        let steps = self.steps(sides)?;
        Ok(steps.last().map_or((DataType::Null, true), |s| s.result.clone()))
    }
}

fn sides(fields: &[FieldRef]) -> Vec<Side> {
    fields.iter().map(|f| (f.data_type().clone(), f.is_nullable())).collect()
}

impl Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for Chain {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.steps, &other.steps)
    }
}

impl Eq for Chain {}

impl Hash for Chain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// Takes text and keeps its hash.
struct Hashed(Xxh3);

impl Write for Hashed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl ScalarUDFImpl for Chain {
    fn name(&self) -> &str {
        &self.name
    }

    /// A hash in place of the arguments: the names of columns are asked for again and again.
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let mut hashed = Hashed(Xxh3::new());
        for arg in args {
            write!(hashed, "{},", arg.schema_name())?;
        }
        Ok(format!("{}({:016x})", self.name, hashed.0.digest()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        let sides: Vec<Side> = arg_types.iter().map(|t| (t.clone(), true)).collect();
        Ok(self.result(&sides)?.0)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let (ty, nullable) = self.result(&sides(args.arg_fields))?;
        Ok(Arc::new(Field::new(&self.name, ty, nullable)))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let steps = self.steps(&sides(&args.arg_fields))?;
        let mut values = args.args.into_iter();
        let Some(mut result) = values.next() else {
            return Err(Error::internal("a row of no values").into());
        };
        for (step, value) in steps.iter().zip(values) {
            result = step.evaluate(&result, &value, args.number_rows)?;
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::tests::Session;

    /// `a + b + …` as one row of `n` operands, and in two parts, each too short for a call.
    fn both(operands: &[&str], op: &str, n: usize) -> (String, String) {
        let all: Vec<&str> = operands.iter().copied().cycle().take(n).collect();
        let (first, rest) = all.split_at(n / 2);
        let op = format!(" {op} ");
        (all.join(&op), format!("({}){op}{}", first.join(&op), rest.join(&op)))
    }

    #[test]
    fn a_long_row_is_what_its_parts_are() {
        let session = Session::new("UTC");
        for (operands, op) in [
            (&["v.i"][..], "+"),
            (&["v.i", "v.l"], "-"),
            (&["v.i", "v.d", "1.5"], "+"),
            (&["v.f", "0.1e0"], "+"),
            (&["v.f", "1.1e0"], "*"),
            (&["v.f", "1.5e0"], "/"),
            (&["v.l", "7"], "%"),
            (&["v.d", "v.i"], "/"),
            (&["v.s", "'x'", "v.s"], "||"),
            (&["2147483647", "1"], "+"),
        ] {
            let (row, parts) = both(operands, op, 120);
            let from = "FROM (VALUES \
                (1, CAST(5 AS BIGINT), 1.25, 0.3e0, 'é'), (-7, CAST(9000000000 AS BIGINT), 99.99, 1e200, 'ab'), \
                (CAST(NULL AS INT), CAST(3 AS BIGINT), CAST(NULL AS DECIMAL(4, 2)), 2e0, CAST(NULL AS STRING))) \
                AS v(i, l, d, f, s)";
            let rows =
                |e: &str| session.rows(&format!("SELECT {e} {from}")).unwrap_or_else(|e| vec![e.to_string()]);
            assert_eq!(rows(&row), rows(&parts), "{op} {operands:?}");
            let ty = |e: &str| {
                let (schema, _) = session.run(&format!("SELECT {e} {from}")).unwrap();
                schema.field(0).data_type().clone()
            };
            if !rows(&row).iter().any(|r| r.contains("zero")) {
                assert_eq!(ty(&row), ty(&parts), "{op} {operands:?}");
            }
        }
    }

    #[test]
    fn operators_are_applied_from_the_left() {
        // 1e308 + 1e308 is infinite, also if as much is taken away later.
        let text = format!("1e308 + 1e308 - 1e308{}", " + 0e0".repeat(100));
        Session::new("UTC").check(&[(text.as_str(), "Infinity")]);
        let sum = (1..=100).map(|i| f64::from(i) / 10.0).fold(0.0, |sum, v| sum + v);
        let row: Vec<String> = (1..=100).map(|i| format!("{:?}e0", f64::from(i) / 10.0)).collect();
        let text = format!("0e0 + {} = {sum:?}e0", row.join(" + "));
        Session::new("UTC").check(&[(text.as_str(), "TRUE")]);
    }

    #[test]
    fn types_that_do_not_fit_are_told_as_elsewhere() {
        let text = format!("1{} + TRUE{}", " + 1".repeat(50), " + 1".repeat(50));
        let short = Session::new("UTC").eval("1 + TRUE").unwrap_err().to_string();
        assert_eq!(Session::new("UTC").eval(&text).unwrap_err().to_string(), short);
    }
}
