//! Cutting CSV text into records and fields.

use std::borrow::Cow;

use super::CsvOptions;
use crate::formats::bytes::find2;
use crate::formats::record::{Frame, frame_line};

/// One field.
pub(super) struct Cell<'a> {
    /// Its text, without quotes and escapes.
    pub(super) text: Cow<'a, str>,
    /// Where the next field begins; `None` after the last one.
    pub(super) next: Option<usize>,
}

/// The record at the beginning of `data`, whose quoted fields may hold line breaks.
pub(super) fn frame(data: &[u8], end: bool, options: &CsvOptions) -> Option<Frame> {
    let line = frame_line(data, end);
    let Some(quote) = options.quote else {
        return if options.escape.is_none() { line } else { frame_quoted(data, end, options) };
    };
    if let Some(line) = line
        && options.escape.is_none()
        && find2(data.get(..line.record).unwrap_or_default(), 0, quote, quote) == line.record
    {
        return Some(line);
    }
    if options.allow_comments && is_comment(data) {
        return line;
    }
    frame_quoted(data, end, options)
}

/// Whether the record is a comment.
pub(super) fn is_comment(record: &[u8]) -> bool {
    record.iter().find(|b| **b != b' ') == Some(&b'#')
}

fn frame_quoted(data: &[u8], end: bool, options: &CsvOptions) -> Option<Frame> {
    let mut pos = 0;
    let mut at_start = true; // of a field
    let mut in_quotes = false;
    while let Some(b) = data.get(pos) {
        if Some(*b) == options.escape {
            pos += 1; // the next byte is part of the field, whatever it is
            at_start = false;
        } else if in_quotes {
            if Some(*b) == options.quote {
                if data.get(pos + 1) == options.quote.as_ref() {
                    pos += 1;
                } else if pos + 1 == data.len() && !end {
                    return None; // a doubled quote or the end of the field: not to be told yet
                } else {
                    in_quotes = false;
                }
            }
        } else if *b == b'\n' {
            let record = data.get(..pos).unwrap_or_default();
            let record = record.strip_suffix(b"\r").unwrap_or(record).len();
            return Some(Frame { record, total: pos + 1 });
        } else if *b == options.delimiter {
            at_start = true;
        } else if at_start && Some(*b) == options.quote {
            (in_quotes, at_start) = (true, false);
        } else if !(options.trim_spaces && *b == b' ') {
            at_start = false;
        }
        pos += 1;
    }
    if !end {
        return None;
    }
    let record = data.strip_suffix(b"\r").filter(|_| !in_quotes).unwrap_or(data).len();
    Some(Frame { record, total: data.len() })
}

/// The field that begins at `pos` of a record.
pub(super) fn cell<'a>(record: &'a str, pos: usize, options: &CsvOptions) -> Result<Cell<'a>, &'static str> {
    let bytes = record.as_bytes();
    let mut start = pos;
    if options.trim_spaces {
        while bytes.get(start) == Some(&b' ') {
            start += 1;
        }
    }
    if bytes.get(start).is_some() && bytes.get(start) == options.quote.as_ref() {
        return quoted(record, start + 1, options);
    }
    let Some(escape) = options.escape else {
        let end = find2(bytes, start, options.delimiter, options.delimiter);
        let text = record.get(start..end).unwrap_or_default();
        let text = if options.trim_spaces { text.trim_end_matches(' ') } else { text };
        return Ok(Cell { text: Cow::Borrowed(text), next: (end < bytes.len()).then_some(end + 1) });
    };
    let mut text = String::new();
    let mut at = start;
    loop {
        let end = find2(bytes, at, options.delimiter, escape);
        text.push_str(record.get(at..end).unwrap_or_default());
        if bytes.get(end) != Some(&escape) {
            if options.trim_spaces {
                text.truncate(text.trim_end_matches(' ').len());
            }
            return Ok(Cell { text: Cow::Owned(text), next: (end < bytes.len()).then_some(end + 1) });
        }
        at = end + 1 + push_escaped(record, end + 1, &mut text)?;
    }
}

/// The field whose text begins at `start`, after its opening quote.
fn quoted<'a>(record: &'a str, start: usize, options: &CsvOptions) -> Result<Cell<'a>, &'static str> {
    let bytes = record.as_bytes();
    let quote = options.quote.unwrap_or(b'"');
    let escape = options.escape.unwrap_or(quote);
    let mut owned: Option<String> = None;
    let mut at = start;
    loop {
        let end = find2(bytes, at, quote, escape);
        let run = record.get(at..end).unwrap_or_default();
        match bytes.get(end) {
            None => return Err("a quoted field has no end"),
            Some(b) if *b == quote => {
                if bytes.get(end + 1) == Some(&quote) {
                    let text = owned.get_or_insert_default();
                    text.push_str(run);
                    text.push(char::from(quote));
                    at = end + 2;
                    continue;
                }
                let text = match owned {
                    None => Cow::Borrowed(run),
                    Some(mut text) => {
                        text.push_str(run);
                        Cow::Owned(text)
                    }
                };
                let mut after = end + 1;
                while bytes.get(after) == Some(&b' ') {
                    after += 1;
                }
                return match bytes.get(after) {
                    None => Ok(Cell { text, next: None }),
                    Some(b) if *b == options.delimiter => Ok(Cell { text, next: Some(after + 1) }),
                    Some(_) => Err("a quoted field is followed by something else than a delimiter"),
                };
            }
            Some(_) => {
                let text = owned.get_or_insert_default();
                text.push_str(run);
                at = end + 1 + push_escaped(record, end + 1, text)?;
            }
        }
    }
}

/// Appends the escaped character at `at`; gives its length.
fn push_escaped(record: &str, at: usize, text: &mut String) -> Result<usize, &'static str> {
    let c = record.get(at..).and_then(|r| r.chars().next()).ok_or("an escape character ends the record")?;
    text.push(match c {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '0' => '\0',
        other => other,
    });
    Ok(c.len_utf8())
}
