//! `tidelake explain`: queries and inserts are only planned, and so that they can be, definitions are made for as long as the
//! session. In catalogs that last longer, those of Iceberg, CREATE and DROP are rehearsed: the statements that follow see them,
//! the catalog stays as it is. ALTER says what it would do there.

use std::process::ExitCode;

use crate::session::SessionOptions;
use crate::sql::ast::{ExplainDetail, ParsedStatement, Statement};

use super::args::ExplainArgs;
use super::interrupt::Interrupts;
use super::run::Shell;
use super::script::{Failure, scripts};
use super::stderr::say;

pub(super) async fn main(args: ExplainArgs) -> ExitCode {
    match explain(args).await {
        Ok(code) => code,
        Err(failure) => {
            say(&failure.render());
            ExitCode::FAILURE
        }
    }
}

async fn explain(args: ExplainArgs) -> Result<ExitCode, Failure> {
    let details = if args.changelog_mode { vec![ExplainDetail::ChangelogMode] } else { Vec::new() };
    let scripts = scripts(&args.input)?;
    let options = SessionOptions { config: args.input.set, rehearsal: true, ..SessionOptions::default() };
    let mut shell = Shell::new(options, Interrupts::listen())?;
    shell.run(&scripts, |statement| explained(statement, &details)).await
}

/// The EXPLAIN of a statement that would run a job or alter a table; others as they are.
fn explained(parsed: ParsedStatement, details: &[ExplainDetail]) -> ParsedStatement {
    let ParsedStatement { statement, location, text } = parsed;
    let explain = |target| Statement::Explain { details: details.to_vec(), target: Box::new(target) };
    let statement = match statement {
        target @ (Statement::Query(_)
        | Statement::Insert(_)
        | Statement::StatementSet(_)
        | Statement::RowChange(_)
        | Statement::Truncate(_)
        | Statement::Alter(_)) => explain(target),
        // CREATE TABLE AS would run its query. Its plan is all that is left of it; the table is not created.
        Statement::CreateTable(mut create) => match create.query.take() {
            Some(query) => explain(Statement::Query(query)),
            None => Statement::CreateTable(create),
        },
        other => other,
    };
    ParsedStatement { statement, location, text }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::error::Location;
    use crate::sql::ast::{Alter, Name};

    #[test]
    fn only_jobs_are_wrapped() {
        let wrap = |statement| {
            let parsed = ParsedStatement { statement, location: Location::default(), text: String::new() };
            explained(parsed, &[ExplainDetail::ChangelogMode]).statement
        };
        assert!(matches!(
            wrap(Statement::StatementSet(vec![])),
            Statement::Explain { details, target }
                if details == [ExplainDetail::ChangelogMode] && *target == Statement::StatementSet(vec![])
        ));
        let name = Name { parts: vec!["t".to_owned()], location: Location::default() };
        assert!(matches!(wrap(Statement::Truncate(name)), Statement::Explain { .. }));
        let (options, name) = (BTreeMap::new(), Name { parts: Vec::new(), location: Location::default() });
        let alter = Statement::Alter(Alter::Database { name, options });
        assert!(matches!(wrap(alter), Statement::Explain { .. }));
        assert_eq!(wrap(Statement::Set(None)), Statement::Set(None));
    }
}
