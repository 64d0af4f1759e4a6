//! What runs a script: batches in, batches out.

use std::fmt::Debug;

use arrow::array::{ArrayRef, StringArray};

use crate::error::Result;

/// Runs the script of one function. Calls come from several threads at a time.
pub(crate) trait Engine: Debug + Send + Sync {
    /// Loads the script, to find what is wrong with it.
    ///
    /// # Errors
    /// Data, for scripts that fail or define something else than the function needs; External.
    fn load(&self) -> Result<()>;

    /// A value for each row, of the type that the function returns. `args` have the types of the parameters.
    ///
    /// # Errors
    /// Data, with function and row.
    fn call(&self, args: &[ArrayRef], rows: usize) -> Result<ArrayRef>;

    /// States of an aggregate with rows added to them or taken back.
    ///
    /// # Errors
    /// As [`Engine::call`].
    fn accumulate(&self, rows: &Accumulate<'_>) -> Result<StringArray>;

    /// `states`, each with those of `others` that `groups` puts into it.
    ///
    /// # Errors
    /// As [`Engine::call`].
    fn merge(&self, states: &StringArray, groups: &[u32], others: &StringArray) -> Result<StringArray>;

    /// Results of states.
    ///
    /// # Errors
    /// As [`Engine::call`].
    fn finish(&self, states: &StringArray) -> Result<ArrayRef>;

    /// Which of `retract` and `merge` the script of an aggregate has, once it is loaded.
    ///
    /// # Errors
    /// As [`Engine::load`].
    fn abilities(&self) -> Result<Abilities>;
}

/// What an aggregate can do beyond adding rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Abilities {
    /// It has `retract`.
    pub(crate) retracts: bool,
    /// It has `merge`.
    pub(crate) merges: bool,
}

/// Rows for an aggregate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accumulate<'a> {
    /// A state as text for each group; NULL for a new one.
    pub(crate) states: &'a StringArray,
    /// The group of each row.
    pub(crate) groups: &'a [u32],
    /// Whether each row is taken back; `None`: none is.
    pub(crate) signs: Option<&'a [i8]>,
    /// Arguments in the types of the parameters.
    pub(crate) args: &'a [ArrayRef],
}
