//! Functions that a program brings along.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, Volatility};

use super::engine::{Abilities, Accumulate, Engine};
use super::{Body, Signature, UserFunction, scalar};
use crate::error::{Error, Location, Result, ResultExt};
use crate::sql::ast::{Parameter, Returns};
use crate::sql::parse_type;

/// Evaluates whole columns: the arguments, each with a value a row, and the number of rows.
type Evaluate = dyn Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync;

/// Describes a function of the program; see [`UserFunction::builder`].
pub struct UserFunctionBuilder {
    name: String,
    parameters: Vec<(String, String)>,
    volatility: Volatility,
    strict: bool,
}

impl fmt::Debug for UserFunctionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserFunctionBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl UserFunction {
    /// A function of the program, to be added by `Session::register_function`:
    ///
    /// ```text
    /// UserFunction::builder("gcd").parameter("a", "BIGINT").parameter("b", "BIGINT").strict()
    ///     .scalar("BIGINT", |args, rows| …)?
    /// ```
    pub fn builder(name: impl Into<String>) -> UserFunctionBuilder {
        UserFunctionBuilder {
            name: name.into(),
            parameters: Vec::new(),
            volatility: Volatility::Immutable,
            strict: false,
        }
    }

    /// A scalar function of DataFusion's making. It decides itself which arguments it takes.
    pub fn from_scalar(f: ScalarUDF) -> Self {
        let volatility = f.signature().volatility;
        Self::of_program(opaque(f.name(), volatility), Body::Scalar(Arc::new(f)))
    }

    /// An aggregate function of DataFusion's making. In streaming GROUP BY it aggregates rows that come and never go.
    pub fn from_aggregate(f: AggregateUDF) -> Self {
        let volatility = f.signature().volatility;
        Self::of_program(opaque(f.name(), volatility), Body::Aggregate(Arc::new(f)))
    }

    fn of_program(signature: Signature, body: Body) -> Self {
        UserFunction {
            signature: Arc::new(signature),
            body,
            language: None,
            temporary: true,
            comment: None,
            text: None,
            resolve_in: (String::new(), String::new()),
        }
    }
}

/// The signature of a function that has its own.
fn opaque(name: &str, volatility: Volatility) -> Signature {
    Signature {
        name: name.to_owned(),
        parameters: Vec::new(),
        returns: Returns::Table(Vec::new()),
        volatility,
        strict: false,
        language: None,
    }
}

impl UserFunctionBuilder {
    /// A parameter of a SQL type such as `ARRAY<INT>` or `STRING NOT NULL`.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, ty: impl Into<String>) -> Self {
        self.parameters.push((name.into(), ty.into()));
        self
    }

    /// `RETURNS NULL ON NULL INPUT`: it sees no rows with NULL.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// `NOT DETERMINISTIC`: it is evaluated anew for every row, also with the same arguments.
    #[must_use]
    pub fn not_deterministic(mut self) -> Self {
        self.volatility = Volatility::Volatile;
        self
    }

    /// A function that gives a value for each row, of the Arrow type of the SQL type `returns`.
    ///
    /// # Errors
    /// Syntax and Unsupported for types that functions cannot have.
    pub fn scalar(
        self,
        returns: &str,
        evaluate: impl Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync + 'static,
    ) -> Result<UserFunction> {
        let returns = Returns::Value(parsed_type(returns)?, Location::default());
        let (signature, engine) = self.build(returns, Box::new(evaluate))?;
        let body = Body::Scalar(scalar::foreign(&signature, engine));
        Ok(UserFunction::of_program(Signature::clone(&signature), body))
    }

    /// A function that gives rows for each row: an array of rows with these columns.
    ///
    /// # Errors
    /// As [`UserFunctionBuilder::scalar`].
    pub fn table(
        self,
        columns: &[(&str, &str)],
        evaluate: impl Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync + 'static,
    ) -> Result<UserFunction> {
        let columns = columns.iter().map(|(name, ty)| parameter(name, ty)).collect::<Result<_>>()?;
        let (signature, engine) = self.build(Returns::Table(columns), Box::new(evaluate))?;
        let body = Body::Table(scalar::foreign(&signature, engine));
        Ok(UserFunction::of_program(Signature::clone(&signature), body))
    }

    fn build(self, returns: Returns, evaluate: Box<Evaluate>) -> Result<(Arc<Signature>, Arc<dyn Engine>)> {
        let parameters =
            self.parameters.iter().map(|(name, ty)| parameter(name, ty)).collect::<Result<_>>()?;
        let (volatility, strict) = (self.volatility, self.strict);
        let signature =
            Signature { name: self.name, parameters, returns, volatility, strict, language: None };
        signature.check()?;
        let signature = Arc::new(signature);
        Ok((Arc::clone(&signature), Arc::new(Native { signature, evaluate })))
    }
}

fn parsed_type(text: &str) -> Result<crate::types::LogicalType> {
    parse_type(text).context(|| format!("the type '{text}'"))
}

fn parameter(name: &str, ty: &str) -> Result<Parameter> {
    Ok(Parameter { name: name.to_owned(), ty: parsed_type(ty)?, location: Location::default() })
}

/// A closure as an engine.
struct Native {
    signature: Arc<Signature>,
    evaluate: Box<Evaluate>,
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native").field("signature", &self.signature).finish_non_exhaustive()
    }
}

impl Native {
    fn no_aggregate<T>(&self) -> Result<T> {
        Err(Error::internal(format!("{} is no aggregate", self.signature.name)))
    }
}

impl Engine for Native {
    fn load(&self) -> Result<()> {
        Ok(())
    }

    fn call(&self, args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let out = (self.evaluate)(args, rows).context(|| format!("function {}", self.signature.name))?;
        let expected = self.signature.result();
        if out.len() != rows {
            return Err(Error::internal(format!(
                "function {}: {} results for {rows} rows",
                self.signature.name,
                out.len()
            )));
        }
        if *out.data_type() != expected {
            return Err(Error::internal(format!(
                "function {}: its results are {}, not {expected}",
                self.signature.name,
                out.data_type()
            )));
        }
        Ok(out)
    }

    fn accumulate(&self, _rows: &Accumulate<'_>) -> Result<StringArray> {
        self.no_aggregate()
    }

    fn merge(&self, _states: &StringArray, _groups: &[u32], _others: &StringArray) -> Result<StringArray> {
        self.no_aggregate()
    }

    fn finish(&self, _states: &StringArray) -> Result<ArrayRef> {
        self.no_aggregate()
    }

    fn abilities(&self) -> Result<Abilities> {
        Ok(Abilities::default())
    }
}
