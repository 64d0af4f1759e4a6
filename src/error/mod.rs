//! The one error type of tidelake.
//!
//! Every error says *where* (a SQL position, or a culprit such as a table, file and line, partition and offset),
//! *what* went wrong and, where there is one, the *way out*. The command line prints it as
//! `error: FILE:LINE:COL: what, and what to do` with the source line underlined.

pub(crate) mod guard;
mod size;

use std::fmt;
use std::sync::Arc;

pub use size::Overflow;

/// Result with tidelake's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; decides the wording around the message, not the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text does not parse.
    Syntax,
    /// The statement parses but does not make sense (unknown name, type clash, bad option).
    Validation,
    /// Understood, and not supported.
    Unsupported,
    /// A record or file holds what the declared schema does not allow.
    Data,
    /// A file, broker, catalog or store could not be reached or answered with an error.
    External,
    /// The user stopped it.
    Cancelled,
    /// A defect of tidelake.
    Internal,
}

/// A position in a SQL text, both 1-based, columns counted in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Location {
    /// 1-based line.
    pub line: u64,
    /// 1-based column in characters.
    pub column: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    location: Option<Location>,
    /// Outermost first: "table `orders`", "file x.json line 3".
    context: Vec<String>,
    /// The error of the library below, whose text is in the message.
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    /// Uid of the operator it came from.
    operator: Option<String>,
}

/// An error with its place, cause and way out. Boxed so that `Result` stays small.
#[derive(Debug)]
pub struct Error(Box<Inner>);

