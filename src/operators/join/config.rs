//! What the planner hands to a join.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};

/// An input of a join; also its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinSide {
    /// Port 0.
    Left,
    /// Port 1.
    Right,
}

impl JoinSide {
    /// The input on the other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            JoinSide::Left => JoinSide::Right,
            JoinSide::Right => JoinSide::Left,
        }
    }
}

/// Which rows a join gives. Right semi and anti joins are left ones with the inputs exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// Pairs that match.
    Inner,
    /// Pairs, and left rows without match padded with NULLs.
    Left,
    /// Pairs, and right rows without match padded with NULLs.
    Right,
    /// Pairs, and rows of both sides without match.
    Full,
    /// Left rows with a match: IN, EXISTS.
    LeftSemi,
    /// Left rows without match: NOT EXISTS.
    LeftAnti,
    /// Left rows for which NOT IN is true: an anti join in which NULL on either side makes the answer unknown. One
    /// key, no residual condition, a single subtask.
    NullAwareLeftAnti,
    /// Every left row, and whether it has a match: [`JoinColumn::Mark`].
    LeftMark,
}

impl JoinKind {
    /// Whether rows of `side` without match come out padded.
    pub fn pads(self, side: JoinSide) -> bool {
        match side {
            JoinSide::Left => matches!(self, JoinKind::Left | JoinKind::Full),
            JoinSide::Right => matches!(self, JoinKind::Right | JoinKind::Full),
        }
    }

    /// Whether only left rows come out.
    pub fn is_left_only(self) -> bool {
        matches!(
            self,
            JoinKind::LeftSemi | JoinKind::LeftAnti | JoinKind::NullAwareLeftAnti | JoinKind::LeftMark
        )
    }

    /// As in Flink's plans.
    pub fn name(self) -> &'static str {
        match self {
            JoinKind::Inner => "InnerJoin",
            JoinKind::Left => "LeftOuterJoin",
            JoinKind::Right => "RightOuterJoin",
            JoinKind::Full => "FullOuterJoin",
            JoinKind::LeftSemi => "LeftSemiJoin",
            JoinKind::LeftAnti => "LeftAntiJoin",
            JoinKind::NullAwareLeftAnti => "NullAwareLeftAntiJoin",
            JoinKind::LeftMark => "LeftMarkJoin",
        }
    }
}

/// What is known of the rows of one input; decides how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UniqueKey {
    /// The join key holds a unique key: one row per join key.
    JoinKey,
    /// These columns are unique.
    Columns(Vec<usize>),
    /// Nothing: a bag of rows.
    None,
}

/// One input of a join.
#[derive(Debug, Clone)]
pub struct JoinInput {
    /// Its columns.
    pub schema: SchemaRef,
    /// Columns of the join key, in the order of the other side's.
    pub keys: Vec<usize>,
    /// What is known of it.
    pub unique: UniqueKey,
    /// Whether it may hold `-U` and `-D`.
    pub retracts: bool,
    /// Rows not written for so long are forgotten.
    pub ttl_ms: Option<i64>,
}

/// The part of the condition that is no equality of keys.
#[derive(Debug, Clone)]
pub struct JoinFilter {
    /// Over `columns`.
    pub condition: Arc<dyn PhysicalExpr>,
    /// The columns that it reads.
    pub columns: Vec<(JoinSide, usize)>,
    /// Their schema.
    pub schema: SchemaRef,
}

/// Where an output column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinColumn {
    /// A column of an input.
    Input(JoinSide, usize),
    /// Of a mark join: whether the left row has a match.
    Mark,
}

/// A regular join.
#[derive(Debug, Clone)]
pub struct JoinConfig {
    /// Rows it gives.
    pub kind: JoinKind,
    /// Port 0.
    pub left: JoinInput,
    /// Port 1.
    pub right: JoinInput,
    /// For each key, whether NULL is equal to NULL.
    pub null_safe: Vec<bool>,
    /// Residual condition.
    pub filter: Option<JoinFilter>,
    /// Output columns.
    pub output: Vec<JoinColumn>,
    /// Their schema.
    pub output_schema: SchemaRef,
    /// Whether a consumer needs `-U` before `+U`.
    pub emit_update_before: bool,
}

impl JoinConfig {
    /// The input of `side`.
    pub fn input(&self, side: JoinSide) -> &JoinInput {
        match side {
            JoinSide::Left => &self.left,
            JoinSide::Right => &self.right,
        }
    }

    /// Types of the key columns.
    pub fn key_types(&self) -> Vec<DataType> {
        self.left.keys.iter().map(|k| self.left.schema.field(*k).data_type().clone()).collect()
    }

    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// Internal, naming what does not fit.
    pub fn validate(&self) -> Result<()> {
        let broken = |what: &str| Err(Error::internal(format!("join: {what}")));
        if self.left.keys.len() != self.right.keys.len() || self.left.keys.len() != self.null_safe.len() {
            return broken("the sides have different numbers of keys");
        }
        for (l, r) in self.left.keys.iter().zip(&self.right.keys) {
            let (l, r) = (self.left.schema.field(*l), self.right.schema.field(*r));
            if l.data_type() != r.data_type() {
                return broken(&format!(
                    "key {} is {} on the left and {} on the right",
                    l.name(),
                    l.data_type(),
                    r.data_type()
                ));
            }
        }
        if self.output.len() != self.output_schema.fields().len() {
            return broken("output layout and output schema differ in length");
        }
        for (column, field) in self.output.iter().zip(self.output_schema.fields()) {
            let ty = match *column {
                JoinColumn::Mark if self.kind == JoinKind::LeftMark => DataType::Boolean,
                JoinColumn::Mark => return broken("a mark in a join without"),
                JoinColumn::Input(JoinSide::Right, _) if self.kind.is_left_only() => {
                    return broken("a right column of a join that gives left rows only");
                }
                JoinColumn::Input(side, c) => self.input(side).schema.field(c).data_type().clone(),
            };
            if ty != *field.data_type() {
                return broken(&format!("output column {} is {ty}, not {}", field.name(), field.data_type()));
            }
        }
        if self.kind == JoinKind::NullAwareLeftAnti && (self.left.keys.len() != 1 || self.filter.is_some()) {
            return broken("a null-aware anti join has one key and no residual condition");
        }
        Ok(())
    }
}
