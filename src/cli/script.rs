//! Scripts: their texts, their statements, and errors that point into them.

use std::io::Read;

use crate::error::{Error, Result};
use crate::sql::ast::ParsedStatement;
use crate::sql::render_error;

use super::args::Input;

/// A text to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    /// What errors call it.
    pub(super) name: String,
    /// The text.
    pub(super) text: String,
}

/// An error with the script it came from.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) script: Option<Script>,
    pub(super) error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { script: None, error }
    }
}

impl Failure {
    /// As printed: `error: FILE:LINE:COL: what, and what to do`, with the source line underlined.
    pub(super) fn render(&self) -> String {
        match &self.script {
            Some(script) => render_error(&self.error, &script.name, &script.text),
            None => render_error(&self.error, "", ""),
        }
    }
}

impl Script {
    /// Attaches the script to an error.
    pub(super) fn failure(&self, error: Error) -> Failure {
        Failure { script: Some(self.clone()), error }
    }

    /// Its statements.
    pub(super) fn statements(&self) -> Result<Vec<ParsedStatement>, Failure> {
        crate::sql::parse_script(&self.text).map_err(|e| self.failure(e))
    }

    /// The script of an argument: a file, or `-` for standard input.
    fn read(file: &str) -> Result<Self> {
        let (name, text) = if file == "-" {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text).map(|_| text);
            ("<stdin>", read)
        } else {
            (file, std::fs::read_to_string(file))
        };
        match text {
            Ok(text) => {
                // A byte order mark is no part of the first statement.
                let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
                Ok(Script { name: name.to_owned(), text })
            }
            Err(e) => Err(Error::external(format!("cannot read {name}: {e}"))),
        }
    }
}

/// All scripts of the arguments, in the order they run.
pub(super) fn scripts(input: &Input) -> Result<Vec<Script>> {
    if input.files.is_empty() && input.execute.is_empty() {
        return Err(
            Error::validation("nothing to run").hint("name a SQL file, - for standard input, or -e \"SQL\"")
        );
    }
    let files = input.files.iter().map(|f| Script::read(f));
    let texts = input.execute.iter().map(|sql| Ok(Script { name: "<-e>".to_owned(), text: sql.clone() }));
    files.chain(texts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Location;

    #[test]
    fn errors_name_their_script() {
        let script = Script { name: "q.sql".into(), text: "SELECT *\nFROM odrers;".into() };
        let e = Error::validation("Object 'odrers' not found").at(Location { line: 2, column: 6 });
        let rendered = script.failure(e).render();
        assert!(rendered.starts_with("error: q.sql:2:6: Object 'odrers' not found\n"), "{rendered}");
        assert!(rendered.contains("FROM odrers;") && rendered.contains('^'), "{rendered}");
        assert_eq!(Failure::from(Error::syntax("x")).render(), "error: x");
    }

    #[test]
    fn something_has_to_be_run() {
        let input = Input { files: vec![], execute: vec![], set: vec![] };
        assert!(scripts(&input).unwrap_err().to_string().starts_with("nothing to run"));
        let input = Input { files: vec![], execute: vec!["SELECT 1".into()], set: vec![] };
        assert_eq!(scripts(&input).unwrap()[0].text, "SELECT 1");
    }

    #[test]
    fn missing_files_are_named() {
        let e = Script::read("/does/not/exist.sql").unwrap_err();
        assert!(e.to_string().starts_with("cannot read /does/not/exist.sql: "), "{e}");
    }
}
