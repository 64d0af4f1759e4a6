//! Partition directories in Hive's layout: `…/day=2020-01-01/hour=10/file`.
//!
//! Columns of PARTITIONED BY are not in the files: their values are the names of the folders, escaped as Hive does it;
//! NULL and the empty string are the folder named by `partition.default-name`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::create_physical_expr;
use datafusion::sql::sqlparser::ast;

use crate::catalog::ResolvedTable;
use crate::error::{Error, Result, ResultExt};
use crate::formats::write_timestamp_sql;
use crate::options::Options;

/// The partition columns of a table.
#[derive(Debug, Clone)]
pub(super) struct Partitioning {
    /// In the order of the folders.
    pub(super) columns: Vec<Field>,
    default_name: String,
}

impl Partitioning {
    /// Reads PARTITIONED BY and `partition.default-name`.
    ///
    /// # Errors
    /// Unsupported for transforms, Validation for unknown columns.
    pub(super) fn new(table: &ResolvedTable, options: &Options) -> Result<Self> {
        let default_name =
            options.take("partition.default-name").unwrap_or_else(|| "__DEFAULT_PARTITION__".to_owned());
        let mut columns = Vec::new();
        for expr in &table.def.partitioned_by {
            let ast::Expr::Identifier(name) = &expr.expr else {
                return Err(Error::unsupported(format!(
                    "a filesystem table cannot be partitioned by '{}'",
                    expr.text
                ))
                .at(expr.location)
                .hint("partition by columns of the table"));
            };
            let field = table.physical.field_with_name(&name.value).map_err(|_| {
                Error::validation(format!("the partition column `{}` is no column of the table", name.value))
                    .at(expr.location)
            })?;
            if field.data_type().is_nested() {
                return Err(Error::unsupported(format!(
                    "column `{}` of type {} cannot be a partition column",
                    name.value,
                    field.data_type()
                ))
                .at(expr.location));
            }
            columns.push(field.clone());
        }
        Ok(Partitioning { columns, default_name })
    }

    /// Values of a file, one array of one row per column.
    ///
    /// # Errors
    /// Data if the file is in no folder of that partition, or a name does not fit the column's type.
    pub(super) fn values(&self, path: &str, root: &str) -> Result<Vec<ArrayRef>> {
        if self.columns.is_empty() {
            return Ok(Vec::new());
        }
        let folders: Vec<(String, String)> = path
            .get(root.len()..)
            .unwrap_or(path)
            .split('/')
            .filter_map(|part| part.split_once('='))
            .map(|(k, v)| (unescape(k), unescape(v)))
            .collect();
        let value = |field: &Field| {
            let Some((_, text)) = folders.iter().find(|(k, _)| k == field.name()) else {
                return Err(Error::data(format!("the file is in no folder '{}=…'", field.name()))
                    .hint("files of a partitioned table lie in folders named column=value"));
            };
            if *text == self.default_name {
                if !field.is_nullable() {
                    return Err(Error::data(format!("column `{}` is NOT NULL", field.name())));
                }
                return Ok(new_null_array(field.data_type(), 1));
            }
            let text = StringArray::from(vec![text.as_str()]);
            let options = CastOptions { safe: false, ..Default::default() };
            cast_with_options(&text, field.data_type(), &options)
                .context(|| format!("the folder '{}={}'", field.name(), text.value(0)))
        };
        self.columns.iter().map(value).collect::<Result<_>>().context(|| path.to_owned())
    }

    /// The values in the names of a partition's folders, in the order of the columns.
    pub(super) fn texts(&self, folder: &str) -> Vec<String> {
        folder.split('/').filter_map(|part| part.split_once('=')).map(|(_, value)| unescape(value)).collect()
    }

