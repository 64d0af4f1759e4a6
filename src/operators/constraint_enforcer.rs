//! The last step before a sink: rows get exactly the sink's schema, NULLs in NOT NULL columns are refused or dropped
//! (`table.exec.sink.not-null-enforcer`).
//!
//! | | |
//! |---|---|
//! | state | none |
//! | changelog | any in, the same out |

use arrow::datatypes::SchemaRef;

use crate::edges::not_null::{NotNullEnforcer, enforce};
use crate::error::Result;
use crate::runtime::operator::{Operator, Output, Progress};
use crate::stream::ChangeBatch;

/// [`enforce`] as an operator.
#[derive(Debug)]
pub struct ConstraintEnforcerOperator {
    schema: SchemaRef,
    policy: NotNullEnforcer,
}

impl ConstraintEnforcerOperator {
    /// For a sink with `schema`.
    pub fn new(schema: SchemaRef, policy: NotNullEnforcer) -> Self {
        ConstraintEnforcerOperator { schema, policy }
    }
}

impl Operator for ConstraintEnforcerOperator {
    fn name(&self) -> &'static str {
        "ConstraintEnforcer"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        out.emit(enforce(batch, &self.schema, self.policy)?);
        Ok(Progress::Done)
    }
}
