//! tidelake's statements. Queries and expressions are sqlparser's trees, with three conventions:
//!
//! - **Table hints.** `t /*+ OPTIONS('k' = 'v') */` becomes a table factor whose last name part is
//!   `t` + [`HINT_MARK`] + the index into [`Query::table_hints`], with the alias `t` unless it has one of its own.
//! - **Tables as arguments.** `TABLE a.b` inside a function's arguments becomes a call of [`TABLE_ARGUMENT`] with
//!   the (compound) identifier as its argument; `DESCRIPTOR(ts)` is an ordinary call.
//! - **Window table functions.** `TABLE(TUMBLE(…))` is `TableFactor::TableFunction`, `FROM TUMBLE(…)` a
//!   `TableFactor::Table` with `args`; named arguments are `FunctionArg::Named`.
//!   `LATERAL TABLE(f(x))` is a `TableFactor::Function` named `TABLE` whose one argument is the call.
//! - **Types in casts.** Every `CAST(x AS …)` and `TRY_CAST` has `DataType::Custom` with one name part: the canonical
//!   text of the Flink type. [`super::cast_type`] gives its [`crate::types::LogicalType`].
//! - **Maps.** `MAP[k, v, …]` is a call of [`MAP_CONSTRUCTOR`] with keys and values in turn.
//! - `FETCH FIRST n ROWS ONLY` is a limit, the query `TABLE t` a `SELECT * FROM t`, and strings (`U&'…'`, `E'…'`,
//!   continued ones) are `Value::SingleQuotedString` with all escapes undone.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast as sqlast;

use crate::error::Location;
pub use crate::sql::alter::{
    Alter, Analyze, CatalogAction, ColumnPosition, PlacedColumn, TableAction, TableChange, TableElements,
    ViewAction,
};
pub use crate::sql::hints::HintedTable;
pub use crate::sql::lookup_hint::LookupHint;
pub use crate::sql::table_parts::{ColumnDef, ColumnKind, PrimaryKey, SqlExpr, WatermarkDef};
use crate::types::LogicalType;

/// Separates a table name from the number of its hint, and what stands for a hint.
pub const HINT_MARK: char = '\u{1}';

/// In the mark of a table: its state at a time in milliseconds since the epoch follows.
pub const AS_OF_MARK: char = '@';

/// Name of the call that stands for `TABLE t` as an argument.
pub const TABLE_ARGUMENT: &str = "__table";

/// The definition of MATCH_RECOGNIZE that stands for its WITHIN.
pub const WITHIN: &str = "__within";

/// Begins the name of the call that stands for a long row of operators; they follow, one character each.
pub const CHAIN: &str = "__chain:";

/// Name of the call that stands for `MAP[…]`; DataFusion plans it by this name.
pub const MAP_CONSTRUCTOR: &str = "make_map";

/// A statement of a script.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedStatement {
    /// The statement.
    pub statement: Statement,
    /// Where its first token stands.
    pub location: Location,
    /// Its text without the closing semicolon.
    pub text: String,
}

/// A name of up to three parts, resolved against the current catalog and database later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The parts, case kept.
    pub parts: Vec<String>,
    /// Where it stands.
    pub location: Location,
}

/// A query with its hints.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The tree.
    pub query: Box<sqlast::Query>,
    /// Options of `/*+ OPTIONS(…) */`, by hint number.
    pub table_hints: Vec<BTreeMap<String, String>>,
    /// Tables that hints after SELECT name.
    pub hinted: Vec<HintedTable>,
    /// The text, for views and job names.
    pub text: String,
    /// Where it begins.
    pub location: Location,
}