    /// Puts values in the place of `$column`; of several columns that fit, the one with the longest name counts.
    pub(super) fn substitute(&self, pattern: &str, values: &[String]) -> String {
        let mut out = String::new();
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let named = self.columns.iter().zip(values).filter(|(c, _)| after.starts_with(c.name().as_str()));
            match named.max_by_key(|(c, _)| c.name().len()) {
                Some((column, value)) => {
                    out.push_str(value);
                    rest = after.get(column.name().len()..).unwrap_or_default();
                }
                None => {
                    out.push('$');
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }

    /// Refuses a pattern with a `$` that is no partition column; gives what is expected.
    pub(super) fn check_time_pattern(&self, pattern: &str) -> std::result::Result<(), String> {
        let nothing = vec![String::new(); self.columns.len()];
        if !self.substitute(pattern, &nothing).contains('$') {
            return Ok(());
        }
        let names: Vec<String> = self.columns.iter().map(|c| format!("${}", c.name())).collect();
        Err(match names.is_empty() {
            true => "no '$', as the table has no partition columns".to_owned(),
            false => format!("only partition columns after '$': {}", names.join(", ")),
        })
    }

    /// Which of several files can hold rows that pass `filters`, by their partition values.
    pub(super) fn prune(&self, values: &[Vec<ArrayRef>], filters: &[Expr]) -> Vec<bool> {
        let mut keep = vec![true; values.len()];
        if self.columns.is_empty() || values.is_empty() {
            return keep;
        }
        let usable = filters.iter().filter(|f| {
            let refs = f.column_refs();
            !refs.is_empty() && refs.iter().all(|c| self.columns.iter().any(|p| *p.name() == c.name))
        });
        for filter in usable {
            // A filter that cannot be evaluated here prunes nothing: the query evaluates it anyway.
            if let Ok(mask) = self.evaluate(values, filter) {
                for (k, i) in keep.iter_mut().zip(0..mask.len()) {
                    *k &= mask.is_valid(i) && mask.value(i);
                }
            }
        }
        keep
    }

    fn evaluate(&self, values: &[Vec<ArrayRef>], filter: &Expr) -> Result<BooleanArray> {
        // Filters may qualify columns with the table's name, which is not known here.
        let filter = datafusion::logical_expr::expr_rewriter::unnormalize_col(filter.clone());
        let fields: Vec<Field> = self.columns.iter().map(|f| f.clone().with_nullable(true)).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let mut arrays = Vec::new();
        for i in 0..self.columns.len() {
            let column: Vec<&dyn Array> =
                values.iter().filter_map(|v| v.get(i)).map(|a| a.as_ref() as &dyn Array).collect();
            arrays.push(concat(&column)?);
        }
        let batch = RecordBatch::try_new(schema.clone(), arrays)?;
        let df_schema = DFSchema::try_from(schema)?;
        let expr = create_physical_expr(&filter, &df_schema, &ExecutionProps::new())?;
        let result = expr.evaluate(&batch)?.into_array(batch.num_rows())?;
        let mask = result.as_any().downcast_ref::<BooleanArray>();
        mask.cloned().ok_or_else(|| Error::internal("a filter that is not BOOLEAN"))
    }

    /// The folder of a row's values: `day=2020-01-01/hour=10`.
    ///
    /// # Errors
    /// From the cast to text.
    pub(super) fn folder(&self, columns: &[ArrayRef], row: usize) -> Result<String> {
        let mut out = String::new();
        for (field, column) in self.columns.iter().zip(columns) {
            if !out.is_empty() {
                out.push('/');
            }
            escape(field.name(), &mut out);
            out.push('=');
            let text = value_text(column, row)?;
            match text.filter(|t| !t.is_empty()) {
                Some(text) => escape(&text, &mut out),
                None => out.push_str(&self.default_name),
            }
        }
        Ok(out)
    }
}

fn value_text(column: &ArrayRef, row: usize) -> Result<Option<String>> {
    if column.is_null(row) {
        return Ok(None);
    }
    if let DataType::Timestamp(..) = column.data_type() {
        return Ok(Some(write_timestamp_sql(column, row)));
    }
    let text = arrow::compute::cast(&column.slice(row, 1), &DataType::Utf8)?;
    let text = text.as_any().downcast_ref::<StringArray>().map(|t| t.value(0).to_owned());
    Ok(text)
}

/// A constant column of `rows` rows from an array of one row.
///
/// # Errors
/// From DataFusion for unsupported types.
pub(super) fn repeat(value: &ArrayRef, rows: usize) -> Result<ArrayRef> {
    Ok(ScalarValue::try_from_array(value, 0)?.to_array_of_size(rows)?)
}

/// Characters that Hive escapes in folder names.
fn must_escape(c: char) -> bool {
    c.is_ascii_control() || "\"#%'*/:=?\\\u{7f}{[]^".contains(c)
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        if must_escape(c) {
            out.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while let Some(b) = bytes.get(i) {
        let hex = text.get(i + 1..i + 3).filter(|_| *b == b'%');
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(*b);
                i += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    fn partitioning() -> Partitioning {
        Partitioning {
            columns: vec![
                Field::new("day", DataType::Date32, true),
                Field::new("n", DataType::Int32, true),
                Field::new("s", DataType::Utf8, true),
            ],
            default_name: "__DEFAULT_PARTITION__".into(),
        }
    }

    #[test]
    fn folders_round_trip() {
        let p = partitioning();
        for (n, s) in [(Some(1), Some("a b/c=:%é")), (None, Some("x")), (Some(-5), None)] {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(arrow::array::Date32Array::from(vec![18_262])),
                Arc::new(arrow::array::Int32Array::from(vec![n])),
                Arc::new(StringArray::from(vec![s])),
            ];
            let folder = p.folder(&columns, 0).unwrap();
            let back = p.values(&format!("/root/{folder}/file"), "/root").unwrap();
            assert_eq!(back, columns, "{folder}");
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(arrow::array::Date32Array::from(vec![18_262])),
            Arc::new(arrow::array::Int32Array::from(vec![1])),
            Arc::new(StringArray::from(vec!["a b/c=:%"])),
        ];
        assert_eq!(p.folder(&columns, 0).unwrap(), "day=2020-01-01/n=1/s=a b%2Fc%3D%3A%25");
        let e = p.values("/root/day=2020-01-01/file", "/root").unwrap_err().to_string();
        assert!(e.contains("in no folder 'n=…'"), "{e}");
        let e = p.values("/root/day=2020-01-01/n=x/s=1/file", "/root").unwrap_err().to_string();
        assert!(e.contains("n=x"), "{e}");
    }

    #[test]
    fn filters_prune_files() {
        let p = partitioning();
        let values: Vec<_> = [
            "day=2020-01-01/n=1/s=a",
            "day=2020-01-02/n=2/s=b",
            "day=2020-01-03/n=__DEFAULT_PARTITION__/s=c",
        ]
        .iter()
        .map(|f| p.values(&format!("/{f}/x"), "").unwrap())
        .collect();
        assert_eq!(p.prune(&values, &[col("n").gt(lit(1))]), [false, true, false]);
        assert_eq!(
            p.prune(&values, &[col("t.s").eq(lit("a")), col("other").eq(lit(1))]),
            [true, false, false]
        );
        assert_eq!(p.prune(&values, &[col("n").eq(col("other"))]), [true, true, true]);
        assert_eq!(p.prune(&values, &[]), [true, true, true]);
    }
}
