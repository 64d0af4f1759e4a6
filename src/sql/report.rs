//! Errors as the command line prints them.
//!
//! ```text
//! error: q.sql:2:8: column `prise` not found; did you mean `price`?
//!   2 | SELECT prise FROM orders
//!     |        ^~~~~
//! ```

use std::borrow::Cow;

use super::lexer;
use super::lexer::Lexeme;
use crate::error::{Error, ErrorKind, Location};
use crate::options::hides_secret;

/// Columns shown of a very long line.
const WIDTH: usize = 160;
const TAB: usize = 4;

/// `error: FILE:LINE:COL: what; what to do`, the source line and an underline below the token at fault.
pub fn render_error(error: &Error, file: &str, text: &str) -> String {
    let mut message = error.message();
    if error.kind() == ErrorKind::Internal {
        message = format!("internal error: {message}");
    }
    if let Some(hint) = error.hint_text() {
        message.push_str("; ");
        message.push_str(hint);
    }
    let Some(at) = error.location() else {
        return if file.is_empty() {
            format!("error: {message}")
        } else {
            format!("error: {file}: {message}")
        };
    };
    let head = if file.is_empty() {
        format!("error: {at}: {message}")
    } else {
        format!("error: {file}:{at}: {message}")
    };
    match excerpt(at, text) {
        Some(excerpt) => format!("{head}\n{excerpt}"),
        None => head,
    }
}

fn excerpt(at: Location, text: &str) -> Option<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line_index = usize::try_from(at.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
    // `split` and not `lines`: an error may stand on the empty line behind the last newline.
    let line = text.split('\n').nth(line_index)?;
    let line = mask_secrets(line.strip_suffix('\r').unwrap_or(line));
    let chars: Vec<char> = line.chars().collect();
    let length = token_length(at, text).min(chars.len().saturating_sub(column)).max(1);

    // A window of a very long line that holds the place.
    let from = if chars.len() > WIDTH { column.saturating_sub(WIDTH / 2) } else { 0 };
    let shown = chars.get(from..chars.len().min(from + WIDTH)).unwrap_or(&[]);
    let cells = |cs: &[char]| cs.iter().map(|c| width(*c)).sum::<usize>();
    let lead = if from > 0 { "…" } else { "" };
    let trail = if chars.len() > from + WIDTH { "…" } else { "" };
    let source: String = shown
        .iter()
        .map(|c| {
            if *c == '\t' {
                " ".repeat(TAB)
            } else if c.is_control() {
                " ".into()
            } else {
                c.to_string()
            }
        })
        .collect();
    let before = cells(shown.get(..(column - from).min(shown.len())).unwrap_or(&[])) + lead.chars().count();
    let under =
        cells(shown.get(column - from..(column - from + length).min(shown.len())).unwrap_or(&[])).max(1);

    let number = at.line.to_string();
    let pad = " ".repeat(number.len());
    Some(format!(
        "  {number} | {lead}{source}{trail}\n  {pad} | {}^{}",
        " ".repeat(before),
        "~".repeat(under - 1)
    ))
}

/// A line with asterisks for the value of `'…password…' = 'value'`, one for each character: places stay where they are.
fn mask_secrets(line: &str) -> Cow<'_, str> {
    // The text between the next two quotes, or behind the last one.
    let quoted = |from: usize| {
        let open = from + line.get(from..)?.find('\'')? + 1;
        let close = line.get(open..)?.find('\'').map_or(line.len(), |n| open + n);
        Some((open, close))
    };
    let mut masked = String::new();
    let (mut done, mut at) = (0, 0);
    while let Some((from, to)) = quoted(at) {
        at = to + 1;
        let key = line.get(from..to).unwrap_or_default();
        let Some((from, to)) = quoted(at) else { break };
        let value = line.get(from..to).unwrap_or_default();
        let is_value = line.get(at..from - 1).is_some_and(|between| between.trim() == "=");
        if is_value && hides_secret(key, value) {
            masked.push_str(line.get(done..from).unwrap_or_default());
            masked.extend(line.get(from..to).unwrap_or_default().chars().map(|_| '*'));
            (done, at) = (to, to + 1);
        }
    }
    if done == 0 {
        return Cow::Borrowed(line);
    }
    masked.push_str(line.get(done..).unwrap_or_default());
    Cow::Owned(masked)
}

/// Characters of the token at a place; 1 where there is none.
fn token_length(at: Location, text: &str) -> usize {
    let one_line = |l: &Lexeme| {
        if l.end.line == l.start.line {
            usize::try_from(l.end.column - l.start.column).unwrap_or(1)
        } else {
            usize::MAX
        }
    };
    match lexer::tokenize(text) {
        Ok(tokens) => tokens.iter().find(|l| l.start == at).map_or(1, one_line),
        Err(_) => 1,
    }
}

/// Cells a character takes on a terminal.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x9 => TAB,
        // Combining marks, joiners and variation selectors.
        0x300..=0x36f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        // East Asian wide and emoji.
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_in_the_line_shown() {
        let masked = |line: &str| mask_secrets(line).into_owned();
        assert_eq!(
            masked("WITH ('a' = 'b', 'properties.sasl.password' = 'hünter2', 'c'='d')"),
            "WITH ('a' = 'b', 'properties.sasl.password' = '*******', 'c'='d')"
        );
        assert_eq!(
            masked("'s3.secret-access-key'='x','token' = 'y', 'z' = 'z'"),
            "'s3.secret-access-key'='*','token' = '*', 'z' = 'z'"
        );
        assert_eq!(
            masked("'url' = 'jdbc:mysql://h/d?password=x', 'url' = 'http://h'"),
            "'url' = '***************************', 'url' = 'http://h'"
        );
        // An open string is all secret; what is no assignment stays.
        assert_eq!(masked("'password' = 'abc"), "'password' = '***");
        assert_eq!(masked("SELECT 'password', 'abc', 'token'"), "SELECT 'password', 'abc', 'token'");
        assert_eq!(masked("'password' ="), "'password' =");
    }

    #[test]
    fn an_error_does_not_tell_a_password() {
        let text = "CREATE TABLE t (a INT)\nWITH ('password' = 'hunter2', 'x' = 1)";
        let error = Error::syntax("expected a string").at(Location { line: 2, column: 37 });
        let told = render_error(&error, "q.sql", text);
        assert!(!told.contains("hunter2"), "{told}");
        assert!(
            told.ends_with(
                "  2 | WITH ('password' = '*******', 'x' = 1)\n    |                                     ^"
            ),
            "{told}"
        );
    }
}
