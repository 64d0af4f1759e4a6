//! JSON Schema: of a table's columns, and the columns of one.

use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::formats::schema_columns::{SchemaColumn, SchemaColumns};
use crate::types::{LogicalType, MAX_LENGTH, RowField, TypeRoot, sql_name};

/// How deep schemas may be nested.
const MAX_DEPTH: usize = 64;

/// The schema of the objects that the format `json` writes for rows of `schema`.
pub(crate) fn derive(schema: &Schema) -> Result<String> {
    let mut object = object(schema.fields())?;
    if let Value::Object(object) = &mut object {
        object.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    }
    Ok(object.to_string())
}

/// No other property is allowed, so that registries take a further column for a compatible change.
fn object(fields: &Fields) -> Result<Value> {
    let mut properties = Map::new();
    for field in fields {
        properties.insert(field.name().clone(), nullable(field)?);
    }
    let required: Vec<&str> = fields.iter().filter(|f| !f.is_nullable()).map(|f| f.name().as_str()).collect();
    let mut object = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if let (Value::Object(object), false) = (&mut object, required.is_empty()) {
        object.insert("required".to_owned(), json!(required));
    }
    Ok(object)
}

fn nullable(field: &Field) -> Result<Value> {
    let ty = of_type(field.data_type())?;
    Ok(if field.is_nullable() { json!({"oneOf": [{"type": "null"}, ty]}) } else { ty })
}

fn of_type(ty: &DataType) -> Result<Value> {
    Ok(match ty {
        DataType::Null => json!({"type": "null"}),
        DataType::Boolean => json!({"type": "boolean"}),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => json!({"type": "integer"}),
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => json!({"type": "number"}),
        DataType::Binary => json!({"type": "string", "contentEncoding": "base64"}),
        DataType::Date32 => json!({"type": "string", "format": "date"}),
        // The SQL form of a timestamp is not that of the format `date-time`.
        DataType::Utf8 | DataType::Time32(_) | DataType::Timestamp(..) => json!({"type": "string"}),
        DataType::List(item) => json!({"type": "array", "items": nullable(item)?}),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                let value = kv.get(1).map(|f| nullable(f)).transpose()?;
                json!({"type": "object", "additionalProperties": value})
            }
            _ => return Err(unsupported(ty)),
        },
        DataType::Struct(fields) => object(fields)?,
        _ => return Err(unsupported(ty)),
    })
}

fn unsupported(ty: &DataType) -> Error {
    Error::unsupported(format!("JSON Schema has no type for {}", sql_name(ty)))
}

/// The columns of the objects of a schema.
///
/// # Errors
/// Data for a schema that is not valid, Unsupported for one that contains itself or is of no object.
pub(crate) fn columns(text: &str, references: &[(String, String)]) -> Result<SchemaColumns> {
    let read = |text: &str| -> Result<Value> {
        serde_json::from_str(text).map_err(|e| Error::data(format!("the JSON Schema is no JSON: {e}")))
    };
    let root = read(text)?;
    let others =
        references.iter().map(|(name, text)| Ok((name.clone(), read(text)?))).collect::<Result<Vec<_>>>()?;
    let mut walk = Walk { root: &root, others: &others, open: Vec::new(), left_out: Vec::new(), depth: 0 };
    let mut found = walk.ty(At { document: &root, schema: &root }, "")?;
    if let Some(LogicalType { root: TypeRoot::Row(fields), .. }) = &mut found {
        let column = |f: RowField| SchemaColumn {
            name: f.name,
            ty: f.ty,
            comment: f.comment,
            number: None,
            aliases: Vec::new(),
        };
        let columns = std::mem::take(fields).into_iter().map(column).collect();
        return Ok(SchemaColumns { columns, left_out: walk.left_out });
    }
    Err(Error::unsupported("the JSON Schema describes no object with properties")
        .hint("read the topic with 'format' = 'raw'"))
}

/// A schema within its document.
#[derive(Clone, Copy)]
struct At<'a> {
    document: &'a Value,
    schema: &'a Value,
}

struct Walk<'a> {
    root: &'a Value,
    others: &'a [(String, Value)],
    /// Schemas that were referenced and are being read.
    open: Vec<*const Value>,
    left_out: Vec<String>,
    depth: usize,
}

fn text() -> Option<LogicalType> {
    Some(LogicalType::not_null(TypeRoot::Varchar(MAX_LENGTH)))
}

