//! Flink's SQL types and their Arrow representation.
//!
//! | SQL | Arrow |
//! |---|---|
//! | CHAR(n), VARCHAR(n), STRING | Utf8 |
//! | BINARY(n), VARBINARY(n), BYTES | Binary |
//! | BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE | Boolean, Int8, Int16, Int32, Int64, Float32, Float64 |
//! | DECIMAL(p, s) | Decimal128(p, s) |
//! | DATE, TIME(p) | Date32, Time32(ms) |
//! | TIMESTAMP(p) | Timestamp(ms for p ≤ 3, µs for p ≤ 6, else ns), no zone: a wall clock |
//! | TIMESTAMP_LTZ(p) | Timestamp(unit as above, "UTC"): an instant, shown in the session zone |
//! | INTERVAL YEAR TO MONTH, INTERVAL DAY TO SECOND | Interval(YearMonth), Interval(MonthDayNano) |
//! | `ARRAY<t>`, `MAP<k, v>`, `MULTISET<t>`, `ROW<…>` | List, Map, `Map<t, Int32>`, Struct |
//! | VARIANT, BITMAP | Struct of one field that no ROW has: the JSON text; the bytes of the bitmap |

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};

use crate::error::{Error, Result};

/// A SQL type with its nullability.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogicalType {
    /// The type without nullability.
    pub root: TypeRoot,
    /// False for `NOT NULL`.
    pub nullable: bool,
}

/// What a time attribute says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeAttribute {
    /// When something happened: a column with a watermark.
    Row,
    /// When a row is handled: `PROCTIME()`.
    Processing,
}

/// A field of a ROW type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowField {
    /// Field name, case kept.
    pub name: String,
    /// Field type.
    pub ty: LogicalType,
    /// The field's comment.
    pub comment: Option<String>,
}

/// A SQL type without nullability. Precisions are as declared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TypeRoot {
    /// `CHAR(n)`, n in code points.
    Char(u32),
    /// `VARCHAR(n)`; `STRING` is `VARCHAR(2147483647)`.
    Varchar(u32),
    /// `BINARY(n)`.
    Binary(u32),
    /// `VARBINARY(n)`; `BYTES` is `VARBINARY(2147483647)`.
    Varbinary(u32),
    /// `BOOLEAN`.
    Boolean,
    /// `DECIMAL(p, s)`, 1 ≤ p ≤ 38.
    Decimal(u8, u8),
    /// 8-bit signed.
    TinyInt,
    /// 16-bit signed.
    SmallInt,
    /// 32-bit signed.
    Int,
    /// 64-bit signed.
    BigInt,
    /// IEEE 32 bit.
    Float,
    /// IEEE 64 bit.
    Double,
    /// Days.
    Date,
    /// `TIME(p)`.
    Time(u8),
    /// `TIMESTAMP(p)`, a wall clock without zone.
    Timestamp(u8),
    /// `TIMESTAMP_LTZ(p)`, an instant.
    TimestampLtz(u8),
    /// Month family.
    IntervalYearMonth,
    /// Day-second family.
    IntervalDayTime,
    /// `ARRAY<t>`.
    Array(Box<LogicalType>),
    /// `MULTISET<t>`.
    Multiset(Box<LogicalType>),
    /// `MAP<k, v>`.
    Map(Box<LogicalType>, Box<LogicalType>),
    /// `ROW<…>`.
    Row(Vec<RowField>),
    /// `VARIANT`: a JSON value.
    Variant,
    /// `BITMAP`: a set of 32-bit integers.
    Bitmap,
    /// The type of a bare `NULL`.
    Null,
}

/// Length of `STRING` and `BYTES`.
pub const MAX_LENGTH: u32 = i32::MAX as u32;

impl LogicalType {
    /// A nullable type.
    pub fn nullable(root: TypeRoot) -> Self {
        LogicalType { root, nullable: true }
    }

    /// A `NOT NULL` type.
    pub fn not_null(root: TypeRoot) -> Self {
        LogicalType { root, nullable: false }
    }

    /// Nullable `STRING`.
    pub fn string() -> Self {
        Self::nullable(TypeRoot::Varchar(MAX_LENGTH))
    }

