//! Regular expressions of java.util.regex.
//!
//! They are Rust's `regex`, whose time is linear in the text. What is spelled alike and means another thing is translated:
//! `\d`, `\w` and `\s` are of ASCII, `.` is none of Java's ends of lines, `\p{Alpha}` and its like are POSIX classes. What
//! goes back in the text is refused: look-around, back references, possessive quantifiers. `$` is the end of the text, and
//! not also before a last line break.

use std::borrow::Cow;

use regex::Regex;

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it, and whether Java knows it: that must not become a NULL.
pub(crate) fn compile(text: &str) -> std::result::Result<Regex, (String, bool)> {
    Regex::new(&translate(text)).map_err(|e| {
        let reason = e.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        (reason.to_owned(), goes_back(text))
    })
}

/// Whether a pattern has what Java takes and `regex` does not.
fn goes_back(text: &str) -> bool {
    ["(?=", "(?!", "(?<=", "(?<!", "(?>", "\\1", "\\2", "*+", "++", "?+"].iter().any(|p| text.contains(p))
}

const DIGIT: &str = "0-9";
const WORD: &str = "a-zA-Z0-9_";
const SPACE: &str = " \\t\\n\\x0B\\x0C\\r";
const BLANK: &str = " \\t\\xA0\\x{1680}\\x{180e}\\x{2000}-\\x{200a}\\x{202f}\\x{205f}\\x{3000}";
const LINE: &str = "\\n\\x0B\\x0C\\r\\x{85}\\x{2028}\\x{2029}";
const ANY: &str = "[^\\n\\r\\x{85}\\x{2028}\\x{2029}]";