impl<'a> Walk<'a> {
    /// The type of a schema; `None` if it can only be NULL or has no parts.
    fn ty(&mut self, at: At<'a>, place: &str) -> Result<Option<LogicalType>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::unsupported(format!("the JSON Schema is nested more than {MAX_DEPTH} deep")));
        }
        let found = self.any(at, place);
        self.depth -= 1;
        found
    }

    fn any(&mut self, at: At<'a>, place: &str) -> Result<Option<LogicalType>> {
        let Value::Object(schema) = at.schema else {
            // `true`: anything.
            return Ok(text());
        };
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.referenced(at, reference, place);
        }
        if let Some(options) = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array) {
            return self.one_of(at, options, place);
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            return self.all_of(at, parts, place);
        }
        let (types, nullable) = match schema.get("type") {
            Some(Value::String(one)) => (vec![one.as_str()], false),
            Some(Value::Array(several)) => {
                let names: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
                let nullable = names.contains(&"null") && names.len() > 1;
                (names.into_iter().filter(|n| !nullable || *n != "null").collect(), nullable)
            }
            _ if schema.contains_key("properties") => (vec!["object"], false),
            _ => (Vec::new(), false),
        };
        let word = |key: &str| schema.get(key).and_then(Value::as_str);
        let root = match types.as_slice() {
            ["null"] => {
                self.left_out.push(place.to_owned());
                return Ok(None);
            }
            ["boolean"] => TypeRoot::Boolean,
            ["integer"] => TypeRoot::BigInt,
            ["number"] => TypeRoot::Double,
            ["integer", "number"] | ["number", "integer"] => TypeRoot::Double,
            ["string"] => match (word("format"), word("contentEncoding")) {
                (Some("date"), _) => TypeRoot::Date,
                (Some("date-time"), _) => TypeRoot::TimestampLtz(3),
                (_, Some("base64")) => TypeRoot::Varbinary(MAX_LENGTH),
                _ => TypeRoot::Varchar(MAX_LENGTH),
            },
            ["array"] => {
                let item = match schema.get("items") {
                    Some(items @ Value::Object(_)) => {
                        self.ty(At { schema: items, ..at }, &format!("{place}[]"))?
                    }
                    _ => text().map(|t| LogicalType { nullable: true, ..t }),
                };
                match item {
                    Some(item) => TypeRoot::Array(Box::new(item)),
                    None => return Ok(None),
                }
            }
            ["object"] => return self.object(at, schema, nullable, place),
            // Several types, or none: the text of what is there.
            _ => TypeRoot::Varchar(MAX_LENGTH),
        };
        Ok(Some(LogicalType { root, nullable }))
    }

    fn object(
        &mut self,
        at: At<'a>,
        schema: &'a Map<String, Value>,
        nullable: bool,
        place: &str,
    ) -> Result<Option<LogicalType>> {
        let mut fields = Vec::new();
        self.properties(at, schema, place, &mut fields)?;
        let root = match (fields.is_empty(), schema.get("additionalProperties")) {
            (false, _) => TypeRoot::Row(fields),
            (true, Some(value @ Value::Object(_))) => {
                match self.ty(At { schema: value, ..at }, &format!("{place}{{}}"))? {
                    Some(value) => {
                        let key = LogicalType::not_null(TypeRoot::Varchar(MAX_LENGTH));
                        TypeRoot::Map(Box::new(key), Box::new(value))
                    }
                    None => return Ok(None),
                }
            }
            (true, _) => TypeRoot::Varchar(MAX_LENGTH),
        };
        Ok(Some(LogicalType { root, nullable }))
    }

    fn properties(
        &mut self,
        at: At<'a>,
        schema: &'a Map<String, Value>,
        place: &str,
        fields: &mut Vec<RowField>,
    ) -> Result<()> {
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|r| r == name));
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let inner = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
            let ty = self
                .ty(At { schema: property, ..at }, &inner)
                .map_err(|e| e.context(format!("property '{inner}'")))?;
            if let Some(ty) = ty
                && !fields.iter().any(|f| f.name == *name)
            {
                let ty = LogicalType { nullable: ty.nullable || !is_required(name), ..ty };
                let comment = property.get("description").and_then(Value::as_str).map(str::to_owned);
                fields.push(RowField { name: name.clone(), ty, comment });
            }
        }
        Ok(())
    }

    fn one_of(&mut self, at: At<'a>, options: &'a [Value], place: &str) -> Result<Option<LogicalType>> {
        let is_null = |v: &&Value| v.get("type").and_then(Value::as_str) == Some("null");
        let nullable = options.iter().any(|v| is_null(&v));
        let others: Vec<&'a Value> = options.iter().filter(|v| !is_null(v)).collect();
        match others.as_slice() {
            [] => {
                self.left_out.push(place.to_owned());
                Ok(None)
            }
            [one] => {
                let ty = self.ty(At { schema: one, ..at }, place)?;
                Ok(ty.map(|ty| LogicalType { nullable: nullable || ty.nullable, ..ty }))
            }
            _ => Ok(text().map(|ty| LogicalType { nullable, ..ty })),
        }
    }

    /// The properties of all parts together; the first part that is something else counts as what it is.
    fn all_of(&mut self, at: At<'a>, parts: &'a [Value], place: &str) -> Result<Option<LogicalType>> {
        let mut fields: Vec<RowField> = Vec::new();
        let mut other = None;
        for part in parts {
            match self.ty(At { schema: part, ..at }, place)? {
                Some(LogicalType { root: TypeRoot::Row(more), .. }) => {
                    for field in more {
                        if !fields.iter().any(|f| f.name == field.name) {
                            fields.push(field);
                        }
                    }
                }
                found => other = other.or(found),
            }
        }
        if let Value::Object(own) = at.schema {
            self.properties(at, own, place, &mut fields)?;
        }
        match fields.is_empty() {
            true => Ok(other),
            false => Ok(Some(LogicalType::not_null(TypeRoot::Row(fields)))),
        }
    }

    fn referenced(&mut self, at: At<'a>, reference: &str, place: &str) -> Result<Option<LogicalType>> {
        let (name, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let document = if name.is_empty() {
            Some(at.document)
        } else if self.root.get("$id").and_then(Value::as_str) == Some(name) {
            Some(self.root)
        } else {
            let named = |(own, value): &&(String, Value)| {
                own == name || value.get("$id").and_then(Value::as_str) == Some(name)
            };
            self.others.iter().find(named).map(|(_, value)| value)
        };
        let found = document.and_then(|d| d.pointer(pointer).map(|schema| At { document: d, schema }));
        let Some(target) = found else {
            return Err(Error::data(format!("the JSON Schema refers to '{reference}', which is not there"))
                .hint("register the schema with its references"));
        };
        let id: *const Value = target.schema;
        if self.open.contains(&id) || (pointer.is_empty() && std::ptr::eq(target.schema, self.root)) {
            return Err(Error::unsupported(format!("the JSON Schema contains itself at '{reference}'"))
                .hint("a table has no recursive types; read the topic with 'format' = 'raw', or change the schema"));
        }
        self.open.push(id);
        let ty = self.ty(target, place);
        self.open.pop();
        ty
    }
}

