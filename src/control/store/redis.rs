//! Redis: the value of a key, and a channel of the same name that tells of changes. Where the server announces changes of keys
//! (notify-keyspace-events), no message has to be sent.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{Found, Link, News, SILENCE, Server as Endpoint};
use crate::config::snapshot::StoreKind;
use crate::control::redis::{Access, Connection, refused};
use crate::wire::cluster::Master;
use crate::wire::resp::Reply;

/// So many digits of a checksum stand for the revision, which Redis does not have.
const REVISION_DIGITS: usize = 12;

pub async fn fetch(link: &Link, server: &Endpoint) -> Result<Option<Found>, String> {
    let mut connection = connect(link, server).await?;
    match connection.ask(&[b"GET", link.settings.key.as_bytes()]).await? {
        (Reply::Bulk(span), text) => {
            let value = span.of(&text).to_vec();
            let digits = HEXLOWER.encode(&Sha256::digest(&value));
            Ok(Some(Found { value, revision: digits[..REVISION_DIGITS].to_owned() }))
        }
        (Reply::Nothing, _) => Ok(None),
        (reply, text) => Err(refused(&reply, &text)),
    }
}

pub async fn watch(link: &Link, server: &Endpoint, tell: &dyn Fn(News)) -> String {
    let mut connection = match link.within(subscribed(link, server)).await {
        Ok(connection) => connection,
        Err(why) => return why,
    };
    tell(News::Connected);
    let mut is_asked = false;
    loop {
        match timeout(SILENCE, connection.next()).await {
            Ok(Ok((reply, text))) => {
                is_asked = false;
                if let Reply::Array(parts) = &reply
                    && let Some(Reply::Bulk(kind)) = parts.first()
                    && kind.of(&text) == b"message"
                {
                    tell(News::Changed);
                }
            }
            Ok(Err(why)) => return why,
            Err(_) if is_asked => return "it does not answer".to_owned(),
            Err(_) => {
                is_asked = true;
                if let Err(why) = connection.send(&[b"PING"]).await {
                    return why;
                }
            }
        }
    }
}

/// A connection on which changes are told.
async fn subscribed(link: &Link, server: &Endpoint) -> Result<Connection, String> {
    let mut connection = connect(link, server).await?;
    let key = link.settings.key.as_bytes();
    match connection.ask(&[b"SUBSCRIBE", key]).await? {
        (Reply::Array(_), _) => {}
        (reply, text) => return Err(refused(&reply, &text)),
    }
    // A user may be forbidden this one: then changes are told by messages alone.
    let announced = format!("__keyspace@{}__:{}", server.endpoint.database, link.settings.key);
    connection.ask(&[b"SUBSCRIBE", announced.as_bytes()]).await?;
    Ok(connection)
}

async fn connect(link: &Link, server: &Endpoint) -> Result<Connection, String> {
    let addresses = server.addresses(StoreKind::Redis).await?.into();
    let to = Master { host: server.endpoint.host.clone(), port: server.port(StoreKind::Redis), addresses };
    let (user, password) = (link.settings.user.clone(), link.settings.password.clone());
    let tls = server.tls.as_ref().map(|(client, _)| client.clone());
    Access { tls, user, password, database: server.endpoint.database }.connect(&to).await
}
