//! Functions of the user: `CREATE FUNCTION` and what a program registers.
//!
//! ```text
//!  CREATE FUNCTION ─► UserFunction ─┬─ SQL          Inlined, a call that the planner replaces by its expression (plan::syntax::user_functions)
//!                                   ├─ JavaScript ┐
//!                                   ├─ Python     ┴─ Engine ─► Foreign scalar, table or aggregate ─► DataFusion's function
//!                                   └─ Rust         DataFusion's function as the program made it
//! ```
//!
//! A table function is a scalar function whose result is an array of rows: the planner unnests it. So batch and
//! streaming share one way of calling each kind. An `Engine` takes whole batches; how it gets them across (a thread
//! with an interpreter, a process) is its own matter.

mod aggregate;
mod engine;
mod javascript;
mod kept;
mod pool;
mod python;
mod rust;
mod scalar;
mod signature;
mod values;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF, Volatility};
use datafusion::sql::sqlparser::ast::{CastKind, DataType, Expr, Ident, ObjectName};

use crate::error::{Error, Location, Result};
use crate::options::{parse_bytes, parse_duration};
use crate::sql::ast::{CreateFunction, FunctionLanguage, Parameter, Query, Returns};
use crate::sql::{parse_body_expr, parse_body_query};
use crate::types::LogicalType;

pub(crate) use aggregate::{UserAggregate, UserState};
use engine::Engine;
pub use rust::UserFunctionBuilder;
pub use scalar::Inlined;
pub use signature::{Signature, check_types};

/// A function as it is known in a session.
#[derive(Clone)]
pub struct UserFunction {
    /// Name, parameters, result.
    pub signature: Arc<Signature>,
    /// What it does.
    pub body: Body,
    /// What it is written in; `None` for Rust.
    pub language: Option<FunctionLanguage>,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// The statement that made it; `None` for those of a program.
    pub text: Option<String>,
    /// Catalog and database that names in its body are relative to.
    pub resolve_in: (String, String),
}

/// What a function does.
#[derive(Clone)]
pub enum Body {
    /// An expression over the parameters.
    Expression(Arc<ScalarUDF>),
    /// A query over the parameters.
    Query(Arc<Query>),
    /// A value for each row.
    Scalar(Arc<ScalarUDF>),
    /// An array of rows for each row.
    Table(Arc<ScalarUDF>),
    /// A value for many rows.
    Aggregate(Arc<AggregateUDF>),
}

impl fmt::Debug for UserFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.signature)
    }
}

impl UserFunction {
    /// The function that a statement describes. A script is loaded at once, so that what is wrong with it is told here.
    ///
    /// # Errors
    /// Syntax and Validation with the place in the statement; Data for scripts that fail; External if their interpreter
    /// cannot be started.
    pub fn create(create: &CreateFunction, resolve_in: (String, String)) -> Result<Self> {
        let name = create.name.parts.last().cloned().unwrap_or_default();
        let signature = Arc::new(Signature {
            name,
            parameters: create.parameters.clone(),
            returns: create.returns.clone(),
            volatility: if create.deterministic { Volatility::Immutable } else { Volatility::Volatile },
            strict: create.strict,
            language: Some(create.language),
        });
        signature.check()?;
        if create.aggregate && create.parameters.is_empty() {
            return Err(Error::validation("an aggregate function has at least one parameter")
                .at(create.name.location));
        }
        let body = match create.language {
            FunctionLanguage::Sql => sql_body(create, &signature, resolve_in.clone())?,
            FunctionLanguage::JavaScript => {
                script_body(create, &signature, javascript::JavaScript::new(create, &signature)?)?
            }
            FunctionLanguage::Python => {
                script_body(create, &signature, python::Python::new(create, &signature)?)?
            }
        };
        Ok(UserFunction {
            signature,
            body,
            language: Some(create.language),
            temporary: create.temporary,
            comment: create.comment.clone(),
            text: Some(create.text.clone()),
            resolve_in,
        })
    }

    /// `SCALAR`, `TABLE` or `AGGREGATE`.
    pub fn kind(&self) -> &'static str {
        match self.body {
            Body::Expression(_) | Body::Scalar(_) => "SCALAR",
            Body::Query(_) | Body::Table(_) => "TABLE",
            Body::Aggregate(_) => "AGGREGATE",
        }
    }

    /// How it is called, and what it gives.
    pub fn describe(&self) -> String {
        match (&self.body, &self.signature.returns) {
            // DataFusion's own know their types only by their arguments.
            (Body::Scalar(_) | Body::Aggregate(_), Returns::Table(_)) => {
                format!("{}(…)", self.signature.name)
            }
            _ => self.signature.to_string(),
        }
    }

    /// The function for calls among expressions.
    pub fn scalar(&self) -> Option<&Arc<ScalarUDF>> {
        match &self.body {
            Body::Expression(f) | Body::Scalar(f) => Some(f),
            _ => None,
        }
    }

    /// The function for calls that aggregate.
    pub fn aggregate(&self) -> Option<&Arc<AggregateUDF>> {
        match &self.body {
            Body::Aggregate(f) => Some(f),
            _ => None,
        }
    }
}

