//! What the session's options say about printing.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use crate::sql::ast::Statement;

const ZONE: &str = "table.local-time-zone";
const WIDTH: &str = "table.display.max-column-width";

/// Follows SET and RESET for the options that only the printing of rows needs.
#[derive(Debug, Clone, Default)]
pub(super) struct DisplayOptions {
    initial: BTreeMap<String, String>,
    set: BTreeMap<String, String>,
}

impl DisplayOptions {
    pub(super) fn new(config: &[(String, String)]) -> Self {
        let initial: BTreeMap<String, String> = config.iter().cloned().collect();
        DisplayOptions { set: initial.clone(), initial }
    }

    /// A statement has been executed.
    pub(super) fn executed(&mut self, statement: &Statement) {
        match statement {
            Statement::Set(Some((key, value))) => {
                self.set.insert(key.clone(), value.clone());
            }
            Statement::Reset(None) => self.set = self.initial.clone(),
            Statement::Reset(Some(key)) => {
                match self.initial.get(key) {
                    Some(value) => self.set.insert(key.clone(), value.clone()),
                    None => self.set.remove(key),
                };
            }
            _ => {}
        }
    }

    /// The zone to show instants in.
    pub(super) fn zone(&self) -> Tz {
        match self.set.get(ZONE).map(String::as_str) {
            None | Some("default") => local_zone(),
            Some(name) => name.parse().unwrap_or(Tz::UTC),
        }
    }

    /// Longest cell of a table.
    pub(super) fn max_width(&self) -> usize {
        self.set.get(WIDTH).and_then(|w| w.parse().ok()).unwrap_or(30).max(3)
    }
}

/// The zone of the process, UTC if it has no IANA name.
fn local_zone() -> Tz {
    let named = std::env::var("TZ").ok().map(|tz| tz.trim_start_matches(':').to_owned());
    let linked = || {
        let path = std::fs::read_link("/etc/localtime").ok()?;
        let path = path.to_str()?;
        path.split_once("zoneinfo/").map(|(_, name)| name.to_owned())
    };
    named.filter(|n| !n.is_empty()).or_else(linked).and_then(|n| n.parse().ok()).unwrap_or(Tz::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_and_reset_are_followed() {
        let mut options = DisplayOptions::new(&[(ZONE.into(), "Asia/Tokyo".into())]);
        assert_eq!((options.zone(), options.max_width()), (Tz::Asia__Tokyo, 30));
        options.executed(&Statement::Set(Some((ZONE.into(), "Europe/Berlin".into()))));
        options.executed(&Statement::Set(Some((WIDTH.into(), "50".into()))));
        assert_eq!((options.zone(), options.max_width()), (Tz::Europe__Berlin, 50));
        options.executed(&Statement::Reset(Some(ZONE.into())));
        assert_eq!((options.zone(), options.max_width()), (Tz::Asia__Tokyo, 50));
        options.executed(&Statement::Reset(None));
        assert_eq!(options.max_width(), 30);
    }
}
