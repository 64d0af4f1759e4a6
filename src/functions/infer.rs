//! The SQL types of expressions as Flink infers them: lengths of texts, digits of times, what can be NULL.
//!
//! Arrow's types know less, and execution needs no more. This is for what users see: DESCRIBE. Expressions are those of a
//! plan before analysis, in which casts still carry the text of their type.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Fields};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{Alias, Case, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

use super::cast::{CAST_TAG, IF_TAG};
use super::chain::is_chain;
use super::collection::common;
use super::comparisons::is_condition;
use super::infer_functions::function_type;
use super::rewrite::fraction_digits;
use super::udf::is_strict;
use crate::error::{Error, Result};
use crate::types::{LogicalType, MAX_LENGTH, TypeRoot};

const ARITHMETIC: &[&str] = &["__add", "__subtract", "__multiply", "__divide", "__mod"];

/// The columns that an expression is over.
pub struct Scope<'a> {
    /// Their types.
    columns: &'a [LogicalType],
    /// Their names, and what of their types Arrow knows.
    schema: DFSchema,
}

impl<'a> Scope<'a> {
    /// Columns of a schema with these types.
    ///
    /// # Errors
    /// From DataFusion, for a schema that cannot be.
    pub fn new(schema: &DFSchema, columns: &'a [LogicalType]) -> Result<Self> {
        let fields = schema
            .iter()
            .zip(columns)
            .map(|((qualifier, field), ty)| {
                let exact = field.as_ref().clone().with_nullable(ty.nullable);
                (qualifier.cloned(), Arc::new(exact))
            })
            .collect();
        Ok(Scope { columns, schema: DFSchema::new_with_metadata(fields, HashMap::new())? })
    }

    /// The type of an expression.
    ///
    /// # Errors
    /// For expressions that have none.
    pub fn type_of(&self, e: &Expr) -> Result<LogicalType> {
        let boolean = |nullable: bool| LogicalType { root: TypeRoot::Boolean, nullable };
        Ok(match e {
            Expr::Alias(Alias { expr, .. }) => self.type_of(expr)?,
            Expr::Column(c) => {
                let known = self.schema.maybe_index_of_column(c).and_then(|i| self.columns.get(i));
                known.cloned().map_or_else(|| self.arrow(e), Ok)?
            }
            Expr::Literal(value, _) => literal(value)?,
            Expr::Cast(cast) => {
                let inner = self.type_of(&cast.expr)?;
                LogicalType { root: declared(&cast.expr, cast.field.data_type())?, nullable: inner.nullable }
            }
            Expr::TryCast(cast) => LogicalType::nullable(declared(&cast.expr, cast.field.data_type())?),
            Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::Exists(_) => boolean(false),
            Expr::Not(e) => boolean(self.type_of(e)?.nullable),
            Expr::BinaryExpr(b) => self.binary(b, e)?,
            Expr::Like(l) | Expr::SimilarTo(l) => boolean(self.any([&*l.expr, &*l.pattern])?),
            Expr::Between(b) => boolean(self.any([&*b.expr, &*b.low, &*b.high])?),
            // It may have no row.
            Expr::ScalarSubquery(_) => LogicalType { nullable: true, ..self.arrow(e)? },
            Expr::InSubquery(s) => {
                let of_query = s.subquery.subquery.schema().fields().first().is_none_or(|f| f.is_nullable());
                boolean(of_query || self.type_of(&s.expr)?.nullable)
            }
            Expr::InList(l) => boolean(self.type_of(&l.expr)?.nullable || self.any(l.list.iter())?),
            Expr::Case(case) => self.case(case)?,
            Expr::ScalarFunction(f) => self.function(f, e)?,
            other => self.arrow(other)?,
        })
    }

    /// What Arrow knows of the type.
    pub(super) fn arrow(&self, e: &Expr) -> Result<LogicalType> {
        LogicalType::from_field(&e.to_field(&self.schema)?.1)
    }