fn sql_body(
    create: &CreateFunction,
    signature: &Arc<Signature>,
    resolve_in: (String, String),
) -> Result<Body> {
    if create.aggregate {
        return Err(Error::unsupported("an aggregate function in SQL is not supported")
            .at(create.name.location)
            .hint("write it in JAVASCRIPT or PYTHON, or as an expression over aggregates where it is used"));
    }
    if let Some(key) = create.options.keys().next() {
        return Err(Error::validation(format!("the option '{key}' is unknown: functions in SQL take none"))
            .at(create.name.location));
    }
    if !create.deterministic {
        return Err(Error::unsupported("NOT DETERMINISTIC of a function in SQL is not supported")
            .at(create.name.location)
            .hint("it is as deterministic as what it calls: leave the words out"));
    }
    let within = |e: Error| e.context(format!("function {}", signature.name));
    Ok(match &create.returns {
        Returns::Value(ty, at) => {
            if !ty.nullable {
                return Err(Error::unsupported(
                    "NOT NULL after the type of a function in SQL is not supported",
                )
                .at(*at)
                .hint("its result is as its expression makes it: leave NOT NULL out"));
            }
            let mut expr = parse_body_expr(&create.body, create.body_location).map_err(within)?;
            if !signature::is_held(ty)? {
                expr.expr = cast_to(expr.expr, ty);
            }
            let signature = Arc::clone(signature);
            Body::Expression(scalar::inlined(Inlined { signature, expr: Arc::new(expr), resolve_in }))
        }
        Returns::Table(_) => {
            if create.strict {
                return Err(Error::unsupported(
                    "RETURNS NULL ON NULL INPUT of a table function in SQL is not supported",
                )
                .at(create.name.location)
                .hint("add WHERE parameter IS NOT NULL to its query"));
            }
            Body::Query(Arc::new(parse_body_query(&create.body, create.body_location).map_err(within)?))
        }
    })
}

/// `CAST((e) AS type)`, with the type as the parser leaves it.
fn cast_to(e: Expr, ty: &LogicalType) -> Expr {
    let ident = Ident::with_quote('`', ty.to_string());
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Nested(Box::new(e))),
        data_type: DataType::Custom(ObjectName::from(vec![ident]), Vec::new()),
        array: false,
        format: None,
    }
}

fn script_body<E: Engine + 'static>(
    create: &CreateFunction,
    signature: &Arc<Signature>,
    engine: E,
) -> Result<Body> {
    let at = |e: Error| e.at(create.body_location);
    engine.load().map_err(at)?;
    let engine: Arc<dyn Engine> = Arc::new(engine);
    Ok(match &create.returns {
        _ if create.aggregate => Body::Aggregate(aggregate::function(signature, engine)?),
        Returns::Value(..) => Body::Scalar(scalar::foreign(signature, engine)),
        Returns::Table(_) => Body::Table(scalar::foreign(signature, engine)),
    })
}

/// The limits among the options of a function, and the others by their keys.
struct Limits {
    timeout: Option<Duration>,
    memory: Option<u64>,
    others: BTreeMap<String, String>,
}

/// Reads 'timeout', 'memory' and the options `others`.
///
/// # Errors
/// Validation for unknown keys and values that make no sense.
fn limits(create: &CreateFunction, others: &[&str]) -> Result<Limits> {
    let mut limits = Limits { timeout: None, memory: None, others: BTreeMap::new() };
    for (key, value) in &create.options {
        let bad = |expected: &str| {
            Error::validation(format!("the option '{key}' = '{value}' is not {expected}"))
                .at(create.name.location)
        };
        match key.as_str() {
            "timeout" => {
                let timeout = parse_duration(value).filter(|t| !t.is_zero());
                limits.timeout = Some(timeout.ok_or_else(|| bad("a duration such as '10 s'"))?);
            }
            "memory" => {
                limits.memory = Some(parse_bytes(value).ok_or_else(|| bad("a size such as '64 mb'"))?)
            }
            key if others.contains(&key) => drop(limits.others.insert(key.to_owned(), value.clone())),
            _ => {
                let known: Vec<String> =
                    ["memory", "timeout"].iter().chain(others).map(|k| format!("'{k}'")).collect();
                return Err(Error::validation(format!("the option '{key}' of a function is unknown"))
                    .at(create.name.location)
                    .hint(format!("functions in {} take {}", create.language.keyword(), known.join(", "))));
            }
        }
    }
    Ok(limits)
}

/// Where a line of a body stands in its script.
fn place_in(body: Location, line: u64) -> Location {
    if line <= 1 { body } else { Location { line: body.line + line - 1, column: 1 } }
}

/// The parameters as they are written.
fn list(parameters: &[Parameter]) -> String {
    parameters.iter().map(|p| format!("{} {}", p.name, p.ty)).collect::<Vec<_>>().join(", ")
}
