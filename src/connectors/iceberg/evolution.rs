//! Columns that a job has and its table lacks: they come with the first rows that may have them, in one commit.
//!
//! ```text
//!  declared columns ─┐
//!                    ├─► what is missing ─► rehearsal: the schema with the ids that the commit will give
//!  table's schema   ─┘                          └─► data files are written with it ─► AddSchema + append, one commit
//! ```
//!
//! Columns are added at the end of the table or of the row that they stand in, and are optional. Other differences are not
//! this one's to mend: a column that the job lacks is NULL in its rows, another type is an error.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use iceberg::TableIdent;
use iceberg::spec::{NestedFieldRef, SchemaRef, TableMetadata, Type};
use iceberg::table::Table;
use iceberg::transaction::{AddColumn, ApplyTransactionAction, Transaction};

use super::fenced::{FencedCatalog, Judge, Verdict};
use super::lake::Lake;
use super::types::to_iceberg;
use crate::error::{Error, Result};

/// A column to add.
#[derive(Debug, Clone)]
struct NewColumn {
    /// The row that it stands in, by path; `None` for the table itself.
    parent: Option<String>,
    name: String,
    ty: Type,
}

/// Columns to add to a table.
#[derive(Debug, Clone)]
pub(super) struct Evolution {
    columns: Vec<NewColumn>,
    /// Id of the schema that lacks them.
    base: i32,
    /// The schema with them.
    schema: SchemaRef,
}

/// Every table may be looked at.
#[derive(Debug)]
struct Rehearsal;

impl Judge for Rehearsal {
    fn judge(&self, _: &TableMetadata) -> Verdict {
        Verdict::Go
    }
}

impl Evolution {
    /// What the columns of `declared` add to a table, and the table as it will be; `None` if it has them all.
    ///
    /// # Errors
    /// Unsupported for types that Iceberg does not have; External.
    pub async fn plan(
        lake: &Lake,
        ident: &TableIdent,
        declared: &ArrowSchemaRef,
    ) -> Result<Option<(Evolution, Table)>> {
        let table = lake.load(ident).await?;
        let metadata = table.metadata();
        let mut columns = Vec::new();
        let have = metadata.current_schema().as_struct().fields();
        for field in declared.fields() {
            let ty = to_iceberg(field)?;
            match have.iter().find(|f| f.name == *field.name()) {
                None => columns.push(NewColumn { parent: None, name: field.name().clone(), ty }),
                Some(f) => missing(f, &ty, &f.name, &mut columns),
            }
        }
        if columns.is_empty() {
            return Ok(None);
        }
        let base = metadata.current_schema_id();
        let mut evolution = Evolution { columns, base, schema: Arc::clone(metadata.current_schema()) };
        let rehearsal = FencedCatalog::rehearsal(lake.client(), &Rehearsal);
        let evolved = async { evolution.add_to(Transaction::new(&table))?.commit(&rehearsal).await };
        let evolved = evolved.await.map_err(|e| lake.error(format!("{evolution}"), &e))?;
        evolution.schema = Arc::clone(evolved.metadata().current_schema());
        Ok(Some((evolution, evolved)))
    }

    /// The schema of the data files, if the table is as it was when they were begun.
    ///
    /// # Errors
    /// External if somebody else has changed the schema meanwhile.
    pub fn schema_for(&self, metadata: &TableMetadata) -> Result<SchemaRef> {
        if metadata.current_schema_id() != self.base {
            return Err(Error::external(format!("the schema was changed by somebody else while {self}"))
                .hint("start the job again"));
        }
        Ok(Arc::clone(&self.schema))
    }

    /// Adds the columns to a transaction.
    ///
    /// # Errors
    /// Those of the crate.
    pub fn add_to(&self, transaction: Transaction) -> iceberg::Result<Transaction> {
        let columns = self.columns.iter().fold(transaction.update_schema(), |action, c| {
            action.add_column(match &c.parent {
                None => AddColumn::optional(&c.name, c.ty.clone()),
                Some(parent) => AddColumn::builder()
                    .parent(parent.clone())
                    .name(c.name.clone())
                    .field_type(c.ty.clone())
                    .build(),
            })
        });
        columns.apply(transaction)
    }
}

impl fmt::Display for Evolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |c: &NewColumn| match &c.parent {
            Some(parent) => format!("`{parent}.{}`", c.name),
            None => format!("`{}`", c.name),
        };
        let names: Vec<String> = self.columns.iter().map(path).collect();
        write!(f, "adding {}", names.join(", "))
    }
}

/// Adds what `wanted` has inside of it and the field of the table lacks. `path` is how the crate names the field.
fn missing(have: &NestedFieldRef, wanted: &Type, path: &str, columns: &mut Vec<NewColumn>) {
    match (have.field_type.as_ref(), wanted) {
        (Type::Struct(have), Type::Struct(wanted)) => {
            for field in wanted.fields() {
                match have.fields().iter().find(|f| f.name == field.name) {
                    None => columns.push(NewColumn {
                        parent: Some(path.to_owned()),
                        name: field.name.clone(),
                        ty: field.field_type.as_ref().clone(),
                    }),
                    Some(f) => missing(f, &field.field_type, &format!("{path}.{}", f.name), columns),
                }
            }
        }
        (Type::List(have), Type::List(wanted)) => {
            let element = &have.element_field;
            missing(element, &wanted.element_field.field_type, &format!("{path}.{}", element.name), columns);
        }
        (Type::Map(have), Type::Map(wanted)) => {
            let value = &have.value_field;
            missing(value, &wanted.value_field.field_type, &format!("{path}.{}", value.name), columns);
        }
        _ => {}
    }
}
