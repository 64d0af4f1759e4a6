//! What each function is: signature, description, an example with its answer, and where it differs from Flink's.
//!
//! ```text
//!  functions.txt ─► entries ─┬─► DESCRIBE FUNCTION
//!                            ├─► docs/functions.md               a test holds both to it
//!                            └─► sql-tests/function_examples.slt
//! ```
//!
//! A line of the text is an entry: names, signature, description, example, answer, note, separated by `¦`; what is missing
//! at the end is empty. An example is what stands behind SELECT, and begins with `batch:` or `streaming:` if Flink has it in
//! one mode only. The lines of an answer are separated by `⏎`. A note begins with `different:` or `not:` and the reason.

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use datafusion::logical_expr::Documentation;

use super::registry;
use crate::functions::context::FunctionContext;

/// How a function stands to Flink's of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Supported,
    /// With the reason.
    Different(&'static str),
    /// With what to do instead.
    Not(&'static str),
}

/// A function of Flink.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    section: &'static str,
    names: Vec<&'static str>,
    signature: &'static str,
    description: &'static str,
    example: &'static str,
    /// The only mode of the example: `batch` or `streaming`.
    mode: Option<&'static str>,
    answer: &'static str,
    status: Status,
}

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let mut section = "";
    let mut entries = Vec::new();
    for line in include_str!("functions.txt").lines() {
        if let Some(name) = line.strip_prefix("== ") {
            section = name;
            continue;
        }
        let mut fields = line.split('¦').map(str::trim);
        let mut next = || fields.next().unwrap_or("");
        let names = next();
        // `,` by itself is in no name.
        let names = names.split(", ").collect();
        let (signature, description, example, answer) = (next(), next(), next(), next());
        let (mode, example) = match example.split_once(": ") {
            Some((mode @ ("batch" | "streaming"), rest)) => (Some(mode), rest),
            _ => (None, example),
        };
        let note = next();
        let status = match (note.strip_prefix("different: "), note.strip_prefix("not: ")) {
            (Some(reason), _) => Status::Different(reason),
            (_, Some(instead)) => Status::Not(instead),
            _ => Status::Supported,
        };
        entries.push(Entry { section, names, signature, description, example, mode, answer, status });
    }
    entries
});

/// What `DESCRIBE FUNCTION` shows of a built-in function: names and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionInfo {
    /// `SCALAR`, `AGGREGATE`, `WINDOW`, `TABLE`, or `SYNTAX` for operators and their like.
    pub kind: &'static str,
    /// Whether the same arguments give the same result.
    pub deterministic: bool,
    /// How it is called.
    pub signature: String,
    /// What it does.
    pub description: String,
    /// An expression that calls it, and the answer.
    pub example: Option<String>,
    /// Where it differs from Flink's.
    pub note: Option<String>,
}

/// What is known of a built-in function, by its name in any case.
pub fn describe(name: &str) -> Option<FunctionInfo> {
    let upper = name.to_uppercase();
    let entry =
        ENTRIES.iter().find(|e| !matches!(e.status, Status::Not(_)) && e.names.iter().any(|n| *n == upper));
    let lower = name.to_lowercase();
    let known = !lower.starts_with("__") && registry::names().contains(&upper);
    if entry.is_none() && !known {
        return None;
    }
    let (kind, deterministic, documentation) = kind(&lower);
    let documented = |f: fn(&Documentation) -> Option<String>| documentation.as_ref().and_then(f);
    Some(match entry {
        Some(e) => FunctionInfo {
            kind: match e.section {
                "Table functions" => "TABLE",
                _ => kind,
            },
            deterministic,
            signature: e.signature.to_owned(),
            description: e.description.to_owned(),
            example: (!e.example.is_empty()).then(|| {
                let mode = e.mode.map_or(String::new(), |mode| format!(" (in {mode})"));
                format!("SELECT {}; → {}{mode}", e.example, e.answer.replace('⏎', ", "))
            }),
            note: match e.status {
                Status::Different(reason) => Some(reason.to_owned()),
                _ => None,
            },
        },
        None => FunctionInfo {
            kind,
            deterministic,
            signature: documented(|d| Some(d.syntax_example.clone()))
                .filter(|s| !s.is_empty())
                .unwrap_or_else(|| format!("{upper}(…)")),
            description: documented(|d| d.description.trim().split("\n\n").next().map(str::to_owned))
                .unwrap_or_else(|| "A function of DataFusion.".to_owned()),
            example: documented(|d| d.sql_example.as_ref().map(|e| example_text(e))),
            note: Some("not one of Flink's".to_owned()),
        },
    })
}

/// Whether a name, in capitals, is that of a function of Flink that there is here.
pub(super) fn is_documented(upper: &str) -> bool {
    ENTRIES.iter().any(|e| !matches!(e.status, Status::Not(_)) && e.names.contains(&upper))
}

/// An example of DataFusion's documentation without its fences.
fn example_text(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.starts_with("```")).collect::<Vec<_>>().join("\n")
}

fn kind(name: &str) -> (&'static str, bool, Option<Documentation>) {
    use datafusion::logical_expr::Volatility;
    let scalars = registry::scalar_functions(&FunctionContext::default());
    if let Some(f) = scalars.iter().find(|f| f.name() == name) {
        let deterministic = f.signature().volatility == Volatility::Immutable;
        return ("SCALAR", deterministic, f.documentation().cloned());
    }
    if let Some(f) = registry::aggregate_functions().iter().find(|f| f.name() == name) {
        return ("AGGREGATE", true, f.documentation().cloned());
    }
    if let Some(f) = registry::window_functions().iter().find(|f| f.name() == name) {
        return ("WINDOW", true, f.documentation().cloned());
    }
    ("SYNTAX", true, None)
}

/// Functions beyond Flink's: DataFusion's under names that Flink does not use.
#[cfg(test)]
fn others() -> Vec<String> {
    let ours = |name: &String| ENTRIES.iter().any(|e| e.names.iter().any(|n| n == name));
    registry::names().into_iter().filter(|n| !ours(n)).collect()
}
