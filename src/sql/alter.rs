//! What `ALTER` statements say.

use std::collections::BTreeMap;

use super::ast::{CreateFunction, Name, Query};
use super::table_parts::{ColumnDef, PrimaryKey, WatermarkDef};
use crate::error::Location;

/// `ALTER …`.
#[derive(Debug, Clone, PartialEq)]
pub enum Alter {
    /// `ALTER TABLE [IF EXISTS] t …`.
    Table {
        /// Which.
        name: Name,
        /// `IF EXISTS`.
        if_exists: bool,
        /// What happens to it.
        action: TableAction,
    },
    /// `ALTER VIEW v …`.
    View {
        /// Which.
        name: Name,
        /// What happens to it.
        action: ViewAction,
    },
    /// `ALTER DATABASE d SET ('k' = 'v', …)`.
    Database {
        /// Which.
        name: Name,
        /// Its options that change.
        options: BTreeMap<String, String>,
    },
    /// `ALTER CATALOG c …`.
    Catalog {
        /// Which, a name of one part.
        name: Name,
        /// What happens to it.
        action: CatalogAction,
    },
    /// `ALTER FUNCTION [IF EXISTS] f(…) RETURNS … LANGUAGE … AS …`.
    Function {
        /// What it is from now on.
        function: Box<CreateFunction>,
        /// `IF EXISTS`.
        if_exists: bool,
    },
}

impl Alter {
    /// What is altered, as in `ALTER TABLE db.t`.
    pub fn subject(&self) -> String {
        let (kind, name) = match self {
            Alter::Table { name, .. } => ("TABLE", name),
            Alter::View { name, .. } => ("VIEW", name),
            Alter::Database { name, .. } => ("DATABASE", name),
            Alter::Catalog { name, .. } => ("CATALOG", name),
            Alter::Function { function, .. } => ("FUNCTION", &function.name),
        };
        format!("ALTER {kind} {}", name.parts.join("."))
    }
}

/// What happens to a table.
#[derive(Debug, Clone, PartialEq)]
pub enum TableAction {
    /// `RENAME TO t2`.
    RenameTo(Name),
    /// Its definition changes.
    Change(TableChange),
}

/// A change of the definition of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum TableChange {
    /// `SET ('k' = 'v', …)`.
    Set(BTreeMap<String, String>),
    /// `RESET ('k', …)`, and where each key stands.
    Reset(Vec<(String, Location)>),
    /// `ADD …`.
    Add(Box<TableElements>),
    /// `MODIFY …`.
    Modify(Box<TableElements>),
    /// `DROP c`, `DROP (c, …)`.
    DropColumns(Vec<(String, Location)>),
    /// `DROP PRIMARY KEY`.
    DropPrimaryKey(Location),
    /// `DROP CONSTRAINT n`.
    DropConstraint(String, Location),
    /// `DROP WATERMARK`.
    DropWatermark(Location),
    /// `RENAME a TO b`.
    RenameColumn {
        /// The old name.
        from: (String, Location),
        /// The new one.
        to: (String, Location),
    },
}

/// What ADD and MODIFY list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableElements {
    /// Columns in the order written.
    pub columns: Vec<PlacedColumn>,
    /// `PRIMARY KEY`, and where it stands.
    pub primary_key: Option<(PrimaryKey, Location)>,
    /// `WATERMARK FOR`, and where it stands.
    pub watermark: Option<(WatermarkDef, Location)>,
}

/// A column and where it belongs.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedColumn {
    /// The column.
    pub column: ColumnDef,
    /// Where its name stands in the script.
    pub location: Location,
    /// `FIRST`, `AFTER x`; without it at the end, or where it was.
    pub position: Option<ColumnPosition>,
}

/// Where a column belongs.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnPosition {
    /// `FIRST`.
    First,
    /// `AFTER x`.
    After(String, Location),
}

/// What happens to a view.
#[derive(Debug, Clone, PartialEq)]
pub enum ViewAction {
    /// `RENAME TO w`.
    RenameTo(Name),
    /// `AS query`.
    As(Box<Query>),
}

/// What happens to a catalog.
#[derive(Debug, Clone, PartialEq)]
pub enum CatalogAction {
    /// `SET ('k' = 'v', …)`.
    Set(BTreeMap<String, String>),
    /// `RESET ('k', …)`, and where each key stands.
    Reset(Vec<(String, Location)>),
    /// `COMMENT '…'`.
    Comment(String),
}

/// `ANALYZE TABLE t [PARTITION (…)] COMPUTE STATISTICS [FOR COLUMNS … | FOR ALL COLUMNS]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Analyze {
    /// Which table.
    pub table: Name,
    /// Columns of `PARTITION (…)`.
    pub partition: Vec<(String, Location)>,
    /// Columns of `FOR COLUMNS`; empty for none or all.
    pub columns: Vec<(String, Location)>,
}
