//! Errors as the command line prints them.
//!
//! ```text
//! error: q.sql:2:8: column `prise` not found; did you mean `price`?
//!   2 | SELECT prise FROM orders
//!     |        ^~~~~
//! ```

use super::lexer;
use super::lexer::Lexeme;
use crate::error::{Error, ErrorKind, Location};

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
    let line = line.strip_suffix('\r').unwrap_or(line);
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
