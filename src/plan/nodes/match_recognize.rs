//! `MATCH_RECOGNIZE` in a plan.
//!
//! ```text
//!  FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES LAST(a.x, 1) AS m PATTERN (a b+) DEFINE b AS b.x < a.x)
//!     └─► MatchRecognizeNode      planned by `syntax::match_recognize`, made an operator by `plan::match_recognize`
//!           streaming: `stream::match_recognize`;  batch: `batch::match_recognize`
//! ```
//!
//! Expressions are over the columns of the input. Columns of other rows of a match are arguments of [`Reference`]s; in
//! definitions, plain columns are those of the row that is tested.

use std::any::Any;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, SortExpr, TypeSignature, UserDefinedLogicalNodeCore, Volatility,
};

use crate::operators::match_recognize::{AfterMatch, Pattern};

/// Which rows of a match are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Navigation {
    /// The `n`th from the first on.
    First(u32),
    /// The `n`th from the last on.
    Last(u32),
    /// Each of them: the argument of an aggregate.
    Each,
    /// The last one, whose time is that of the match.
    RowTime {
        /// Whether it is declared to be never NULL.
        not_null: bool,
    },
    /// The name of its variable.
    Classifier,
}

/// A value of rows of a match: a function that the plan knows, and nobody calls.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Which of the rows.
    pub navigation: Navigation,
    /// The variable whose rows are meant; all rows where there is none.
    pub variable: Option<u8>,
    name: String,
    signature: Signature,
}

impl Reference {
    /// The expression for a value of rows of a match.
    pub fn call(navigation: Navigation, variable: Option<(u8, &str)>, value: Option<Expr>) -> Expr {
        let of = variable.map_or_else(String::new, |(_, name)| format!("{name}: "));
        let name = match navigation {
            Navigation::First(0) => format!("FIRST {of}"),
            Navigation::First(n) => format!("FIRST[{n}] {of}"),
            Navigation::Last(0) => format!("LAST {of}"),
            Navigation::Last(n) => format!("LAST[{n}] {of}"),
            Navigation::Each => format!("EACH {of}"),
            Navigation::RowTime { .. } => "MATCH_ROWTIME".to_owned(),
            Navigation::Classifier => "CLASSIFIER".to_owned(),
        };
        // What it gives depends on more than its arguments.
        let forms = vec![TypeSignature::Nullary, TypeSignature::Any(1)];
        let signature = Signature::one_of(forms, Volatility::Volatile);
        let reference = Reference {
            navigation,
            variable: variable.map(|(number, _)| number),
            name: name.trim().to_owned(),
            signature,
        };
        ScalarUDF::new_from_impl(reference).call(value.into_iter().collect())
    }

    /// The reference that an expression is, and its value.
    pub fn of(expr: &Expr) -> Option<(&Reference, Option<&Expr>)> {
        match expr {
            Expr::ScalarFunction(f) => {
                let function: &dyn Any = f.func.inner().as_ref();
                Some((function.downcast_ref::<Reference>()?, f.args.first()))
            }
            _ => None,
        }
    }

    fn key(&self) -> (Navigation, Option<u8>) {
        (self.navigation, self.variable)
    }
}

impl PartialEq for Reference {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Reference {}

impl Hash for Reference {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl ScalarUDFImpl for Reference {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(match (self.navigation, arg_types) {
            (Navigation::Classifier, _) => DataType::Utf8,
            (_, [ty]) => ty.clone(),
            _ => return datafusion::common::internal_err!("a reference to no value"),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let nullable = match self.navigation {
            Navigation::First(_) | Navigation::Last(_) => true,
            Navigation::Each => args.arg_fields.first().is_none_or(|f| f.is_nullable()),
            Navigation::RowTime { not_null } => !not_null,
            Navigation::Classifier => false,
        };
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        datafusion::common::internal_err!("a value of another row of a match was asked for outside of it")
    }
}

/// What MATCH_RECOGNIZE says beside its expressions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct MatchClauses {
    /// The pattern.
    pub pattern: Pattern,
    /// As it was written.
    pub pattern_text: String,
    /// Names of its variables.
    pub variables: Vec<String>,
    /// AFTER MATCH.
    pub after: AfterMatch,
    /// WITHIN, in ms.
    pub within: Option<i64>,
    /// ALL ROWS PER MATCH.
    pub all_rows: bool,
}

/// Rows of an input that match a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MatchRecognizeNode {
    /// The rows.
    pub input: LogicalPlan,
    /// The key.
    pub partition: Vec<Expr>,
    /// The order, by a time first.
    pub order: Vec<SortExpr>,
    /// Names and expressions.
    pub measures: Vec<(String, Expr)>,
    /// Variables and their conditions.
    pub defines: Vec<(u8, Expr)>,
    /// With ALL ROWS PER MATCH, the columns of the input that come out behind the measures.
    pub rest: Vec<Expr>,
    /// The rest.
    pub clauses: MatchClauses,
    schema: DFSchemaRef,
}

impl MatchRecognizeNode {
    /// The node with its schema.
    ///
    /// # Errors
    /// From DataFusion, if an expression has no type or columns have one name.
    pub fn try_new(
        input: LogicalPlan,
        partition: Vec<Expr>,
        order: Vec<SortExpr>,
        measures: Vec<(String, Expr)>,
        defines: Vec<(u8, Expr)>,
        clauses: MatchClauses,
    ) -> DfResult<Self> {
        let rest = if clauses.all_rows {
            let leading: Vec<&Expr> = partition.iter().chain(order.iter().map(|o| &o.expr)).collect();
            input.schema().columns().into_iter().map(Expr::Column).filter(|c| !leading.contains(&c)).collect()
        } else {
            Vec::new()
        };
        Self::with_rest(input, partition, order, measures, defines, rest, clauses)
    }

