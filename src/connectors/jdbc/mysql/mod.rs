//! A connection to MySQL or MariaDB: the text protocol, as much of it as queries need.
//!
//! ```text
//!  server: greeting ─► [client: TLS] ─► client: who, scrambled password ─► [switch of the method, proof] ─► OK
//!  client: COM_QUERY ─► server: OK | error | columns, rows …, end
//! ```
//!
//! Written here because the clients that there are would change the features of crates that the rest of the engine is built
//! of. Encrypted if the URL asks for it (`tls`). Not spoken: compression, prepared statements, LOAD DATA LOCAL.

mod auth;
mod packets;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::config::Address;
use super::postgres::kind_of;
use super::tls::{Encryption, server_name};
use super::values::Cells;
use crate::error::{Error, Result};
use packets::{Fields, Packets, Wire};

const LONG_PASSWORD: u32 = 1;
const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const TLS: u32 = 1 << 11;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const MULTI_STATEMENTS: u32 = 1 << 16;
const MULTI_RESULTS: u32 = 1 << 17;
const PLUGIN_AUTH: u32 = 1 << 19;

/// Another result follows.
const MORE_RESULTS: u16 = 8;
/// `utf8mb4_general_ci`
const UTF8MB4: u8 = 45;
const COM_QUERY: u8 = 3;

/// A connection.
pub(super) struct MysqlClient {
    packets: Packets,
    /// Columns of the result under way.
    columns: Option<usize>,
}

/// What a server says first.
struct Greeting {
    plugin: String,
    scramble: Vec<u8>,
    capabilities: u32,
}

impl MysqlClient {
    pub(super) async fn connect(address: &Address) -> Result<Self> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        let mut packets = Packets::new(Box::new(stream));
        let first = packets.read().await?;
        let greeting = greeting(first)?;
        let (user, password) =
            (address.user.clone().unwrap_or_default(), address.password.clone().unwrap_or_default());
        let flags = LONG_PASSWORD
            | CONNECT_WITH_DB
            | PROTOCOL_41
            | TRANSACTIONS
            | SECURE_CONNECTION
            | MULTI_STATEMENTS
            | MULTI_RESULTS
            | PLUGIN_AUTH;
        let needed = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;
        if greeting.capabilities & needed != needed {
            return Err(Error::unsupported(
                "the server is too old: it does not speak the protocol of MySQL 5.5",
            ));
        }
        let encrypted = encrypts(address.tls.encryption, &greeting)?;
        let flags = (flags | if encrypted { TLS } else { 0 }) & greeting.capabilities;
        let mut reply = Vec::new();
        reply.extend(flags.to_le_bytes());
        reply.extend((1u32 << 30).to_le_bytes());
        reply.push(UTF8MB4);
        reply.extend([0; 23]);
        if encrypted {
            // So far the reply asks for it.
            packets.write(&reply).await?;
            let (connector, name) = (address.tls.connector()?, server_name(&address.host)?);
            let handshake = |wire: Box<dyn Wire>| async move {
                let failed =
                    |e: std::io::Error| Error::external(format!("the connection cannot be encrypted: {e}"));
                let wire = connector.connect(name, wire).await.map_err(failed)?;
                Ok(Box::new(wire) as Box<dyn Wire>)
            };
            packets = packets.rewire(handshake).await?;
        }
        reply.extend(user.as_bytes());
        reply.push(0);
        // A method that is not known is left to the server's switch.
        let plugin = if auth::is_known(&greeting.plugin) { greeting.plugin.as_str() } else { auth::NATIVE };
        let proof = auth::proof(plugin, &password, &greeting.scramble)?;
        reply.push(proof.len() as u8);
        reply.extend(proof);
        reply.extend(address.database.as_bytes());
        reply.push(0);
        reply.extend(plugin.as_bytes());
        reply.push(0);
        packets.write(&reply).await?;
        authenticate(&mut packets, &password, encrypted).await?;
        Ok(MysqlClient { packets, columns: None })
    }

    /// Runs statements without a result.
    pub(super) async fn execute(&mut self, sql: &str) -> Result<()> {
        self.send(sql).await?;
        loop {
            let packet = self.packets.read().await?;
            match packet.first() {
                Some(0) => {
                    let mut fields = Fields::new(packet.get(1..).unwrap_or_default());
                    let (_, _) = (fields.length()?, fields.length()?);
                    if fields.u16()? & MORE_RESULTS == 0 {
                        return Ok(());
                    }
                }
                Some(0xff) => return Err(server_error(packet)),
                _ => return Err(Error::internal("a statement gave rows that nobody asked for")),
            }
        }
    }

    /// Begins a query.
    pub(super) async fn begin(&mut self, sql: &str) -> Result<()> {
        self.send(sql).await?;
        let packet = self.packets.read().await?;
        match packet.first() {
            Some(0xff) => return Err(server_error(packet)),
            Some(0 | 0xfb) | None => return Err(Error::internal("a query gave no rows")),
            Some(_) => {}
        }
        let columns = Fields::new(packet).length()? as usize;
        // What the columns are is known; the end of their list.
        for _ in 0..=columns {
            self.packets.read().await?;
        }
        self.columns = Some(columns);
        Ok(())
    }

    /// Appends up to `rows` rows; whether more follow.
    pub(super) async fn fetch(&mut self, cells: &mut Cells, rows: usize) -> Result<bool> {
        let Some(columns) = self.columns else { return Ok(false) };
        let most = cells.rows().saturating_add(rows);
        while cells.rows() < most {
            let packet = self.packets.read().await?;
            match packet.first() {
                Some(0xff) => return Err(server_error(packet)),
                Some(0xfe) if packet.len() < 9 => {
                    self.columns = None;
                    return Ok(false);
                }
                _ => {}
            }
            let mut fields = Fields::new(packet);
            for column in 0..columns {
                cells.push(column, fields.cell()?);
            }
            if cells.bytes() >= crate::stream::BATCH_BYTES && rows != usize::MAX {
                break;
            }
        }
        Ok(true)
    }

    async fn send(&mut self, sql: &str) -> Result<()> {
        self.packets.begin();
        let mut command = Vec::with_capacity(sql.len() + 1);
        command.push(COM_QUERY);
        command.extend(sql.as_bytes());
        self.packets.write(&command).await
    }
}