/// Every statement tidelake understands.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// A query.
    Query(Query),
    /// `INSERT INTO|OVERWRITE`.
    Insert(Insert),
    /// `EXECUTE STATEMENT SET BEGIN … END`, `BEGIN STATEMENT SET; … END`.
    StatementSet(Vec<Insert>),
    /// `UPDATE`, `DELETE`.
    RowChange(RowChange),
    /// `TRUNCATE TABLE t`.
    Truncate(Name),
    /// `EXPLAIN [PLAN FOR | details] …`.
    Explain {
        /// What to print beside the plan.
        details: Vec<ExplainDetail>,
        /// Query, insert or statement set.
        target: Box<Statement>,
    },
    /// `CREATE TABLE`.
    CreateTable(Box<CreateTable>),
    /// `CREATE VIEW`.
    CreateView(CreateView),
    /// `CREATE CATALOG`.
    CreateCatalog {
        /// Name.
        name: String,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
        /// `COMMENT`.
        comment: Option<String>,
        /// `WITH`.
        options: BTreeMap<String, String>,
        /// Where the name stands.
        location: Location,
    },
    /// `CREATE DATABASE`.
    CreateDatabase {
        /// Name of one or two parts.
        name: Name,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
        /// `COMMENT`.
        comment: Option<String>,
        /// `WITH`.
        options: BTreeMap<String, String>,
    },
    /// `ALTER …`.
    Alter(Alter),
    /// `ANALYZE TABLE`.
    Analyze(Analyze),
    /// `DROP …`.
    Drop {
        /// What.
        kind: DropKind,
        /// Name.
        name: Name,
        /// `IF EXISTS`.
        if_exists: bool,
        /// `TEMPORARY`.
        temporary: bool,
        /// `CASCADE` (databases).
        cascade: bool,
    },
    /// `USE CATALOG c`.
    UseCatalog(Name),
    /// `USE [c.]d`.
    UseDatabase(Name),
    /// `SHOW …`.
    Show(Show),
    /// `DESCRIBE [TABLE] t`, `DESC t`.
    DescribeTable(Name),
    /// `DESCRIBE CATALOG c`.
    DescribeCatalog(Name),
    /// `CREATE FUNCTION f AS 'class'` of a class whose function is built in.
    CreateBuiltinFunction {
        /// The class.
        class: String,
        /// The function.
        function: &'static str,
    },
    /// `CREATE FUNCTION f(…) RETURNS … LANGUAGE … AS …`.
    CreateFunction(Box<CreateFunction>),
    /// `DROP [TEMPORARY [SYSTEM]] FUNCTION`.
    DropFunction {
        /// Name; of one part if `system`.
        name: Name,
        /// `IF EXISTS`.
        if_exists: bool,
        /// `TEMPORARY`.
        temporary: bool,
        /// `SYSTEM`.
        system: bool,
    },
    /// `DESCRIBE DATABASE d`.
    DescribeDatabase(Name),
    /// `DESCRIBE FUNCTION [EXTENDED] f`.
    DescribeFunction {
        /// Which.
        name: Name,
        /// With all that is known.
        extended: bool,
    },
    /// `SET`, `SET 'k' = 'v'`.
    Set(Option<(String, String)>),
    /// `RESET`, `RESET 'k'`.
    Reset(Option<String>),
}

/// Name of the changed table in the query of a [`RowChange`].
pub const ROW_CHANGE_TARGET: &str = "$target";

/// `UPDATE` or `DELETE`.
#[derive(Debug, Clone, PartialEq)]
pub struct RowChange {
    /// Target.
    pub table: Name,
    /// Columns that get other values; empty for DELETE.
    pub set: Vec<(String, Location)>,
    /// The rows that change, from [`ROW_CHANGE_TARGET`]: the values of `set`, or nothing of use.
    pub query: Query,
    /// There is a WHERE.
    pub has_condition: bool,
}

impl RowChange {
    /// As the statement begins.
    pub fn keyword(&self) -> &'static str {
        if self.set.is_empty() { "DELETE" } else { "UPDATE" }
    }
}

/// `INSERT`.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// Target.
    pub table: Name,
    /// `/*+ OPTIONS(…) */` on the target.
    pub options: BTreeMap<String, String>,
    /// `OVERWRITE`.
    pub overwrite: bool,
    /// `PARTITION (p = 'v', …)`.
    pub partition: Vec<(String, SqlExpr)>,
    /// Column list; empty for all.
    pub columns: Vec<(String, Location)>,
    /// Rows.
    pub query: Query,
    /// `ON CONFLICT DO …`, and where it stands.
    pub on_conflict: Option<(ConflictStrategy, Location)>,
}

/// What happens when rows of different upsert keys meet in one row of the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictStrategy {
    /// `DO NOTHING`: the first stays.
    Nothing,
    /// `DO ERROR`: the job fails.
    Error,
    /// `DO DEDUPLICATE`: the last is seen, and the one before it again when it goes.
    Deduplicate,
}

impl ConflictStrategy {
    /// As it is written.
    pub fn keyword(self) -> &'static str {
        match self {
            ConflictStrategy::Nothing => "NOTHING",
            ConflictStrategy::Error => "ERROR",
            ConflictStrategy::Deduplicate => "DEDUPLICATE",
        }
    }
}

/// What EXPLAIN shows in addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExplainDetail {
    /// `ESTIMATED_COST`.
    EstimatedCost,
    /// `CHANGELOG_MODE`.
    ChangelogMode,
    /// `JSON_EXECUTION_PLAN`.
    JsonExecutionPlan,
    /// `PLAN_ADVICE`.
    PlanAdvice,
    /// `ANALYZE`: the query is run.
    Analyze,
}

/// `CREATE [TEMPORARY] TABLE`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// Name.
    pub name: Name,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Columns in order. With `AS`, an entry of unknown type only reorders: see `column_names_only`.
    pub columns: Vec<ColumnDef>,
    /// Bare names of a CTAS column list (`CREATE TABLE t (b, a) WITH … AS …`).
    pub column_names_only: Vec<String>,
    /// `WATERMARK FOR`.
    pub watermark: Option<WatermarkDef>,
    /// `PRIMARY KEY`.
    pub primary_key: Option<PrimaryKey>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `PARTITIONED BY`.
    pub partitioned_by: Vec<SqlExpr>,
    /// `WITH`.
    pub options: BTreeMap<String, String>,
    /// `LIKE`.
    pub like: Option<Like>,
    /// `AS`.
    pub query: Option<Query>,
}