    /// The Arrow type that carries it.
    pub fn to_arrow(&self) -> DataType {
        match &self.root {
            TypeRoot::Char(_) | TypeRoot::Varchar(_) => DataType::Utf8,
            TypeRoot::Binary(_) | TypeRoot::Varbinary(_) => DataType::Binary,
            TypeRoot::Boolean => DataType::Boolean,
            TypeRoot::Decimal(p, s) => DataType::Decimal128(*p, *s as i8),
            TypeRoot::TinyInt => DataType::Int8,
            TypeRoot::SmallInt => DataType::Int16,
            TypeRoot::Int => DataType::Int32,
            TypeRoot::BigInt => DataType::Int64,
            TypeRoot::Float => DataType::Float32,
            TypeRoot::Double => DataType::Float64,
            TypeRoot::Date => DataType::Date32,
            TypeRoot::Time(_) => DataType::Time32(TimeUnit::Millisecond),
            TypeRoot::Timestamp(p) => DataType::Timestamp(timestamp_unit(*p), None),
            TypeRoot::TimestampLtz(p) => DataType::Timestamp(timestamp_unit(*p), Some("UTC".into())),
            TypeRoot::IntervalYearMonth => DataType::Interval(IntervalUnit::YearMonth),
            TypeRoot::IntervalDayTime => DataType::Interval(IntervalUnit::MonthDayNano),
            TypeRoot::Array(t) => DataType::List(Arc::new(t.to_field("item"))),
            TypeRoot::Multiset(t) => map_type(t, &LogicalType::not_null(TypeRoot::Int)),
            TypeRoot::Map(k, v) => map_type(k, v),
            TypeRoot::Row(fields) => DataType::Struct(Fields::from(
                fields.iter().map(|f| f.ty.to_field(&f.name)).collect::<Vec<Field>>(),
            )),
            TypeRoot::Variant => variant_type(),
            TypeRoot::Bitmap => bitmap_type(),
            TypeRoot::Null => DataType::Null,
        }
    }

    /// An Arrow field of that name, type and nullability.
    pub fn to_field(&self, name: &str) -> Field {
        Field::new(name, self.to_arrow(), self.nullable)
    }

    /// The SQL type that an Arrow type stands for; used for `AS SELECT`, DESCRIBE and tables found in catalogs.
    ///
    /// # Errors
    /// Unsupported for Arrow types without a SQL counterpart.
    pub fn from_arrow(ty: &DataType, nullable: bool) -> Result<Self> {
        let root = match ty {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => TypeRoot::Varchar(MAX_LENGTH),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                TypeRoot::Varbinary(MAX_LENGTH)
            }
            DataType::FixedSizeBinary(n) => TypeRoot::Binary(u32::try_from(*n).unwrap_or(1)),
            DataType::Boolean => TypeRoot::Boolean,
            DataType::Int8 => TypeRoot::TinyInt,
            DataType::Int16 | DataType::UInt8 => TypeRoot::SmallInt,
            DataType::Int32 | DataType::UInt16 => TypeRoot::Int,
            DataType::Int64 | DataType::UInt32 => TypeRoot::BigInt,
            DataType::UInt64 => TypeRoot::Decimal(20, 0),
            DataType::Float16 | DataType::Float32 => TypeRoot::Float,
            DataType::Float64 => TypeRoot::Double,
            DataType::Decimal32(p, s)
            | DataType::Decimal64(p, s)
            | DataType::Decimal128(p, s)
            | DataType::Decimal256(p, s)
                if *s >= 0 && *p <= 38 =>
            {
                TypeRoot::Decimal(*p, *s as u8)
            }
            DataType::Date32 | DataType::Date64 => TypeRoot::Date,
            DataType::Time32(TimeUnit::Second) => TypeRoot::Time(0),
            DataType::Time32(_) | DataType::Time64(_) => TypeRoot::Time(3),
            DataType::Timestamp(unit, None) => TypeRoot::Timestamp(timestamp_precision(*unit)),
            DataType::Timestamp(unit, Some(_)) => TypeRoot::TimestampLtz(timestamp_precision(*unit)),
            DataType::Interval(IntervalUnit::YearMonth) => TypeRoot::IntervalYearMonth,
            DataType::Interval(_) | DataType::Duration(_) => TypeRoot::IntervalDayTime,
            DataType::List(f)
            | DataType::LargeList(f)
            | DataType::FixedSizeList(f, _)
            | DataType::ListView(f) => TypeRoot::Array(Box::new(Self::from_field(f)?)),
            DataType::Map(entries, _) => {
                let entry = match entries.data_type() {
                    DataType::Struct(fields) => fields.as_ref(),
                    _ => &[],
                };
                let [key, value] = entry else {
                    return Err(Error::unsupported(format!("the Arrow type {ty} has no SQL type")));
                };
                TypeRoot::Map(Box::new(Self::from_field(key)?), Box::new(Self::from_field(value)?))
            }
            ty if is_variant(ty) => TypeRoot::Variant,
            ty if is_bitmap(ty) => TypeRoot::Bitmap,
            DataType::Struct(fields) => TypeRoot::Row(
                fields
                    .iter()
                    .map(|f| Ok(RowField { name: f.name().clone(), ty: Self::from_field(f)?, comment: None }))
                    .collect::<Result<_>>()?,
            ),
            DataType::Dictionary(_, v) => return Self::from_arrow(v, nullable),
            DataType::Null => TypeRoot::Null,
            _ => return Err(Error::unsupported(format!("the Arrow type {ty} has no SQL type"))),
        };
        Ok(LogicalType { root, nullable })
    }

    /// [`LogicalType::from_arrow`] of a field.
    ///
    /// # Errors
    /// See there.
    pub fn from_field(field: &FieldRef) -> Result<Self> {
        Self::from_arrow(field.data_type(), field.is_nullable())
    }
}

