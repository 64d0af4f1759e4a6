//! The columns of an Avro schema.

use super::schema::{AvroSchema, Logical, Record, Shape, TypeId};
use crate::error::{Error, Result};
use crate::formats::schema_columns::{SchemaColumn, SchemaColumns};
use crate::types::{LogicalType, MAX_LENGTH, RowField, TypeRoot};

/// The columns of records of a schema; one that is no record is the column `value`.
///
/// # Errors
/// Unsupported for a schema that contains itself.
pub(crate) fn columns(schema: &AvroSchema) -> Result<SchemaColumns> {
    let mut walk = Walk { schema, open: Vec::new(), left_out: Vec::new() };
    let record = match schema.shape(schema.root) {
        Shape::Record(r) => Some((schema.root, r)),
        // A record that may be NULL as a whole is none then.
        Shape::Union(branches) => {
            let mut others = branches.iter().filter(|b| !matches!(schema.shape(**b), Shape::Null));
            match (others.next(), others.next()) {
                (Some(one), None) => match schema.shape(*one) {
                    Shape::Record(r) => Some((*one, r)),
                    _ => None,
                },
                _ => None,
            }
        }
        _ => None,
    };
    let columns = match record {
        Some((id, record)) => walk.fields(id, record, "")?,
        None => {
            walk.ty(schema.root, "value")?.map(|ty| vec![("value".to_owned(), ty, None)]).unwrap_or_default()
        }
    };
    let aliases = |name: &str| {
        let field = record.and_then(|(_, r)| r.fields.iter().find(|f| f.name == name));
        field.map(|f| f.aliases.clone()).unwrap_or_default()
    };
    let column = |(name, ty, comment): Found| {
        let aliases = aliases(&name);
        SchemaColumn { name, ty, comment, number: None, aliases }
    };
    let columns = columns.into_iter().map(column).collect();
    Ok(SchemaColumns { columns, left_out: walk.left_out })
}

type Found = (String, LogicalType, Option<String>);

struct Walk<'a> {
    schema: &'a AvroSchema,
    /// Records around.
    open: Vec<TypeId>,
    left_out: Vec<String>,
}

impl Walk<'_> {
    fn fields(&mut self, id: TypeId, record: &Record, place: &str) -> Result<Vec<Found>> {
        if self.open.contains(&id) {
            return Err(Error::unsupported(format!("the record {} contains itself", record.name)).hint(
                "a table has no recursive types; read the topic with 'format' = 'raw', or change the schema",
            ));
        }
        self.open.push(id);
        let mut all = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let at = if place.is_empty() { field.name.clone() } else { format!("{place}.{}", field.name) };
            if let Some(ty) = self.ty(field.ty, &at).map_err(|e| e.context(format!("field '{at}'")))? {
                all.push((field.name.clone(), ty, field.doc.clone()));
            }
        }
        self.open.pop();
        Ok(all)
    }

    /// The type of a value at `place`; `None` if it can only be NULL or has no parts.
    fn ty(&mut self, id: TypeId, place: &str) -> Result<Option<LogicalType>> {
        let logical = self.schema.logical(id);
        let root = match self.schema.shape(id) {
            Shape::Null => {
                self.left_out.push(place.to_owned());
                return Ok(None);
            }
            Shape::Boolean => TypeRoot::Boolean,
            Shape::Int => match logical {
                Some(Logical::Date) => TypeRoot::Date,
                Some(Logical::TimeMillis) => TypeRoot::Time(3),
                _ => TypeRoot::Int,
            },
            Shape::Long => match logical {
                Some(Logical::TimeMicros) => TypeRoot::Time(3),
                Some(Logical::TimestampMillis) => TypeRoot::TimestampLtz(3),
                Some(Logical::TimestampMicros) => TypeRoot::TimestampLtz(6),
                Some(Logical::TimestampNanos) => TypeRoot::TimestampLtz(9),
                Some(Logical::LocalTimestampMillis) => TypeRoot::Timestamp(3),
                Some(Logical::LocalTimestampMicros) => TypeRoot::Timestamp(6),
                Some(Logical::LocalTimestampNanos) => TypeRoot::Timestamp(9),
                _ => TypeRoot::BigInt,
            },
            Shape::Float => TypeRoot::Float,
            Shape::Double => TypeRoot::Double,
            Shape::Bytes => decimal(logical).unwrap_or(TypeRoot::Varbinary(MAX_LENGTH)),
            Shape::Fixed { size, .. } => match (decimal(logical), logical) {
                (Some(decimal), _) => decimal,
                (None, Some(Logical::Uuid)) => TypeRoot::Varchar(MAX_LENGTH),
                _ => TypeRoot::Binary(u32::try_from((*size).max(1)).unwrap_or(MAX_LENGTH)),
            },
            Shape::String | Shape::Enum(_) => TypeRoot::Varchar(MAX_LENGTH),
            Shape::Array(item) => match self.ty(*item, &format!("{place}[]"))? {
                Some(item) => TypeRoot::Array(Box::new(item)),
                None => return Ok(None),
            },
            Shape::Map(value) => match self.ty(*value, &format!("{place}{{}}"))? {
                Some(value) => {
                    let key = LogicalType::not_null(TypeRoot::Varchar(MAX_LENGTH));
                    TypeRoot::Map(Box::new(key), Box::new(value))
                }
                None => return Ok(None),
            },
            Shape::Record(record) => {
                let fields = self.fields(id, record, place)?;
                if fields.is_empty() {
                    self.left_out.push(place.to_owned());
                    return Ok(None);
                }
                let field = |(name, ty, comment)| RowField { name, ty, comment };
                TypeRoot::Row(fields.into_iter().map(field).collect())
            }
            Shape::Union(branches) => return self.union(branches, place),
        };
        Ok(Some(LogicalType::not_null(root)))
    }

    /// One branch beside `null` is that branch; several are a row with a field for each, of which one is not NULL.
    fn union(&mut self, branches: &[TypeId], place: &str) -> Result<Option<LogicalType>> {
        let null = |id: &TypeId| matches!(self.schema.shape(*id), Shape::Null);
        let nullable = branches.iter().any(null);
        let names = self.schema.member_names(branches);
        let others: Vec<(TypeId, String)> =
            branches.iter().copied().zip(names).filter(|(id, _)| !null(id)).collect();
        match others.as_slice() {
            [] => {
                self.left_out.push(place.to_owned());
                Ok(None)
            }
            [(one, _)] => {
                Ok(self.ty(*one, place)?.map(|ty| LogicalType { nullable: nullable || ty.nullable, ..ty }))
            }
            several => {
                let mut fields = Vec::with_capacity(several.len());
                for (id, name) in several {
                    let Some(ty) = self.ty(*id, &format!("{place}.{name}"))? else {
                        return Err(Error::unsupported(format!(
                            "the branch {name} of a union has no fields"
                        ))
                        .hint("a column needs at least one field"));
                    };
                    let ty = LogicalType { nullable: true, ..ty };
                    fields.push(RowField { name: name.clone(), ty, comment: None });
                }
                Ok(Some(LogicalType { root: TypeRoot::Row(fields), nullable }))
            }
        }
    }
}

/// The type of a decimal that SQL can hold.
fn decimal(logical: Option<Logical>) -> Option<TypeRoot> {
    match logical {
        Some(Logical::Decimal(precision @ 1..=38, scale)) => Some(TypeRoot::Decimal(precision, scale)),
        _ => None,
    }
}
