//! What a function takes and gives, and which arguments it accepts.

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use chrono_tz::Tz;
use datafusion::logical_expr::Volatility;

use crate::error::{Error, Location, Result};
use crate::functions::cast::{Mode, cast_array};
use crate::functions::signature::call_text;
use crate::sql::ast::{FunctionLanguage, Parameter, Returns};
use crate::types::{LogicalType, RowField, TypeRoot, sql_name};

/// Name, parameters and result of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// Its last name part as it was written.
    pub name: String,
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
    /// What it gives.
    pub returns: Returns,
    /// Immutable or volatile.
    pub volatility: Volatility,
    /// NULL, or no row, where an argument is NULL.
    pub strict: bool,
    /// What it is written in; `None` for Rust.
    pub language: Option<FunctionLanguage>,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}) RETURNS ", self.name, super::list(&self.parameters))?;
        match &self.returns {
            Returns::Value(ty, _) => write!(f, "{ty}"),
            Returns::Table(columns) => write!(f, "TABLE ({})", super::list(columns)),
        }
    }
}

impl Signature {
    /// Refuses types that values cannot be held to.
    ///
    /// # Errors
    /// Unsupported, with the place of the parameter.
    pub(super) fn check(&self) -> Result<()> {
        for p in &self.parameters {
            check_type(&p.ty, p.location)?;
        }
        match &self.returns {
            // An expression is cast to what is declared.
            Returns::Value(ty, at) if self.language == Some(FunctionLanguage::Sql) => check_kind(ty, *at),
            Returns::Value(ty, at) => check_type(ty, *at),
            Returns::Table(columns) => columns.iter().try_for_each(|c| check_type(&c.ty, c.location)),
        }
    }

    /// Whether the same arguments give the same result.
    pub fn deterministic(&self) -> bool {
        self.volatility != Volatility::Volatile
    }

    /// Arrow type of the result: of a table function an array of rows.
    pub(crate) fn result(&self) -> DataType {
        match &self.returns {
            Returns::Value(ty, _) => ty.to_arrow(),
            Returns::Table(columns) => {
                let fields: Fields = columns.iter().map(|c| c.ty.to_field(&c.name)).collect();
                DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields), false)))
            }
        }
    }

    /// Whether the result can be NULL, by what is declared.
    pub(crate) fn result_is_nullable(&self) -> bool {
        match &self.returns {
            Returns::Value(ty, _) => ty.nullable || self.strict,
            Returns::Table(_) => self.strict,
        }
    }

    /// Refuses a call with arguments that the parameters do not take.
    ///
    /// # Errors
    /// Validation, with the signature.
    pub(crate) fn accept(&self, args: &[FieldRef]) -> Result<()> {
        let types: Vec<DataType> = args.iter().map(|f| f.data_type().clone()).collect();
        let fits = types.len() == self.parameters.len()
            && types.iter().zip(&self.parameters).all(|(t, p)| check_types(t, &p.ty.to_arrow()));
        if !fits {
            let call = call_text(&self.name.to_uppercase(), &types);
            return Err(Error::validation(format!("cannot apply {} to arguments of type {call}", self.name))
                .hint(format!(
                    "its parameters are {}({}); CAST the arguments",
                    self.name,
                    super::list(&self.parameters)
                )));
        }
        for (arg, parameter) in args.iter().zip(&self.parameters) {
            if !parameter.ty.nullable && arg.is_nullable() {
                return Err(Error::validation(format!(
                    "the argument {} of {} is declared NOT NULL and could be NULL here",
                    parameter.name, self.name
                ))
                .hint("write COALESCE(value, …), or declare the parameter without NOT NULL"));
            }
        }
        Ok(())
    }

    /// Arguments in the types of the parameters.
    ///
    /// # Errors
    /// Internal for arguments that [`Signature::accept`] refuses.
    pub(crate) fn arguments(&self, args: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let mode = Mode { lenient: false, zone: Tz::UTC };
        args.iter().zip(&self.parameters).map(|(a, p)| cast_array(a, &p.ty.to_arrow(), mode)).collect()
    }

    /// How it is called.
    pub fn call(&self) -> String {
        format!("{}({})", self.name, super::list(&self.parameters))
    }
}

/// Types without a form in scripts.
fn check_kind(ty: &LogicalType, at: Location) -> Result<()> {
    let arrow = ty.to_arrow();
    if crate::types::is_variant(&arrow)
        || crate::types::is_bitmap(&arrow)
        || matches!(arrow, DataType::Interval(_))
    {
        return Err(Error::unsupported(format!("{ty} as a type of a function is not supported")).at(at));
    }
    Ok(())
}

