//! Columns as a job has them and its table does not: they change with the first rows that may need it, in one commit.
//!
//! ```text
//!  declared columns ─┐
//!                    ├─► what differs ─► the schema as it will be ─► data files are written with it
//!  table's schema   ─┘                          └─► AddSchema, SetCurrentSchema + the snapshot of the files: one commit
//! ```
//!
//! | `schema-evolution` | a column that the table lacks | a wider type | NULLs in a required column |
//! |---|---|---|---|
//! | `add-columns` | is added, optional, at the end of the table or of its row | | |
//! | `full` | is added | INT → BIGINT, FLOAT → DOUBLE, DECIMAL(p, s) → DECIMAL(p + n, s) | it becomes optional |
//!
//! With `full`, `schema-evolution.renames` = `old:new` gives the column `old` the name `new`, if that is declared and not there: the schemas
//! of records may know that a field is the same under another name.
//!
//! Those are the changes under which the rows that are there stay readable as they are. Other differences are not this one's
//! to mend: a column that the job lacks is NULL in its rows, a narrower type is converted, another one is an error.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, TableMetadataRef, Type,
};
use iceberg::table::Table;
use iceberg::{TableIdent, TableRequirement, TableUpdate};

use super::backend::Update;
use super::lake::Lake;
use super::new_ids::NewIds;
use super::types::to_iceberg;
use crate::error::{Error, Result};

/// `schema-evolution`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum EvolutionMode {
    /// The table stays as it is.
    #[default]
    None,
    /// Columns are added.
    AddColumns,
    /// Columns are added, widened and made optional.
    Full,
}

/// Changes of the columns of a table.
#[derive(Debug, Clone)]
pub(super) struct Evolution {
    /// In words.
    changes: Vec<String>,
    /// Id of the schema that lacks them.
    base: i32,
    /// The last column id of that table.
    last_column: i32,
    /// The schema with them.
    schema: Schema,
}

impl Evolution {
    /// What the columns of `declared` change of a table, and the table as it will be; `None` if nothing.
    ///
    /// # Errors
    /// Unsupported for types that Iceberg does not have; External.
    pub async fn plan(
        lake: &Lake,
        ident: &TableIdent,
        declared: &ArrowSchemaRef,
        mode: EvolutionMode,
        renames: &[(String, String)],
    ) -> Result<Option<(Evolution, Table)>> {
        if mode == EvolutionMode::None {
            return Ok(None);
        }
        let table = lake.load(ident).await?;
        let metadata = table.metadata();
        let current = metadata.current_schema();
        let mut changed = Changed {
            mode,
            ids: NewIds::after(metadata.last_column_id()),
            keys: current.identifier_field_ids().collect(),
            changes: Vec::new(),
        };
        let mut wanted = Vec::with_capacity(declared.fields().len());
        for field in declared.fields() {
            let ty = to_iceberg(field)?;
            wanted.push(Arc::new(NestedField::new(0, field.name(), ty, !field.is_nullable())));
        }
        let have = changed.renamed(current.as_struct().fields(), &wanted, renames);
        let fields = changed.fields(&have, &wanted, "");
        if changed.changes.is_empty() {
            return Ok(None);
        }
        let invalid = |e: iceberg::Error| lake.error(lake.shown(ident), &e);
        let schema = Schema::builder()
            .with_fields(fields)
            .with_identifier_field_ids(current.identifier_field_ids())
            .build()
            .map_err(invalid)?;
        let evolution = Evolution {
            changes: changed.changes,
            base: metadata.current_schema_id(),
            last_column: metadata.last_column_id(),
            schema,
        };
        let (evolved, _) = evolution.apply(&table).map_err(|e| e.context(lake.shown(ident)))?;
        let table = Table::builder()
            .file_io(table.file_io().clone())
            .identifier(table.identifier().clone())
            .metadata(evolved)
            .runtime(lake.runtime().clone());
        Ok(Some((evolution, table.build().map_err(invalid)?)))
    }

    /// The table as it will be, and what makes it so, if it is as it was when the data files were begun.
    ///
    /// # Errors
    /// External if somebody else has changed the schema meanwhile.
    pub fn apply(&self, table: &Table) -> Result<(TableMetadataRef, Update)> {
        let metadata = table.metadata();
        if metadata.current_schema_id() != self.base || metadata.last_column_id() != self.last_column {
            return Err(Error::external(format!("the schema was changed by somebody else while {self}"))
                .hint("start the job again"));
        }
        let update = Update {
            requirements: vec![
                TableRequirement::CurrentSchemaIdMatch { current_schema_id: self.base },
                TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id: self.last_column },
            ],
            changes: vec![
                TableUpdate::AddSchema { schema: self.schema.clone() },
                TableUpdate::SetCurrentSchema { schema_id: -1 },
            ],
        };
        let location = table.metadata_location().map(str::to_owned);
        let build = || {
            let builder = metadata.clone().into_builder(location);
            let builder = update.changes.iter().cloned().try_fold(builder, |b, change| change.apply(b))?;
            builder.build()
        };
        let built = build().map_err(|e| Error::external(format!("{self}: {}", e.message())))?;
        Ok((Arc::new(built.metadata), update))
    }
}