/// The field of a VARIANT, and that of a BITMAP: names that no field of a ROW can have.
const VARIANT: &str = "\u{1}variant";
const BITMAP: &str = "\u{1}bitmap";

/// The Arrow type of `VARIANT`.
pub fn variant_type() -> DataType {
    DataType::Struct(Fields::from(vec![Field::new(VARIANT, DataType::Utf8, true)]))
}

/// The Arrow type of `BITMAP`.
pub fn bitmap_type() -> DataType {
    DataType::Struct(Fields::from(vec![Field::new(BITMAP, DataType::Binary, true)]))
}

/// Whether a type is that of `VARIANT`.
pub fn is_variant(ty: &DataType) -> bool {
    has_only_field(ty, VARIANT)
}

/// Whether a type is that of `BITMAP`.
pub fn is_bitmap(ty: &DataType) -> bool {
    has_only_field(ty, BITMAP)
}

fn has_only_field(ty: &DataType, name: &str) -> bool {
    matches!(ty, DataType::Struct(fields) if matches!(fields.iter().as_slice(), [f] if f.name() == name))
}

/// The SQL name of an Arrow type, for messages.
pub fn sql_name(ty: &DataType) -> String {
    LogicalType::from_arrow(ty, true).map_or_else(|_| ty.to_string(), |t| t.to_string())
}

/// Arrow unit that holds `precision` fraction digits.
pub fn timestamp_unit(precision: u8) -> TimeUnit {
    match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

fn timestamp_precision(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

fn map_type(key: &LogicalType, value: &LogicalType) -> DataType {
    // Arrow forbids null keys.
    let entries = Fields::from(vec![Field::new("key", key.to_arrow(), false), value.to_field("value")]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

impl fmt::Display for LogicalType {
    /// As Flink prints it: `STRING`, `DECIMAL(10, 2) NOT NULL`, ``ROW<`a` INT>``; with `#` without short names, as
    /// `VARCHAR(2147483647)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let long = f.alternate();
        match &self.root {
            TypeRoot::Char(n) => write!(f, "CHAR({n})"),
            TypeRoot::Varchar(MAX_LENGTH) if !long => f.write_str("STRING"),
            TypeRoot::Varchar(n) => write!(f, "VARCHAR({n})"),
            TypeRoot::Binary(n) => write!(f, "BINARY({n})"),
            TypeRoot::Varbinary(MAX_LENGTH) if !long => f.write_str("BYTES"),
            TypeRoot::Varbinary(n) => write!(f, "VARBINARY({n})"),
            TypeRoot::Boolean => f.write_str("BOOLEAN"),
            TypeRoot::Decimal(p, s) => write!(f, "DECIMAL({p}, {s})"),
            TypeRoot::TinyInt => f.write_str("TINYINT"),
            TypeRoot::SmallInt => f.write_str("SMALLINT"),
            TypeRoot::Int => f.write_str("INT"),
            TypeRoot::BigInt => f.write_str("BIGINT"),
            TypeRoot::Float => f.write_str("FLOAT"),
            TypeRoot::Double => f.write_str("DOUBLE"),
            TypeRoot::Date => f.write_str("DATE"),
            TypeRoot::Time(p) => write!(f, "TIME({p})"),
            TypeRoot::Timestamp(p) => write!(f, "TIMESTAMP({p})"),
            TypeRoot::TimestampLtz(p) => write!(f, "TIMESTAMP_LTZ({p})"),
            TypeRoot::IntervalYearMonth => f.write_str("INTERVAL MONTH"),
            TypeRoot::IntervalDayTime => f.write_str("INTERVAL SECOND(3)"),
            TypeRoot::Array(t) => within(f, "ARRAY", &[t]),
            TypeRoot::Multiset(t) => within(f, "MULTISET", &[t]),
            TypeRoot::Map(k, v) => within(f, "MAP", &[k, v]),
            TypeRoot::Row(fields) => {
                f.write_str("ROW<")?;
                for (i, field) in fields.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "`{}` ", field.name.replace('`', "``"))?;
                    fmt::Display::fmt(&field.ty, f)?;
                    if let Some(c) = &field.comment {
                        write!(f, " '{}'", c.replace('\'', "''"))?;
                    }
                }
                f.write_str(">")
            }
            TypeRoot::Variant => f.write_str("VARIANT"),
            TypeRoot::Bitmap => f.write_str("BITMAP"),
            TypeRoot::Null => f.write_str("NULL"),
        }?;
        if self.nullable || self.root == TypeRoot::Null { Ok(()) } else { f.write_str(" NOT NULL") }
    }
}

/// A type of other types.
fn within(f: &mut fmt::Formatter<'_>, name: &str, parts: &[&LogicalType]) -> fmt::Result {
    write!(f, "{name}<")?;
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        fmt::Display::fmt(*part, f)?;
    }
    f.write_str(">")
}
