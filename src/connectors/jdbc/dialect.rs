//! What the SQL of the databases has not in common: names, values, writing by key.

use std::fmt::Write;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    /// And MariaDB.
    Mysql,
}

impl Dialect {
    pub(super) fn name(self) -> &'static str {
        match self {
            Dialect::Postgres => "postgresql",
            Dialect::Mysql => "mysql",
        }
    }

    /// A column. Flink does not quote names for PostgreSQL, which makes them lower case.
    pub(super) fn column(self, name: &str) -> String {
        match self {
            Dialect::Postgres if is_plain(name) => format!("\"{}\"", name.to_lowercase()),
            Dialect::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
            Dialect::Mysql => format!("`{}`", name.replace('`', "``")),
        }
    }

    /// `table-name`: with its schema, and quotes where it has some.
    pub(super) fn table(self, name: &str) -> String {
        if name.contains(['"', '`']) {
            return name.to_owned();
        }
        name.split('.').map(|part| self.column(part)).collect::<Vec<_>>().join(".")
    }

    /// Text as a literal.
    pub(super) fn write_text(self, text: &str, out: &mut String) {
        // In both, whatever they are set to: a backslash only where it is doubled.
        if self == Dialect::Postgres && text.contains('\\') {
            out.push('E');
        }
        out.push('\'');
        for c in text.chars() {
            match c {
                '\'' => out.push_str("''"),
                '\\' => out.push_str("\\\\"),
                c => out.push(c),
            }
        }
        out.push('\'');
    }

    /// Bytes as a literal.
    pub(super) fn write_bytes(self, bytes: &[u8], out: &mut String) {
        out.push_str(if self == Dialect::Postgres { "'\\x" } else { "x'" });
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(out, "{byte:02x}");
        }
        out.push_str(if self == Dialect::Postgres { "'::bytea" } else { "'" });
    }

    /// What follows the rows of an INSERT so that they replace those of their keys.
    pub(super) fn on_conflict(self, key: &[String], others: &[String]) -> String {
        let set = |value: &dyn Fn(&String) -> String, columns: &[String]| {
            columns.iter().map(|c| format!("{c} = {}", value(c))).collect::<Vec<_>>().join(", ")
        };
        match self {
            Dialect::Postgres if others.is_empty() => format!(" ON CONFLICT ({}) DO NOTHING", key.join(", ")),
            Dialect::Postgres => {
                let set = set(&|c| format!("EXCLUDED.{c}"), others);
                format!(" ON CONFLICT ({}) DO UPDATE SET {set}", key.join(", "))
            }
            Dialect::Mysql => {
                let all = if others.is_empty() { key } else { others };
                format!(" ON DUPLICATE KEY UPDATE {}", set(&|c| format!("VALUES({c})"), all))
            }
        }
    }

    /// What a connection is told first.
    pub(super) fn session(self) -> &'static str {
        match self {
            Dialect::Postgres => {
                "SET TIME ZONE 'UTC'; SET DateStyle = 'ISO'; SET extra_float_digits = 3; SET bytea_output = 'hex'"
            }
            // A result may wait for as long as the job takes what it has.
            Dialect::Mysql => {
                "SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = REPLACE(@@sql_mode, 'NO_BACKSLASH_ESCAPES', ''), net_write_timeout = 86400, net_read_timeout = 86400"
            }
        }
    }
}

fn is_plain(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_quoted() {
        let (pg, my) = (Dialect::Postgres, Dialect::Mysql);
        assert_eq!(
            [pg.column("userId"), pg.column("a\"b"), my.column("a`b")],
            ["\"userid\"", "\"a\"\"b\"", "`a``b`"]
        );
        assert_eq!(pg.table("shop.Users"), "\"shop\".\"users\"");
        assert_eq!(pg.table("\"S\".\"T\""), "\"S\".\"T\"");
        let text = |d: Dialect, text| {
            let mut out = String::new();
            d.write_text(text, &mut out);
            out
        };
        assert_eq!(
            [text(pg, "a'b"), text(pg, "a\\'b"), text(my, "a\\'b")],
            ["'a''b'", "E'a\\\\''b'", "'a\\\\''b'"]
        );
        let keys = ["k".to_owned()];
        let others = ["v".to_owned(), "w".to_owned()];
        assert_eq!(
            pg.on_conflict(&keys, &others),
            " ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v, w = EXCLUDED.w"
        );
        assert_eq!(pg.on_conflict(&keys, &[]), " ON CONFLICT (k) DO NOTHING");
        assert_eq!(my.on_conflict(&keys, &[]), " ON DUPLICATE KEY UPDATE k = VALUES(k)");
    }
}
