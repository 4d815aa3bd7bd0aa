//! Addresses of the servers, from the store's URL.

use std::fmt;

use redis::io::tcp::TcpSettings;
use redis::{Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates};

use super::options::RedisOptions;
use crate::store::{Result, StoreError};

const EXPECTED: &str = "expected redis://[USER:PASSWORD@]HOST:PORT[/NUMBER], \
                    redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/SERVICE[/NUMBER] or \
                    redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT; rediss instead of redis for TLS";

/// What the addresses of the URL belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// The one server.
    Server,
    /// Sentinels, which know the current primary of this service.
    Sentinel { service: String },
    /// Nodes of a cluster.
    Cluster,
}

/// A parsed URL. Neither `Debug` nor `Display` shows a password.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) kind: Kind,
    /// Never empty.
    pub(super) nodes: Vec<ConnectionInfo>,
}

impl Address {
    pub(super) fn parse(url: &str, options: &RedisOptions) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("it has no scheme"))?;
        let (scheme, topology) = scheme.split_once('+').unwrap_or((scheme, ""));
        let (user, address) = rest.rsplit_once('@').unwrap_or(("", rest));
        let at = if user.is_empty() { "" } else { "@" };
        let (hosts, path) = address.split_once('/').unwrap_or((address, ""));
        let node = |host: &str, number: &str| node(&format!("{scheme}://{user}{at}{host}/{number}"), options);
        let (kind, port, number) = match topology {
            "" => return Ok(Self { kind: Kind::Server, nodes: vec![self::node(url, options)?] }),
            "sentinel" => {
                let (service, number) = path.split_once('/').unwrap_or((path, ""));
                if service.is_empty() || service.contains('?') {
                    return Err(refuse("the Sentinel service, such as `mymaster`, is missing"));
                }
                (Kind::Sentinel { service: service.to_owned() }, 26379, number)
            }
            "cluster" if matches!(path, "" | "0") => (Kind::Cluster, 6379, ""),
            "cluster" => return Err(refuse("a cluster has no numbered databases")),
            _ => return Err(refuse("unknown topology after the `+`")),
        };
        let nodes = hosts.split(',').map(|host| node(&with_port(host, port), number)).collect::<Result<_>>()?;
        Ok(Self { kind, nodes })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.nodes.iter().map(|node| node.addr().to_string()).collect();
        match &self.kind {
            Kind::Server => write!(f, "{}", hosts.join(",")),
            Kind::Sentinel { service } => write!(f, "{service} of the Sentinels {}", hosts.join(",")),
            Kind::Cluster => write!(f, "the cluster of {}", hosts.join(",")),
        }
    }
}

fn with_port(host: &str, port: u16) -> String {
    let named = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    // An IPv6 address holds colons inside of its brackets.
    if named && !host.ends_with(']') { host.to_owned() } else { format!("{host}:{port}") }
}

fn node(url: &str, options: &RedisOptions) -> Result<ConnectionInfo> {
    let info = url.into_connection_info().map_err(|error| refuse_url(&error))?;
    with_tls_and_timeouts(info, options).map_err(|error| refuse_url(&error))
}

/// Adds certificates, and the timeout after which the system reports a dead connection.
pub(super) fn with_tls_and_timeouts(
    info: ConnectionInfo,
    options: &RedisOptions,
) -> Result<ConnectionInfo, RedisError> {
    let settings = TcpSettings::default().set_nodelay(true).set_user_timeout(options.response_timeout);
    let info = info.set_tcp_settings(settings);
    match certificates(options) {
        Some(certificates) => Ok(Client::build_with_tls(info, certificates)?.get_connection_info().clone()),
        None => Ok(info),
    }
}

pub(super) fn certificates(options: &RedisOptions) -> Option<TlsCertificates> {
    let tls = &options.tls;
    if tls.ca.is_none() && tls.identity.is_none() {
        return None;
    }
    let pem = |text: &String| text.clone().into_bytes();
    let client_tls = (tls.identity.as_ref())
        .map(|(certificate, key)| ClientTlsConfig { client_cert: pem(certificate), client_key: pem(key) });
    Some(TlsCertificates { client_tls, root_cert: tls.ca.as_ref().map(pem) })
}

fn refuse(why: &str) -> StoreError {
    StoreError::Refused(format!("invalid store URL: {why}; {EXPECTED}"))
}

/// The URL itself may hold a password, so it is not repeated.
fn refuse_url(error: &RedisError) -> StoreError {
    refuse(&error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address> {
        Address::parse(url, &RedisOptions::default())
    }

    fn hosts(address: &Address) -> Vec<String> {
        address.nodes.iter().map(|node| node.addr().to_string()).collect()
    }

    #[test]
    fn a_url_names_a_server_sentinels_or_a_cluster() {
        let one = parse("redis://u:p@h:7000/3").unwrap();
        assert_eq!((one.kind.clone(), hosts(&one)), (Kind::Server, vec!["h:7000".to_owned()]));
        assert_eq!(one.nodes[0].redis_settings().db(), 3);

        let some = parse("redis+sentinel://u:p%40q@a,b:7001,[::1]/ships/2").unwrap();
        assert_eq!(some.kind, Kind::Sentinel { service: "ships".into() });
        // The library writes an IPv6 address without its brackets.
        assert_eq!(hosts(&some), ["a:26379", "b:7001", "::1:26379"]);
        let settings = some.nodes[0].redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("u"), Some("p@q"), 2));

        let cluster = parse("rediss+cluster://:p@a:7001,b:7002").unwrap();
        assert_eq!((cluster.kind.clone(), hosts(&cluster).len()), (Kind::Cluster, 2));
        assert_eq!(cluster.nodes[1].redis_settings().password(), Some("p"));
    }

    #[test]
    fn an_invalid_url_is_refused_with_the_expected_form_and_without_its_password() {
        for url in [
            "redis://u:secret@",
            "redis+sentinel://u:secret@a:1",
            "redis+sentinel://u:secret@a:1/?service=x",
            "redis+cluster://u:secret@a:1/5",
            "redis+ring://u:secret@a:1",
            "redis+cluster://u:secret@a:port",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains("redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/SERVICE"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let address = parse("redis+sentinel://u:secret@a:1/ships").unwrap();
        assert!(!format!("{address} {address:?}").contains("secret"), "{address:?}");
    }

    #[test]
    fn certificates_without_tls_are_refused() {
        let mut options = RedisOptions::default();
        options.tls.ca = Some("-----BEGIN CERTIFICATE-----".into());
        assert!(Address::parse("redis://h", &options).unwrap_err().to_string().contains("rediss"));
    }
}
