//! Parts of a table's definition: columns, watermark, key.

use datafusion::sql::sqlparser::ast;

use crate::error::Location;
use crate::types::LogicalType;

/// An expression of a table definition: the tree and its source text.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlExpr {
    /// Parsed.
    pub expr: ast::Expr,
    /// As written, for SHOW CREATE TABLE and DESCRIBE.
    pub text: String,
    /// Where it stands in its script.
    pub location: Location,
}

/// What a column holds.
#[expect(
    clippy::large_enum_variant,
    reason = "a table has few columns, and none of them is moved in a hot path"
)]
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnKind {
    /// Stored by the connector.
    Physical,
    /// `METADATA [FROM 'key'] [VIRTUAL]`.
    Metadata {
        /// The metadata key; the column's own name unless `FROM` says otherwise.
        key: String,
        /// VIRTUAL: read only, not part of the sink schema.
        read_only: bool,
    },
    /// `name AS expr`: computed at the source, not part of the sink schema.
    Computed(SqlExpr),
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDef {
    /// Name, case kept.
    pub name: String,
    /// Declared type. `None` for computed columns: inferred when the table is used.
    pub ty: Option<LogicalType>,
    /// What it holds.
    pub kind: ColumnKind,
    /// `COMMENT '…'`.
    pub comment: Option<String>,
}

/// `WATERMARK FOR column AS expr`.
#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkDef {
    /// The row-time column.
    pub column: String,
    /// Its watermark.
    pub expr: SqlExpr,
}

/// `PRIMARY KEY (…) NOT ENFORCED`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryKey {
    /// `CONSTRAINT name`.
    pub name: Option<String>,
    /// Key columns; made NOT NULL.
    pub columns: Vec<String>,
}
