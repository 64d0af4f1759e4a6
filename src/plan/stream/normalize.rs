//! Lowering of the two operators that make a changelog fit a key: `ChangelogNormalize` behind sources of upserts, and
//! `SinkMaterializer` before sinks whose PRIMARY KEY is not the query's.

use crate::error::Result;
use crate::plan::stream::{Relation, StreamPlanner, not_yet};
use crate::sql::ast::ConflictStrategy;

impl StreamPlanner {
    /// Puts a `ChangelogNormalize` by the physical columns `key` behind `input`, a source that sends `+I`/`+U` and `-D` by
    /// key (a `-D` may hold nothing but its key), or whole changes of which some may come twice.
    pub(super) fn lower_changelog_normalize(&mut self, _input: Relation, _key: &[usize]) -> Result<Relation> {
        Err(not_yet("an upsert source"))
    }

    /// Puts a `SinkMaterializer` by the physical columns `key` behind `input`, the sink's rows; `strategy` says which of
    /// the rows that meet in a key is shown.
    pub(super) fn lower_sink_materializer(
        &mut self,
        _input: Relation,
        _key: &[usize],
        strategy: ConflictStrategy,
    ) -> Result<Relation> {
        Err(not_yet(&format!("ON CONFLICT DO {} for keys that differ", strategy.keyword())))
    }
}