/// What Arrow's type keeps of a type.
pub(super) fn kept(ty: &LogicalType) -> Result<LogicalType> {
    LogicalType::from_arrow(&ty.to_arrow(), ty.nullable)
}

/// Whether values of Arrow's type are all that the type has.
pub(super) fn is_held(ty: &LogicalType) -> Result<bool> {
    Ok(kept(ty)? == plain(ty))
}

/// Types whose values no check at run time would hold to what is declared, too.
fn check_type(ty: &LogicalType, at: Location) -> Result<()> {
    check_kind(ty, at)?;
    if !is_held(ty)? {
        let kept = kept(ty)?;
        return Err(Error::unsupported(format!("{ty} as a type of a function is not supported"))
            .at(at)
            .hint(format!("declare it as {kept}, and CAST where the value is used")));
    }
    Ok(())
}

/// The type without what says nothing of its values: comments, and that keys of maps could be NULL.
fn plain(ty: &LogicalType) -> LogicalType {
    let root = match &ty.root {
        TypeRoot::Array(item) => TypeRoot::Array(Box::new(plain(item))),
        TypeRoot::Map(key, value) => {
            let key = LogicalType { nullable: false, ..plain(key) };
            TypeRoot::Map(Box::new(key), Box::new(plain(value)))
        }
        TypeRoot::Row(fields) => TypeRoot::Row(
            fields
                .iter()
                .map(|f| RowField { name: f.name.clone(), ty: plain(&f.ty), comment: None })
                .collect(),
        ),
        other => other.clone(),
    };
    LogicalType { root, nullable: ty.nullable }
}

/// Whether a value of the type `from` is taken for one of the type `to` without a CAST, as in Flink: where nothing of it
/// can be lost.
pub fn check_types(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    let rank = |t: &D| match t {
        D::Int8 => Some(1),
        D::Int16 => Some(2),
        D::Int32 => Some(3),
        D::Int64 => Some(4),
        D::Float32 => Some(6),
        D::Float64 => Some(7),
        _ => None,
    };
    let digits = |t: &D| match t {
        D::Int8 => Some(3),
        D::Int16 => Some(5),
        D::Int32 => Some(10),
        D::Int64 => Some(19),
        _ => None,
    };
    if from == to || *from == D::Null {
        return true;
    }
    match (from, to) {
        (D::Utf8 | D::LargeUtf8 | D::Utf8View, D::Utf8) => true,
        (D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_), D::Binary) => true,
        (D::Decimal128(p, s), D::Decimal128(q, r)) => {
            s <= r && i16::from(*p) - i16::from(*s) <= i16::from(*q) - i16::from(*r)
        }
        (D::Decimal128(..), D::Float32 | D::Float64) => true,
        (_, D::Decimal128(p, s)) => digits(from).is_some_and(|d| d <= i16::from(*p) - i16::from(*s)),
        (D::Timestamp(a, None), D::Timestamp(b, None)) => a <= b,
        (D::Timestamp(a, Some(_)), D::Timestamp(b, Some(_))) => a <= b,
        (D::Date32, D::Timestamp(_, None)) => true,
        (D::List(a), D::List(b)) => check_types(a.data_type(), b.data_type()),
        (D::Struct(a), D::Struct(b)) => {
            !crate::types::is_variant(from)
                && !crate::types::is_bitmap(from)
                && a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| check_types(a.data_type(), b.data_type()))
        }
        (D::Map(a, _), D::Map(b, _)) => check_types(a.data_type(), b.data_type()),
        _ => match (rank(from), rank(to)) {
            (Some(from), Some(to)) => from < to,
            _ => false,
        },
    }
}

/// A short text of the values of a row, for messages.
pub(super) fn shown(args: &[ArrayRef], row: usize) -> String {
    let mut out = String::new();
    for (i, a) in args.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        let value = if a.is_null(row) {
            "NULL".to_owned()
        } else {
            crate::functions::cast::text::printer(a, Tz::UTC).map_or_else(
                |_| sql_name(a.data_type()),
                |print| {
                    let mut text = String::new();
                    print(row, &mut text);
                    text
                },
            )
        };
        let short: String = value.chars().take(40).collect();
        let cut = short.len() < value.len();
        let quoted = matches!(a.data_type(), DataType::Utf8) && !a.is_null(row);
        out.push_str(&if quoted { format!("'{short}{}'", if cut { "…" } else { "" }) } else { short });
    }
    out
}
