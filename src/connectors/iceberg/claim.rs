//! Taking over a table that keeps how far its source was read.
//!
//! ```text
//!  what does the table say? (Ledger) ─► generation + 1, in an empty snapshot ─► from here on no older process can commit
//! ```
//!
//! No lease and no clock: whoever has the highest generation in the table writes, and the commits of all others are refused
//! by the check that is one step with them.

use iceberg::table::Table;
use uuid::Uuid;

use super::commit::{Append, Change, Kept, Landed, Target, diverged};
use super::mark::{ClaimMark, Ledger, to_states};
use crate::edges::Claim;
use crate::error::{Error, Result, ResultExt};
use crate::failpoint::failpoint;
use crate::stream::Epoch;

/// How often others may come in between.
const ATTEMPTS: u32 = 20;

/// Takes a table over for this process. A table that was rolled back is gone on from where its rows end, if `resumes`.
///
/// # Errors
/// Validation if it was rolled back otherwise; External.
pub(super) async fn claim(target: &Target, mut table: Table, resumes: bool) -> Result<Claim> {
    let shown = target.lake.shown(&target.ident);
    for _ in 0..ATTEMPTS {
        let metadata = table.metadata();
        let before = Ledger::read(metadata).context(|| shown.clone())?;
        let mut at = before.clone().unwrap_or_else(|| Ledger {
            pipeline: Uuid::now_v7(),
            generation: 0,
            epoch: 0,
            claim: Uuid::nil(),
            positions: None,
            is_rolled_back: false,
        });
        if at.is_rolled_back {
            if !resumes {
                return Err(diverged(&shown));
            }
            at.positions = Some(Ledger::positions_of_rows(metadata).ok_or_else(|| {
                Error::validation(format!(
                    "{shown} was rolled back, and the snapshots that say how far its rows reach have expired"
                ))
                .hint("roll it forward again, or begin with a new table")
            })?);
        }
        (at.generation, at.claim, at.is_rolled_back) = (at.generation + 1, Uuid::new_v4(), false);
        let mark = ClaimMark { table: metadata.uuid(), before, claim: at.claim };
        let change = Change {
            what: format!("claim of generation {}", at.generation),
            judge: &mark,
            summary: at.claim_summary(),
            properties: at.properties(),
            evolution: None,
            recovered: false,
        };
        failpoint("iceberg-claiming");
        if target.commit(&change, &mut Append { shown: &shown, files: &[] }).await? == Landed::Committed {
            failpoint("iceberg-claimed");
            return Ok(Claim {
                generation: at.generation,
                epoch: Epoch(at.epoch),
                positions: at.positions.as_ref().map(to_states),
            });
        }
        table = target.lake.load(&target.ident).await?;
    }
    Err(Error::external(format!("{shown}: other processes take the table over all the time"))
        .hint("let one process write to it"))
}

/// What a table that was claimed says, unless somebody else has claimed it since.
///
/// # Errors
/// Validation if so.
pub(super) fn taken(table: &Table, claim: &Claim) -> Result<Kept> {
    match Ledger::read(table.metadata())? {
        Some(at) if at.generation == claim.generation && at.epoch == claim.epoch.0 => {
            Ok(Kept::new(at, table.metadata().uuid()))
        }
        _ => Err(Error::validation("the table was taken over by another process at the same time")
            .hint("let one of the two run")),
    }
}