    fn with_rest(
        input: LogicalPlan,
        partition: Vec<Expr>,
        order: Vec<SortExpr>,
        measures: Vec<(String, Expr)>,
        defines: Vec<(u8, Expr)>,
        rest: Vec<Expr>,
        clauses: MatchClauses,
    ) -> DfResult<Self> {
        let mut node = MatchRecognizeNode {
            schema: Arc::clone(input.schema()),
            input,
            partition,
            order,
            measures,
            defines,
            rest,
            clauses,
        };
        let mut fields = Vec::new();
        for (name, expr) in node.output() {
            let (_, field) = expr.to_field(node.input.schema())?;
            let field = Field::new(name, field.data_type().clone(), field.is_nullable());
            fields.push((None, Arc::new(field)));
        }
        node.schema = Arc::new(DFSchema::new_with_metadata(fields, node.input.schema().metadata().clone())?);
        Ok(node)
    }

    /// The columns that come out, as the standard orders them, with their names.
    pub fn output(&self) -> Vec<(String, Expr)> {
        let name = |e: &Expr| match e {
            Expr::Column(Column { name, .. }) => name.clone(),
            other => other.to_string(),
        };
        let mut output: Vec<(String, Expr)> = self.partition.iter().map(|e| (name(e), e.clone())).collect();
        if self.clauses.all_rows {
            for order in self.order.iter().filter(|o| matches!(o.expr, Expr::Column(_))) {
                if !output.iter().any(|(_, e)| *e == order.expr) {
                    output.push((name(&order.expr), order.expr.clone()));
                }
            }
        }
        output.extend(self.measures.iter().cloned());
        output.extend(self.rest.iter().map(|e| (name(e), e.clone())));
        output
    }

    /// As it reads in plans.
    pub fn describe(&self) -> String {
        fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
            items.map(|i| i.to_string()).collect::<Vec<_>>().join(", ")
        }
        let c = &self.clauses;
        let mut parts = Vec::new();
        if !self.partition.is_empty() {
            parts.push(format!("partitionBy=[{}]", list(self.partition.iter())));
        }
        parts.push(format!("orderBy=[{}]", list(self.order.iter())));
        parts.push(format!(
            "measures=[{}]",
            list(self.measures.iter().map(|(name, e)| format!("{e} AS {name}")))
        ));
        parts.push(format!("rowsPerMatch=[{}]", if c.all_rows { "ALL ROWS" } else { "ONE ROW" }));
        let variable = |v: u8| c.variables.get(v as usize).map_or("", String::as_str);
        parts.push(match c.after {
            AfterMatch::PastLastRow => "after=[SKIP PAST LAST ROW]".to_owned(),
            AfterMatch::ToNextRow => "after=[SKIP TO NEXT ROW]".to_owned(),
            AfterMatch::ToFirst(v) => format!("after=[SKIP TO FIRST {}]", variable(v)),
            AfterMatch::ToLast(v) => format!("after=[SKIP TO LAST {}]", variable(v)),
        });
        parts.push(format!("pattern=[{}]", c.pattern_text));
        if let Some(within) = c.within {
            parts.push(format!("within=[{within} ms]"));
        }
        parts.push(format!(
            "define=[{}]",
            list(self.defines.iter().map(|(v, e)| format!("{} AS {e}", variable(*v))))
        ));
        parts.join(", ")
    }
}

impl PartialOrd for MatchRecognizeNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.input, &self.partition, &self.clauses).partial_cmp(&(
            &other.input,
            &other.partition,
            &other.clauses,
        ))
    }
}

impl UserDefinedLogicalNodeCore for MatchRecognizeNode {
    fn name(&self) -> &str {
        "MatchRecognize"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let mut all = self.partition.clone();
        all.extend(self.order.iter().map(|o| o.expr.clone()));
        all.extend(self.measures.iter().map(|(_, e)| e.clone()));
        all.extend(self.defines.iter().map(|(_, e)| e.clone()));
        all.extend(self.rest.iter().cloned());
        all
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "MatchRecognize: {}", self.describe())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let (partition, order) = (self.partition.len(), self.order.len());
        let (measures, defines) = (self.measures.len(), self.defines.len());
        let (Some(input), true) =
            (inputs.pop(), exprs.len() == partition + order + measures + defines + self.rest.len())
        else {
            return datafusion::common::internal_err!("MATCH_RECOGNIZE with other inputs or expressions");
        };
        let mut exprs = exprs.into_iter();
        let partition = exprs.by_ref().take(partition).collect();
        let order = self.order.iter().zip(exprs.by_ref());
        let order = order.map(|(o, expr)| SortExpr { expr, ..o.clone() }).collect();
        let measures = self.measures.iter().zip(exprs.by_ref()).map(|((n, _), e)| (n.clone(), e)).collect();
        let defines = self.defines.iter().zip(exprs.by_ref()).map(|((v, _), e)| (*v, e)).collect();
        let rest = exprs.collect();
        Self::with_rest(input, partition, order, measures, defines, rest, self.clauses.clone())
    }

    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // Columns of its own expressions, which are all that come out, are added by the optimizer.
        Some(vec![Vec::new()])
    }
}
