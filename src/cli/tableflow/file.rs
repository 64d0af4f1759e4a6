//! A file of flows.
//!
//! ```toml
//! bootstrap-servers = "localhost:9092"      # arguments of all flows, without their dashes
//! warehouse = "lake"
//!
//! [[flow]]                                  # one `tidelake tableflow` each, in one process
//! topic = ["orders.*", "returns"]
//! partition-by = "hours(_timestamp)"
//!
//! [[flow]]
//! topic = "customers"
//! mode = "upsert"
//! key-format = "json"
//! table-property = { "write.target-file-size-bytes" = 134217728 }
//! ```
//!
//! Lists are arguments that are repeated, tables those of the form KEY=VALUE, `true` is an argument without a value.

use std::path::Path;

use clap::Parser;
use toml::{Table, Value};

use super::args::RunFlow;
use crate::error::{Error, Result, ResultExt};

#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Flow {
    #[command(flatten)]
    run: RunFlow,
}

/// The flows of a file. What the command line says of all of them wins.
///
/// # Errors
/// Validation, naming the file and the flow.
pub(super) fn read(path: &Path, given: &RunFlow) -> Result<Vec<RunFlow>> {
    let mut flows = flows(path)?;
    for flow in &mut flows {
        flow.once |= given.once;
    }
    Ok(flows)
}

/// The flows of a file as they are.
///
/// # Errors
/// As [`read`].
pub(super) fn flows(path: &Path) -> Result<Vec<RunFlow>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| Error::external(format!("{shown}: {e}")))?;
    parse(&text).context(|| shown.to_string())
}

fn parse(text: &str) -> Result<Vec<RunFlow>> {
    let mut common: Table =
        text.parse().map_err(|e: toml::de::Error| Error::validation(e.to_string().trim().to_owned()))?;
    let flows = match common.remove("flow") {
        Some(Value::Array(flows)) if !flows.is_empty() => flows,
        _ => return Err(Error::validation("it has no flow").hint("[[flow]] begins one, with topic = …")),
    };
    let mut all = Vec::with_capacity(flows.len());
    for (n, flow) in flows.into_iter().enumerate() {
        let place = || format!("flow {}", n + 1);
        let Value::Table(own) = flow else {
            return Err(Error::validation("a flow is no table").context(place()));
        };
        let mut merged = common.clone();
        merged.extend(own);
        let mut arguments = Vec::new();
        for (key, value) in &merged {
            if ["config", "metrics-addr", "dry-run"].contains(&key.as_str()) {
                return Err(Error::validation(format!("'{key}' is for the command line")).context(place()));
            }
            push(key, value, &mut arguments).context(place)?;
        }
        let flow = Flow::try_parse_from(&arguments).map_err(|e| {
            let told = e.to_string();
            let first = told.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Error::validation(first)
                .hint("the keys are the arguments of `tidelake tableflow` without their dashes")
                .context(place())
        })?;
        all.push(flow.run);
    }
    Ok(all)
}

/// Arguments as they stand on a command line.
fn push(key: &str, value: &Value, arguments: &mut Vec<String>) -> Result<()> {
    let name = format!("--{key}");
    match value {
        Value::String(text) => arguments.push(format!("{name}={text}")),
        Value::Integer(n) => arguments.push(format!("{name}={n}")),
        Value::Float(n) => arguments.push(format!("{name}={n}")),
        Value::Boolean(true) => arguments.push(name),
        Value::Boolean(false) => {}
        Value::Array(items) => items.iter().try_for_each(|item| push(key, item, arguments))?,
        Value::Table(pairs) => {
            for (k, v) in pairs {
                let v = match v {
                    Value::String(text) => text.clone(),
                    Value::Integer(n) => n.to_string(),
                    Value::Float(n) => n.to_string(),
                    Value::Boolean(b) => b.to_string(),
                    _ => return Err(Error::validation(format!("'{key}.{k}' is no text and no number"))),
                };
                arguments.push(format!("{name}={k}={v}"));
            }
        }
        Value::Datetime(_) => return Err(Error::validation(format!("'{key}' is no text and no number"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_have_what_is_common_and_what_is_their_own() {
        let flows = parse(
            r#"
            bootstrap-servers = "embedded"
            warehouse = "lake"
            commit-interval = "5s"
            [[flow]]
            topic = ["a", "b.*"]
            [[flow]]
            topic = "c"
            commit-interval = "1s"
            mode = "upsert"
            adopt = true
            table-property = { "write.target-file-size-bytes" = 1024, x = "y" }
            "#,
        )
        .unwrap();
        assert_eq!(flows.len(), 2);
        assert_eq!(flows[0].topics, ["a", "b.*"]);
        let configs: Vec<_> = flows.into_iter().map(|f| f.config().unwrap()).collect();
        assert_eq!(configs[0].commit_interval.as_secs(), 5);
        assert_eq!((configs[1].commit_interval.as_secs(), configs[1].adopt), (1, true));
        assert_eq!(configs[1].table_properties["write.target-file-size-bytes"], "1024");
        assert!(configs[1].is_keyed() && !configs[0].is_keyed());
    }

    #[test]
    fn mistakes_name_their_flow() {
        let e = |text: &str| parse(text).err().unwrap().to_string();
        assert!(e("x = 1").contains("[[flow]]"));
        assert!(
            e("[[flow]]\ntopic = \"a\"\n[[flow]]\nbootstrap-servers = \"e\"\ntopik = \"a\"").contains("flow")
        );
        assert!(e("[[flow]]\nbootstrap-servers = \"e\"\ntopic = \"a\"\ntopik = \"a\"").contains("--topik"));
        assert!(e("[[flow]]\nconfig = \"a\"").contains("command line"));
        assert!(e("[[flow").contains('1'));
    }
}