#[cfg(test)]
mod tests {
    use super::columns;

    fn shown(schema: &str, references: &[(&str, &str)]) -> String {
        let references: Vec<_> = references.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
        match columns(schema, &references) {
            Ok(c) => {
                let all: Vec<String> = c.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect();
                format!("{}; out: {}", all.join(", "), c.left_out.join(","))
            }
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn columns_of_a_schema() {
        let schema = r##"{"type": "object", "required": ["id", "at"], "properties": {
            "at": {"type": "string", "format": "date-time"}, "b": {"type": "boolean"},
            "day": {"type": "string", "format": "date"}, "e": {"enum": ["x", "y"]},
            "id": {"type": "integer"}, "l": {"type": "array", "items": {"$ref": "#/definitions/p"}},
            "m": {"type": "object", "additionalProperties": {"type": "number"}},
            "n": {"type": "null"}, "o": {"oneOf": [{"type": "null"}, {"type": "string"}]},
            "r": {"$ref": "other.json#/definitions/q"}, "s": {"type": ["string", "null"]},
            "u": {"oneOf": [{"type": "string"}, {"type": "integer"}]}},
            "definitions": {"p": {"type": "object", "properties": {"x": {"type": "number"}}}}}"##;
        let other = r#"{"definitions": {"q": {"type": "integer"}}}"#;
        assert_eq!(
            shown(schema, &[("other.json", other)]),
            "at TIMESTAMP_LTZ(3) NOT NULL, b BOOLEAN, day DATE, e STRING, id BIGINT NOT NULL, \
             l ARRAY<ROW<`x` DOUBLE> NOT NULL>, m MAP<STRING NOT NULL, DOUBLE NOT NULL>, o STRING, r BIGINT, s STRING, u STRING; out: n"
        );
    }

    #[test]
    fn what_cannot_be_columns() {
        assert!(shown("{", &[]).contains("is no JSON"));
        assert!(shown(r#"{"type": "string"}"#, &[]).contains("describes no object"));
        let itself = r##"{"type": "object", "properties": {"next": {"$ref": "#"}}}"##;
        assert!(shown(itself, &[]).contains("contains itself at '#'"), "{}", shown(itself, &[]));
        let circle = r##"{"type": "object", "properties": {"a": {"$ref": "#/definitions/a"}},
            "definitions": {"a": {"type": "object", "properties": {"b": {"$ref": "#/definitions/a"}}}}}"##;
        assert!(shown(circle, &[]).contains("contains itself"));
        let lost = r#"{"type": "object", "properties": {"a": {"$ref": "b.json"}}}"#;
        assert!(shown(lost, &[]).contains("refers to 'b.json', which is not there"));
    }
}
