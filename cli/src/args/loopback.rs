//! Addresses of this machine, which nobody else can listen to.

use std::net::IpAddr;

/// Whether a host of a URL is this machine by its name or address. Another name may lead anywhere.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}