impl Error {
    /// A new error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            location: None,
            context: Vec::new(),
            source: None,
            operator: None,
        }))
    }

    /// The text does not parse.
    pub fn syntax(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Syntax, message)
    }

    /// Unknown name, type clash, bad option.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Validation, message)
    }

    /// Understood, and not supported.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A record or file that breaks the declared schema.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// A file, broker, catalog or store that fails.
    pub fn external(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::External, message)
    }

    /// A defect of tidelake.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The user stopped it.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Sets the SQL position, unless one nearer to the cause is known already.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        if self.0.location.is_none() && location.line > 0 {
            self.0.location = Some(location);
        }
        self
    }

    /// Adds an outer culprit, e.g. ``table `orders` `` or `partition 3 offset 17`.
    #[must_use]
    pub fn context(mut self, culprit: impl Into<String>) -> Self {
        self.0.context.insert(0, culprit.into());
        self
    }

    /// Keeps the error of a library that caused it, for [`std::error::Error::source`].
    #[must_use]
    pub fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(cause));
        self
    }

    /// Names the operator it came from, unless one nearer to the cause is known already.
    #[must_use]
    pub fn in_operator(mut self, uid: &str) -> Self {
        self.0.operator.get_or_insert_with(|| uid.to_owned());
        self
    }

    /// Uid of the operator it came from, as EXPLAIN prints it.
    pub fn operator_uid(&self) -> Option<&str> {
        self.0.operator.as_deref()
    }

    /// Whether the same work may succeed at another time: something outside could not be reached or failed. Data,
    /// statements and defects stay as they are.
    pub fn is_retryable(&self) -> bool {
        self.0.kind == ErrorKind::External
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What went wrong, with its culprits but without position and hint.
    pub fn message(&self) -> String {
        let mut s = String::new();
        for c in &self.0.context {
            s.push_str(c);
            s.push_str(": ");
        }
        s.push_str(&self.0.message);
        s
    }

    /// The way out, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The SQL position, if it is known.
    pub fn location(&self) -> Option<Location> {
        self.0.location
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(l) = self.0.location {
            write!(f, "{l}: ")?;
        }
        f.write_str(&self.message())?;
        if let Some(h) = &self.0.hint {
            write!(f, "; {h}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

/// Adds a culprit to the error of a result.
pub trait ResultExt<T> {
    /// Adds an outer culprit, built only when there is an error.
    fn context<S: Into<String>>(self, culprit: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, culprit: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.into().context(culprit()))
    }
}

impl From<datafusion::error::DataFusionError> for Error {
    fn from(e: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError as D;
        match e {
            D::External(inner) => match inner.downcast::<Error>() {
                Ok(own) => *own,
                Err(other) => Error::external(other.to_string()),
            },
            D::Context(text, inner) => {
                let inner: Error = (*inner).into();
                if inner.kind() == ErrorKind::Internal { inner.context(text) } else { inner }
            }
            D::Diagnostic(diagnostic, inner) => {
                let e: Error = (*inner).into();
                match diagnostic.span {
                    Some(span) => e.at(Location { line: span.start.line, column: span.start.column }),
                    None => e,
                }
            }
            D::Shared(inner) => shared(&inner),
            D::SchemaError(e, _) => {
                use datafusion::common::SchemaError as S;
                let span = match &*e {
                    S::FieldNotFound { field, .. } | S::AmbiguousReference { field } => field.spans().first(),
                    S::DuplicateQualifiedField { .. } | S::DuplicateUnqualifiedField { .. } => None,
                };
                let error = Error::validation(e.to_string());
                match span {
                    Some(span) => error.at(Location { line: span.start.line, column: span.start.column }),
                    None => error,
                }
            }
            D::Collection(mut all) if !all.is_empty() => all.swap_remove(0).into(),
            D::ArrowError(e, _) => (*e).into(),
            other => {
                let (kind, message) = (kind_of(&other), other.message().into_owned());
                Error::new(kind, message).caused_by(other)
            }
        }
    }
}

/// An error that others have, too.
fn shared(e: &datafusion::error::DataFusionError) -> Error {
    use datafusion::error::DataFusionError as D;
    match e {
        D::Shared(inner) => shared(inner),
        D::Context(_, inner) => shared(inner),
        D::External(inner) => match inner.downcast_ref::<Error>() {
            Some(own) => own.duplicate(),
            None => Error::external(inner.to_string()),
        },
        D::ArrowError(inner, _) => match &**inner {
            arrow::error::ArrowError::OffsetOverflowError(length) => Error::batch_overflow(Some(*length)),
            _ => Error::new(kind_of(e), e.strip_backtrace()),
        },
        other => Error::new(kind_of(other), other.strip_backtrace()),
    }
}

fn kind_of(e: &datafusion::error::DataFusionError) -> ErrorKind {
    use datafusion::error::DataFusionError as D;
    match e {
        D::SQL(..) => ErrorKind::Syntax,
        D::Plan(_) | D::SchemaError(..) | D::Configuration(_) => ErrorKind::Validation,
        D::NotImplemented(_) => ErrorKind::Unsupported,
        D::Execution(_) | D::ArrowError(..) | D::ParquetError(_) => ErrorKind::Data,
        D::IoError(_) | D::ObjectStore(_) | D::External(_) | D::ResourcesExhausted(_) => ErrorKind::External,
        _ => ErrorKind::Internal,
    }
}

impl Error {
    /// A copy, for the places where one failure has to be told to several tasks.
    pub fn duplicate(&self) -> Self {
        Error(Box::new(Inner {
            kind: self.0.kind,
            message: self.0.message.clone(),
            hint: self.0.hint.clone(),
            location: self.0.location,
            context: self.0.context.clone(),
            source: self.0.source.clone(),
            operator: self.0.operator.clone(),
        }))
    }
}

impl From<Error> for datafusion::error::DataFusionError {
    fn from(e: Error) -> Self {
        datafusion::error::DataFusionError::External(Box::new(e))
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError as A;
        match e {
            A::ExternalError(inner) => match inner.downcast::<Error>() {
                Ok(own) => *own,
                Err(other) => Error::external(other.to_string()),
            },
            A::DivideByZero => Error::data("division by zero"),
            // Rows of keys, which GROUP BY, DISTINCT, joins and ORDER BY compare.
            A::NotYetImplemented(m) if m.starts_with("Row format support") => {
                Error::unsupported("MAP and MULTISET cannot be grouped, joined, sorted or made distinct by")
                    .hint("CAST them to STRING, or use MAP_KEYS and MAP_VALUES")
            }
            A::ComputeError(m) | A::CastError(m) | A::ParseError(m) | A::JsonError(m) | A::CsvError(m) => {
                Error::data(m)
            }
            A::OffsetOverflowError(length) => Error::batch_overflow(Some(length)),
            other => Error::data(other.to_string()).caused_by(other),
        }
    }
}

impl From<Error> for arrow::error::ArrowError {
    fn from(e: Error) -> Self {
        arrow::error::ArrowError::ExternalError(Box::new(e))
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Error::external(e.to_string()).caused_by(e)
    }
}

impl From<object_store::Error> for Error {
    fn from(e: object_store::Error) -> Self {
        Error::external(e.to_string()).caused_by(e)
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(e: parquet::errors::ParquetError) -> Self {
        Error::data(e.to_string()).caused_by(e)
    }
}

impl Error {
    /// The error that a caught panic is.
    pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        Error::internal(format!("a task panicked: {}", panic_text(panic).unwrap_or("without a word")))
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> Option<&str> {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str))
}

impl From<tokio::task::JoinError> for Error {
    fn from(e: tokio::task::JoinError) -> Self {
        if e.is_cancelled() {
            Error::cancelled()
        } else {
            Error::internal(format!("a task panicked: {e}")).caused_by(e)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_stays_and_tells_whether_to_try_again() {
        let io = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset");
        let error = Error::from(io).context("file a").in_operator("join-1").in_operator("sink-2");
        let cause = std::error::Error::source(&error).unwrap();
        assert_eq!(
            cause.downcast_ref::<std::io::Error>().unwrap().kind(),
            std::io::ErrorKind::ConnectionReset
        );
        assert_eq!(error.operator_uid(), Some("join-1"));
        assert!(error.is_retryable());
        assert!(std::error::Error::source(&error.duplicate()).is_some());
        assert!(!Error::data("bad").is_retryable());
    }
}