    fn any<'e>(&self, parts: impl IntoIterator<Item = &'e Expr>) -> Result<bool> {
        for e in parts {
            if self.type_of(e)?.nullable {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn binary(&self, b: &BinaryExpr, e: &Expr) -> Result<LogicalType> {
        if matches!(b.op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom) {
            return Ok(LogicalType::not_null(TypeRoot::Boolean));
        }
        let (left, right) = (self.type_of(&b.left)?, self.type_of(&b.right)?);
        let nullable = left.nullable || right.nullable;
        // Of a long row of conditions, each would look at all before it.
        if is_condition(e) {
            return Ok(LogicalType { root: TypeRoot::Boolean, nullable });
        }
        let root = self.arrow(e)?.root;
        // A time that is moved keeps its digits.
        let moved = [&left, &right].into_iter().find(|t| is_time(&t.root));
        Ok(match moved {
            Some(time) if same_family(&time.root, &root) => LogicalType { root: time.root.clone(), nullable },
            _ => LogicalType { root, nullable },
        })
    }

    fn case(&self, case: &Case) -> Result<LogicalType> {
        let mut parts = Vec::with_capacity(case.when_then_expr.len() + 1);
        for then in case.when_then_expr.iter().map(|(_, t)| t).chain(&case.else_expr) {
            parts.push(self.type_of(then)?);
        }
        let mut nullable = case.else_expr.is_none() || parts.iter().any(|p| p.nullable);
        for condition in case.when_then_expr.iter().filter_map(|(when, _)| condition_of_if(when)) {
            nullable |= self.type_of(condition)?.nullable;
        }
        Ok(LogicalType { root: unify("CASE", &parts)?, nullable })
    }

    fn function(&self, f: &ScalarFunction, e: &Expr) -> Result<LogicalType> {
        if f.name() == CAST_TAG {
            return f.args.first().map_or_else(|| self.arrow(e), |inner| self.type_of(inner));
        }
        let args = f.args.iter().map(|a| self.type_of(a)).collect::<Result<Vec<_>>>()?;
        if let Some(ty) = function_type(f.name(), &args, &f.args)? {
            return Ok(ty);
        }
        let mut ty = self.arrow(e)?;
        // Arithmetic is NULL, too, where a DECIMAL is too large, which Flink leaves out of the type.
        if is_strict(&f.func) || ARITHMETIC.contains(&f.name()) || is_chain(f.name()) {
            ty.nullable = args.iter().any(|a| a.nullable);
        }
        Ok(ty)
    }
}

/// What an IF asks, if it is the condition of one.
fn condition_of_if(e: &Expr) -> Option<&Expr> {
    match e {
        Expr::ScalarFunction(f) if f.name() == CAST_TAG => match f.args.as_slice() {
            [condition, Expr::Literal(ScalarValue::Utf8(Some(tag)), _)] if tag == IF_TAG => Some(condition),
            _ => None,
        },
        _ => None,
    }
}

fn is_time(root: &TypeRoot) -> bool {
    matches!(root, TypeRoot::Time(_) | TypeRoot::Timestamp(_) | TypeRoot::TimestampLtz(_))
}

/// Whether both are the same but for their digits.
pub(super) fn same_family(a: &TypeRoot, b: &TypeRoot) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn literal(value: &ScalarValue) -> Result<LogicalType> {
    let length = |n: usize| u32::try_from(n).unwrap_or(MAX_LENGTH);
    Ok(match value {
        ScalarValue::Utf8(Some(s)) => LogicalType::not_null(TypeRoot::Char(length(s.encode_utf16().count()))),
        ScalarValue::Binary(Some(b)) => LogicalType::not_null(TypeRoot::Binary(length(b.len()))),
        ScalarValue::IntervalMonthDayNano(Some(v)) if v.months != 0 => {
            LogicalType::not_null(TypeRoot::IntervalYearMonth)
        }
        other => LogicalType::from_arrow(&other.data_type(), other.is_null())?,
    })
}

/// The type that a cast was written with, or a literal of a time.
fn declared(inner: &Expr, to: &DataType) -> Result<TypeRoot> {
    if let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = inner {
        match to {
            DataType::Timestamp(_, None) => {
                return Ok(TypeRoot::Timestamp(u8::try_from(fraction_digits(text)?).unwrap_or(9)));
            }
            DataType::Time32(_) => {
                return Ok(TypeRoot::Time(u8::try_from(fraction_digits(text)?).unwrap_or(9)));
            }
            _ => {}
        }
    }
    if let Expr::ScalarFunction(f) = inner
        && f.name() == CAST_TAG
        && let Some(Expr::Literal(ScalarValue::Utf8(Some(text)), _)) = f.args.get(1)
    {
        // The parser leaves a type as one quoted name.
        let text = text.trim_matches('`').replace("``", "`");
        if let Ok(ty) = crate::sql::parse_type(&text)
            && same_arrow(&ty.to_arrow(), to)
        {
            return Ok(ty.root);
        }
    }
    Ok(LogicalType::from_arrow(to, true)?.root)
}

/// Whether two types are the same apart from what can be NULL in them.
pub fn same_arrow(a: &DataType, b: &DataType) -> bool {
    use DataType::{List, Map, Struct};
    let fields = |a: &Fields, b: &Fields| {
        a.len() == b.len()
            && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && same_arrow(a.data_type(), b.data_type()))
    };
    match (a, b) {
        (List(a), List(b)) => same_arrow(a.data_type(), b.data_type()),
        (Map(a, _), Map(b, _)) => match (a.data_type(), b.data_type()) {
            (Struct(a), Struct(b)) => fields(a, b),
            _ => false,
        },
        (Struct(a), Struct(b)) => fields(a, b),
        _ => a == b,
    }
}

/// The type that holds the values of all.
pub(super) fn unify(name: &str, parts: &[LogicalType]) -> Result<TypeRoot> {
    let known: Vec<&LogicalType> = parts.iter().filter(|p| p.root != TypeRoot::Null).collect();
    let Some(first) = known.first() else { return Ok(TypeRoot::Null) };
    if known.iter().all(|p| p.root == first.root) {
        return Ok(first.root.clone());
    }
    if let Some(length) = longest(known.iter().map(|p| &p.root)) {
        return Ok(TypeRoot::Varchar(length));
    }
    let digits = known.iter().map(|p| match (&first.root, &p.root) {
        (TypeRoot::Timestamp(_), TypeRoot::Timestamp(p))
        | (TypeRoot::TimestampLtz(_), TypeRoot::TimestampLtz(p))
        | (TypeRoot::Time(_), TypeRoot::Time(p)) => Some(*p),
        _ => None,
    });
    if let Some(digits) = digits.collect::<Option<Vec<u8>>>() {
        let most = digits.into_iter().max().unwrap_or(0);
        return Ok(match first.root {
            TypeRoot::Timestamp(_) => TypeRoot::Timestamp(most),
            TypeRoot::TimestampLtz(_) => TypeRoot::TimestampLtz(most),
            _ => TypeRoot::Time(most),
        });
    }
    if let Some(elements) = known.iter().map(|p| element(p)).collect::<Option<Vec<_>>>() {
        let elements: Vec<LogicalType> = elements.into_iter().cloned().collect();
        let nullable = elements.iter().any(|e| e.nullable);
        return Ok(TypeRoot::Array(Box::new(LogicalType { root: unify(name, &elements)?, nullable })));
    }
    let arrow: Vec<DataType> = known.iter().map(|p| p.to_arrow()).collect();
    Ok(LogicalType::from_arrow(&common(name, &arrow)?, true)?.root)
}

/// The type that holds the values of all; `None` if there is none.
pub fn common_root<'t>(parts: impl Iterator<Item = &'t LogicalType>) -> Option<TypeRoot> {
    unify("VALUES", &parts.cloned().collect::<Vec<_>>()).ok()
}

/// The element type of an array.
pub(super) fn element(t: &LogicalType) -> Option<&LogicalType> {
    match &t.root {
        TypeRoot::Array(e) => Some(e),
        _ => None,
    }
}

/// The length of a text.
pub(super) fn length(root: &TypeRoot) -> Option<u32> {
    match root {
        TypeRoot::Char(n) | TypeRoot::Varchar(n) => Some(*n),
        _ => None,
    }
}

/// The greatest length, if all are texts.
fn longest<'r>(roots: impl Iterator<Item = &'r TypeRoot>) -> Option<u32> {
    let mut most = 0;
    for root in roots {
        most = most.max(length(root)?);
    }
    Some(most)
}

/// The error for an expression without arguments that it needs.
pub(super) fn missing(name: &str) -> Error {
    Error::internal(format!("{name} without an argument"))
}
