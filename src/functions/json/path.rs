//! JSON paths: `$.a.b[0]`, `$['a b']`, `.*`, `[*]`, `..name`, with an optional `lax` or `strict` before.

use super::value::Json;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Child(String),
    Index(i64),
    All,
    Anywhere(String),
}

/// A compiled path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    steps: Vec<Step>,
}

impl Path {
    /// `None` if it is not valid.
    pub(super) fn parse(text: &str) -> Option<Path> {
        let text = text.trim();
        let text = ["lax ", "strict "].iter().find_map(|p| text.strip_prefix(p)).unwrap_or(text).trim_start();
        let mut rest = text.strip_prefix('$')?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(r) = rest.strip_prefix("..") {
                let (name, r) = name(r)?;
                steps.push(Step::Anywhere(name));
                rest = r;
            } else if let Some(r) = rest.strip_prefix('.') {
                if let Some(r) = r.strip_prefix('*') {
                    steps.push(Step::All);
                    rest = r;
                } else {
                    let (name, r) = name(r)?;
                    steps.push(Step::Child(name));
                    rest = r;
                }
            } else if let Some(r) = rest.strip_prefix('[') {
                let r = r.trim_start();
                if let Some(quote) = r.chars().next().filter(|c| *c == '\'' || *c == '"') {
                    let body = r.get(1..)?;
                    let end = body.find(quote)?;
                    steps.push(Step::Child(body.get(..end)?.to_owned()));
                    rest = body.get(end + 1..)?.trim_start().strip_prefix(']')?;
                } else {
                    let end = r.find(']')?;
                    let inside = r.get(..end)?.trim();
                    steps.push(if inside == "*" { Step::All } else { Step::Index(inside.parse().ok()?) });
                    rest = r.get(end + 1..)?;
                }
            } else {
                return None;
            }
        }
        Some(Path { steps })
    }

    /// Whether it can match more than one value.
    pub(super) fn is_indefinite(&self) -> bool {
        self.steps.iter().any(|s| matches!(s, Step::All | Step::Anywhere(_)))
    }

    /// What it matches.
    pub(super) fn find<'j>(&self, document: &'j Json) -> Vec<&'j Json> {
        let mut found = vec![document];
        for step in &self.steps {
            let mut next = Vec::new();
            for j in found {
                match (step, j) {
                    (Step::Child(name), Json::Object(fields)) => {
                        next.extend(fields.iter().find(|(k, _)| k == name).map(|(_, v)| v));
                    }
                    (Step::Index(i), Json::Array(items)) => {
                        let at = if *i < 0 { items.len() as i64 + i } else { *i };
                        next.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
                    }
                    (Step::All, Json::Array(items)) => next.extend(items),
                    (Step::All, Json::Object(fields)) => next.extend(fields.iter().map(|(_, v)| v)),
                    (Step::Anywhere(name), j) => anywhere(j, name, &mut next),
                    _ => {}
                }
            }
            found = next;
        }
        found
    }
}

fn name(text: &str) -> Option<(String, &str)> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.contains(['(', '?', '@', ' ']) { None } else { Some((name.to_owned(), rest)) }
}

fn anywhere<'j>(j: &'j Json, name: &str, out: &mut Vec<&'j Json>) {
    match j {
        Json::Object(fields) => {
            for (k, v) in fields {
                if k == name {
                    out.push(v);
                }
                anywhere(v, name, out);
            }
        }
        Json::Array(items) => items.iter().for_each(|i| anywhere(i, name, out)),
        _ => {}
    }
}