/// Java's pattern in the syntax of `regex`.
fn translate(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '.', '[']) {
        return Cow::Borrowed(text);
    }
    let dot_all = text.contains("(?s") || text.contains("(?is") || text.contains("(?ms");
    let mut out = String::with_capacity(text.len() + 16);
    let mut depth = 0_usize;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let rest = text.get(at + 1..).unwrap_or("");
                let taken = escape(rest, depth > 0, &mut out);
                let end = at + 1 + taken;
                while chars.peek().is_some_and(|(i, _)| *i < end) {
                    chars.next();
                }
            }
            '[' => {
                depth += 1;
                out.push('[');
            }
            ']' if depth > 0 => {
                depth -= 1;
                out.push(']');
            }
            // Operators of `regex` that Java does not have.
            '~' if depth > 0 => out.push_str("\\~"),
            '-' if depth > 0 && chars.peek().is_some_and(|(_, next)| *next == '-') => out.push_str("\\-"),
            '.' if depth == 0 && !dot_all => out.push_str(ANY),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Translates what stands behind `\` and says how many bytes that were.
fn escape(rest: &str, in_class: bool, out: &mut String) -> usize {
    let Some(c) = rest.chars().next() else {
        out.push('\\');
        return 0;
    };
    let mut class = |members: &str, negated: bool| match (negated, in_class) {
        (true, _) => out.push_str(&format!("[^{members}]")),
        (false, true) => out.push_str(members),
        (false, false) => out.push_str(&format!("[{members}]")),
    };
    match c {
        'd' | 'D' => class(DIGIT, c == 'D'),
        'w' | 'W' => class(WORD, c == 'W'),
        's' | 'S' => class(SPACE, c == 'S'),
        'h' | 'H' => class(BLANK, c == 'H'),
        'v' | 'V' => class(LINE, c == 'V'),
        'R' => out.push_str(&format!("(?:\\r\\n|[{LINE}])")),
        'Z' => out.push_str("\\n?\\z"),
        'e' => out.push_str("\\x1B"),
        // Word boundaries there, themselves in Java.
        '<' | '>' => out.push(c),
        'Q' => {
            let body = rest.get(1..).unwrap_or("");
            let (quoted, length) = match body.find("\\E") {
                Some(end) => (body.get(..end).unwrap_or(""), 1 + end + 2),
                None => (body, rest.len()),
            };
            out.push_str(&regex::escape(quoted));
            return length;
        }
        'u' => {
            if let Some(digits) = rest.get(1..5).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())) {
                out.push_str(&format!("\\x{{{digits}}}"));
                return 5;
            }
            out.push_str("\\u");
        }
        'p' | 'P' => {
            if let Some((name, length)) = property(rest.get(1..).unwrap_or(""))
                && let Some(members) = posix(name)
            {
                class(members, c == 'P');
                return 1 + length;
            }
            out.push('\\');
            out.push(c);
            if let Some((name, length)) = property(rest.get(1..).unwrap_or("")) {
                let name = name.strip_prefix("Is").unwrap_or(name);
                out.push_str(&format!("{{{name}}}"));
                return 1 + length;
            }
        }
        c => {
            out.push('\\');
            out.push(c);
        }
    }
    c.len_utf8()
}

/// The name in `{…}`, and how long that is.
fn property(rest: &str) -> Option<(&str, usize)> {
    let body = rest.strip_prefix('{')?;
    let end = body.find('}')?;
    Some((body.get(..end)?, end + 2))
}

fn posix(name: &str) -> Option<&'static str> {
    Some(match name {
        "Lower" => "a-z",
        "Upper" => "A-Z",
        "ASCII" => "\\x00-\\x7F",
        "Alpha" => "a-zA-Z",
        "Digit" => DIGIT,
        "Alnum" => "a-zA-Z0-9",
        "Punct" => "!-/:-@\\[-`{-\\~",
        "Graph" => "!-\\~",
        "Print" => " -\\~",
        "Blank" => " \\t",
        "Cntrl" => "\\x00-\\x1F\\x7F",
        "XDigit" => "0-9a-fA-F",
        "Space" => SPACE,
        "javaLowerCase" => "\\p{Lowercase}",
        "javaUpperCase" => "\\p{Uppercase}",
        "javaWhitespace" => "\\p{White_Space}",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pattern: &str, s: &str) -> Vec<String> {
        compile(pattern).unwrap().find_iter(s).map(|m| m.as_str().to_owned()).collect()
    }

    #[test]
    fn what_java_means() {
        for (pattern, s, found) in [
            (r"\d+", "12 ٣٤", &["12"][..]),
            (r"\w+", "aé_1", &["a", "_1"]),
            (r"[\w-]+", "a-b é", &["a-b"]),
            (r"[^\d\s]+", "a1 b", &["a", "b"]),
            (r"[\D]+", "a1", &["a"]),
            (r"\s", "a\u{a0} b", &[" "]),
            (".", "\r\n\u{85}x", &["x"]),
            ("(?s).", "\n", &["\n"]),
            (r"\Qa.b\E.", "a.bc", &["a.bc"]),
            (r"\u00e9", "é", &["é"]),
            (r"\p{Alpha}+", "abcé", &["abc"]),
            (r"[\p{Punct}]", "a!~b", &["!", "~"]),
            (r"\P{Digit}", "1a", &["a"]),
            (r"\p{L}+", "aé1", &["aé"]),
            (r"\p{IsAlphabetic}+", "aé1", &["aé"]),
            (r"[a--c]+", "a-c", &["a-c"]),
            (r"[a~]+", "a~", &["a~"]),
            (r"[a-z&&[^b]]+", "abc", &["a", "c"]),
            (r"\<a\>", "<a>", &["<a>"]),
        ] {
            assert_eq!(all(pattern, s), found, "{pattern}");
        }
    }

    #[test]
    fn invalid_or_beyond() {
        for bad in ["(", "[", "*", "\\", "a{2,1}", "(?<n"] {
            assert!(matches!(compile(bad), Err((_, false))), "{bad}");
        }
        for beyond in [r"a(?=b)", r"(?<!a)b", r"(\w)\1", "(?>a+)b"] {
            assert!(matches!(compile(beyond), Err((_, true))), "{beyond}");
        }
    }
}