impl fmt::Display for Evolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.changes.join(", "))
    }
}

/// The walk over the columns of a table beside those of a job.
struct Changed {
    mode: EvolutionMode,
    ids: NewIds,
    /// Ids of the key, which stays as it is.
    keys: Vec<i32>,
    changes: Vec<String>,
}

impl Changed {
    /// The columns, some of them under the names that they are to have. Files are read by ids, so that nothing else changes.
    fn renamed(
        &mut self,
        have: &[NestedFieldRef],
        wanted: &[NestedFieldRef],
        renames: &[(String, String)],
    ) -> Vec<NestedFieldRef> {
        let mut fields = have.to_vec();
        let is = |fields: &[NestedFieldRef], name: &str| fields.iter().any(|f| f.name == name);
        for (from, to) in renames {
            // There may be another column under the old name from now on.
            let is_meant = is(wanted, to) && !is(&fields, to);
            let old = fields.iter_mut().find(|f| is_meant && f.name == *from && !self.keys.contains(&f.id));
            if let Some(old) = old {
                self.changes.push(format!("renaming `{from}` to `{to}`"));
                *old = Arc::new(NestedField { name: to.clone(), ..old.as_ref().clone() });
            }
        }
        fields
    }

    fn fields(
        &mut self,
        have: &[NestedFieldRef],
        wanted: &[NestedFieldRef],
        path: &str,
    ) -> Vec<NestedFieldRef> {
        let mut fields: Vec<NestedFieldRef> = have
            .iter()
            .map(|f| match wanted.iter().find(|w| w.name == f.name) {
                Some(w) => self.field(f, w, &format!("{path}{}", f.name)),
                None => Arc::clone(f),
            })
            .collect();
        for new in wanted.iter().filter(|w| !have.iter().any(|f| f.name == w.name)) {
            self.changes.push(format!("adding `{path}{}`", new.name));
            let id = self.ids.next();
            let ty = self.ids.numbered(&new.field_type);
            fields.push(Arc::new(NestedField {
                id,
                required: false,
                field_type: Box::new(ty),
                ..new.as_ref().clone()
            }));
        }
        fields
    }

    fn field(&mut self, have: &NestedFieldRef, wanted: &NestedFieldRef, path: &str) -> NestedFieldRef {
        let ty = self.ty(&have.field_type, &wanted.field_type, path);
        let is_full = self.mode == EvolutionMode::Full;
        let loosens = is_full && have.required && !wanted.required && !self.keys.contains(&have.id);
        if loosens {
            self.changes.push(format!("making `{path}` optional"));
        }
        if !loosens && ty == *have.field_type {
            return Arc::clone(have);
        }
        let required = have.required && !loosens;
        Arc::new(NestedField { required, field_type: Box::new(ty), ..have.as_ref().clone() })
    }

    fn ty(&mut self, have: &Type, wanted: &Type, path: &str) -> Type {
        match (have, wanted) {
            (Type::Struct(have), Type::Struct(wanted)) => Type::Struct(StructType::new(self.fields(
                have.fields(),
                wanted.fields(),
                &format!("{path}."),
            ))),
            (Type::List(have), Type::List(wanted)) => {
                let element = self.field(&have.element_field, &wanted.element_field, &format!("{path}[]"));
                Type::List(ListType::new(element))
            }
            (Type::Map(have), Type::Map(wanted)) => {
                let value = self.field(&have.value_field, &wanted.value_field, &format!("{path}{{value}}"));
                Type::Map(MapType::new(Arc::clone(&have.key_field), value))
            }
            (Type::Primitive(have), Type::Primitive(wanted))
                if self.mode == EvolutionMode::Full && is_wider(have, wanted) =>
            {
                self.changes.push(format!("widening `{path}` from {have} to {wanted}"));
                Type::Primitive(wanted.clone())
            }
            (have, _) => have.clone(),
        }
    }
}

/// Whether every value of one type is a value of the other, as the format defines it.
pub(super) fn is_wider(have: &PrimitiveType, wanted: &PrimitiveType) -> bool {
    use PrimitiveType as P;
    match (have, wanted) {
        (P::Int, P::Long) | (P::Float, P::Double) => true,
        (P::Decimal { precision: p, scale: s }, P::Decimal { precision: q, scale: t }) => q > p && s == t,
        _ => false,
    }
}
