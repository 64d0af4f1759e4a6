//! SQL types inside expressions (`CAST(x AS …)`) to Arrow types, by the mapping of [`crate::types`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, ObjectName, TimezoneInfo,
};

use crate::error::{Error, Result};
use crate::types::timestamp_unit;

/// Plans SQL types the way Flink reads them.
#[derive(Debug, Default, Clone, Copy)]
pub struct FlinkTypePlanner;

impl TypePlanner for FlinkTypePlanner {
    fn plan_type(&self, sql_type: &SqlType) -> DfResult<Option<DataType>> {
        Ok(Some(arrow_type(sql_type)?))
    }
}

/// The planner of types for [`datafusion::logical_expr::planner::ContextProvider::get_type_planner`].
pub fn type_planner() -> Arc<dyn TypePlanner> {
    Arc::new(FlinkTypePlanner)
}

/// The Arrow type of a SQL type.
///
/// # Errors
/// Unsupported or unknown types, precisions out of range.
pub fn arrow_type(t: &SqlType) -> Result<DataType> {
    use SqlType as S;
    Ok(match t {
        S::Character(_)
        | S::Char(_)
        | S::CharacterVarying(_)
        | S::CharVarying(_)
        | S::Varchar(_)
        | S::String(_)
        | S::Text => DataType::Utf8,
        S::Binary(_) | S::Varbinary(_) | S::Bytes(_) => DataType::Binary,
        S::Boolean | S::Bool => DataType::Boolean,
        S::TinyInt(None) => DataType::Int8,
        S::SmallInt(None) => DataType::Int16,
        S::Int(None) | S::Integer(None) => DataType::Int32,
        S::BigInt(None) => DataType::Int64,
        S::Float(ExactNumberInfo::None) => DataType::Float32,
        S::Real => DataType::Float32,
        S::Double(ExactNumberInfo::None) | S::DoublePrecision => DataType::Float64,
        S::Decimal(i) | S::Dec(i) | S::Numeric(i) => decimal(i)?,
        S::Date => DataType::Date32,
        S::Time(p, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            precision(*p, 0)?;
            DataType::Time32(TimeUnit::Millisecond)
        }
        S::Timestamp(p, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) | S::TimestampNtz(p) => {
            DataType::Timestamp(timestamp_unit(precision(*p, 6)?), None)
        }
        S::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        S::Array(
            ArrayElemTypeDef::AngleBracket(e)
            | ArrayElemTypeDef::Parenthesis(e)
            | ArrayElemTypeDef::SquareBracket(e, None),
        ) => DataType::List(Arc::new(Field::new("item", arrow_type(e)?, true))),
        S::Map(k, v) => map(arrow_type(k)?, arrow_type(v)?),
        S::Struct(fields, _) | S::Tuple(fields) => {
            let mut out = Vec::with_capacity(fields.len());
            for (i, f) in fields.iter().enumerate() {
                let name = f.field_name.as_ref().map_or_else(|| format!("f{i}"), |n| n.value.clone());
                out.push(Field::new(name, arrow_type(&f.field_type)?, true));
            }
            DataType::Struct(Fields::from(out))
        }
        S::Custom(name, modifiers) => custom(t, name, modifiers)?,
        other => {
            return Err(Error::unsupported(format!("the type {other} is not supported")).hint(
                "supported are CHAR, VARCHAR, STRING, BINARY, VARBINARY, BYTES, BOOLEAN, DECIMAL, TINYINT, \
                 SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DATE, TIME, TIMESTAMP, TIMESTAMP_LTZ, INTERVAL, ARRAY, \
                 MAP, MULTISET, ROW",
            ));
        }
    })
}

fn map(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

fn precision(p: Option<u64>, default: u8) -> Result<u8> {
    match p {
        None => Ok(default),
        Some(p) if p <= 9 => Ok(p as u8),
        Some(p) => Err(Error::validation(format!("the precision {p} is out of range"))
            .hint("it can be 0 to 9 fraction digits")),
    }
}

fn decimal(info: &ExactNumberInfo) -> Result<DataType> {
    let (p, s) = match info {
        ExactNumberInfo::None => (10, 0),
        ExactNumberInfo::Precision(p) => (*p, 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => (*p, *s),
    };
    if !(1..=38).contains(&p) || s < 0 || s as u64 > p {
        return Err(Error::validation(format!("DECIMAL({p}, {s}) is out of range"))
            .hint("the precision can be 1 to 38, the scale 0 to the precision"));
    }
    Ok(DataType::Decimal128(p as u8, s as i8))
}

fn custom(t: &SqlType, name: &ObjectName, modifiers: &[String]) -> Result<DataType> {
    if let Some(ty) = crate::sql::cast_type(t) {
        return Ok(ty?.to_arrow());
    }
    let parts: Vec<String> = name.0.iter().map(|p| p.to_string().replace('`', "")).collect();
    let mut text = parts.join(".");
    if !modifiers.is_empty() {
        text = format!("{text}({})", modifiers.join(", "));
    }
    Ok(crate::sql::parse_type(&text)?.to_arrow())
}