/// Whether the connection to this server is encrypted.
fn encrypts(encryption: Encryption, greeting: &Greeting) -> Result<bool> {
    let can = greeting.capabilities & TLS != 0;
    if encryption.is_required() && !can {
        return Err(Error::validation("the server cannot encrypt connections, and the 'url' asks for it")
            .hint("set it up with a certificate, or sslMode=PREFERRED in the 'url'"));
    }
    Ok(can && encryption != Encryption::Never)
}

fn greeting(packet: &[u8]) -> Result<Greeting> {
    if packet.first() == Some(&0xff) {
        return Err(server_error(packet));
    }
    let mut fields = Fields::new(packet);
    if fields.u8()? != 10 {
        return Err(Error::external("the server speaks another protocol than MySQL's"));
    }
    fields.text()?;
    fields.skip(4)?;
    let mut scramble = fields.bytes(8)?.to_vec();
    fields.skip(1)?;
    let low = fields.u16()?;
    fields.skip(3)?;
    let high = fields.u16()?;
    let length = usize::from(fields.u8()?);
    fields.skip(10)?;
    // Ends in a zero.
    let rest = fields.bytes(length.saturating_sub(8).max(13))?;
    scramble.extend(rest.strip_suffix(&[0]).unwrap_or(rest));
    let plugin = fields.text().unwrap_or(b"mysql_native_password");
    Ok(Greeting {
        plugin: String::from_utf8_lossy(plugin).into_owned(),
        scramble,
        capabilities: u32::from(low) | u32::from(high) << 16,
    })
}

/// From the client's reply to the server's OK.
async fn authenticate(packets: &mut Packets, password: &str, encrypted: bool) -> Result<()> {
    loop {
        let packet = packets.read().await?.to_vec();
        match packet.split_first() {
            Some((0, _)) => return Ok(()),
            Some((0xff, _)) => return Err(server_error(&packet)),
            Some((0xfe, rest)) => {
                let mut fields = Fields::new(rest);
                let plugin = String::from_utf8_lossy(fields.text()?).into_owned();
                let scramble = fields.rest();
                let scramble = scramble.strip_suffix(&[0]).unwrap_or(scramble);
                if !auth::is_known(&plugin) {
                    return Err(Error::unsupported(format!("the server asks for the password by '{plugin}'"))
                        .hint("mysql_native_password and caching_sha2_password are supported: ALTER USER … IDENTIFIED WITH …"));
                }
                packets.write(&auth::proof(&plugin, password, scramble)?).await?;
            }
            // caching_sha2_password: the server knows the password, or has to see it.
            Some((1, [3, ..])) => {}
            Some((1, [4, ..])) if encrypted => {
                packets.write(&[password.as_bytes(), &[0]].concat()).await?;
            }
            Some((1, [4, ..])) => {
                return Err(Error::unsupported(
                    "the server wants to see the password of caching_sha2_password, and the connection is not encrypted",
                )
                .hint("encrypt it by sslMode=REQUIRED, log in once by another client, so that the server remembers it, or ALTER USER … IDENTIFIED WITH mysql_native_password"));
            }
            _ => return Err(Error::external("the server answered the password by something unknown")),
        }
    }
}

/// `ff code # state message`
fn server_error(packet: &[u8]) -> Error {
    let mut fields = Fields::new(packet.get(1..).unwrap_or_default());
    let code = fields.u16().unwrap_or_default();
    let rest = fields.rest();
    let (state, message) = match rest.split_first() {
        Some((b'#', rest)) if rest.len() >= 5 => rest.split_at(5),
        _ => (&b"HY000"[..], rest),
    };
    let (state, message) = (String::from_utf8_lossy(state), String::from_utf8_lossy(message));
    Error::new(kind_of(&state), format!("{message} ({code})"))
}

impl Packets {
    async fn write(&mut self, payload: &[u8]) -> Result<()> {
        let framed = self.frame(payload);
        let stream = self.stream.get_mut();
        stream.write_all(&framed).await?;
        stream.flush().await?;
        Ok(())
    }
}