/// `LIKE source (…)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Like {
    /// Source table.
    pub source: Name,
    /// Options in the order written.
    pub options: Vec<(LikeAction, LikeFeature)>,
}

/// INCLUDING, EXCLUDING, OVERWRITING.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeAction {
    /// Take; a duplicate is an error.
    Including,
    /// Leave out.
    Excluding,
    /// Take; the new table's own wins.
    Overwriting,
}

/// Feature of a LIKE option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeFeature {
    /// Everything.
    All,
    /// Primary key.
    Constraints,
    /// `DISTRIBUTED`.
    Distribution,
    /// `PARTITIONED BY`.
    Partitions,
    /// Computed columns.
    Generated,
    /// `WITH`.
    Options,
    /// Watermark.
    Watermarks,
    /// Metadata columns.
    Metadata,
}

/// `CREATE [TEMPORARY] VIEW`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    /// Name.
    pub name: Name,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Column names.
    pub columns: Vec<String>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// The query. Table hints inside views are kept with it.
    pub query: Query,
}

/// `CREATE [TEMPORARY [SYSTEM]] [AGGREGATE] FUNCTION` with its body.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateFunction {
    /// Name; of one part if `system`.
    pub name: Name,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `SYSTEM`: known under its bare name in every database.
    pub system: bool,
    /// `AGGREGATE`.
    pub aggregate: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `OR REPLACE`.
    pub replace: bool,
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
    /// `RETURNS`.
    pub returns: Returns,
    /// `LANGUAGE`.
    pub language: FunctionLanguage,
    /// `DETERMINISTIC`, unless `NOT` stands before it.
    pub deterministic: bool,
    /// `RETURNS NULL ON NULL INPUT`.
    pub strict: bool,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// The text behind `AS`.
    pub body: String,
    /// Where its first character stands.
    pub body_location: Location,
    /// `WITH`.
    pub options: BTreeMap<String, String>,
    /// The statement as it is written.
    pub text: String,
}

/// A parameter of a function, or a column of the table that it returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name.
    pub name: String,
    /// Type.
    pub ty: LogicalType,
    /// Where the name stands.
    pub location: Location,
}

/// What a function gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Returns {
    /// `RETURNS type`, and where the type stands.
    Value(LogicalType, Location),
    /// `RETURNS TABLE (column type, …)`.
    Table(Vec<Parameter>),
}

/// What a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FunctionLanguage {
    /// An expression or a query.
    Sql,
    /// A script for QuickJS.
    JavaScript,
    /// A script for a Python of the user's.
    Python,
}

impl FunctionLanguage {
    /// As it is written.
    pub fn keyword(self) -> &'static str {
        match self {
            FunctionLanguage::Sql => "SQL",
            FunctionLanguage::JavaScript => "JAVASCRIPT",
            FunctionLanguage::Python => "PYTHON",
        }
    }
}

/// What DROP drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropKind {
    /// Table.
    Table,
    /// View.
    View,
    /// Database.
    Database,
    /// Catalog.
    Catalog,
}

/// `SHOW …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// `SHOW CATALOGS [LIKE]`.
    Catalogs(Option<NamePattern>),
    /// `SHOW CURRENT CATALOG`.
    CurrentCatalog,
    /// `SHOW DATABASES [FROM c] [LIKE]`.
    Databases(Option<Name>, Option<NamePattern>),
    /// `SHOW CURRENT DATABASE`.
    CurrentDatabase,
    /// `SHOW TABLES [FROM d] [LIKE]`; lists views too.
    Tables(Option<Name>, Option<NamePattern>),
    /// `SHOW VIEWS [FROM d] [LIKE]`.
    Views(Option<Name>, Option<NamePattern>),
    /// `SHOW COLUMNS FROM t [LIKE]`.
    Columns(Name, Option<NamePattern>),
    /// `SHOW FUNCTIONS [LIKE]`.
    Functions(Option<NamePattern>),
    /// `SHOW USER FUNCTIONS [LIKE]`.
    UserFunctions(Option<NamePattern>),
    /// `SHOW CREATE TABLE t`.
    CreateTable(Name),
    /// `SHOW CREATE VIEW v`.
    CreateView(Name),
    /// `SHOW CREATE CATALOG c`.
    CreateCatalog(Name),
    /// `SHOW CREATE FUNCTION f`.
    CreateFunction(Name),
}

/// `[NOT] LIKE|ILIKE 'pattern'` of SHOW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    /// `NOT`.
    pub negated: bool,
    /// `ILIKE`.
    pub case_insensitive: bool,
    /// SQL pattern; `\%` and `\_` are literal.
    pub pattern: String,
}
