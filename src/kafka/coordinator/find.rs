//! `FindCoordinator`: which broker a group belongs to.

use std::net::Ipv6Addr;

use kafka_protocol::{
    messages::{FindCoordinatorRequest, FindCoordinatorResponse},
    protocol::{StrBytes, VersionRange},
};

use super::{Call, Error, Origin};

/// From this version on the request names several keys (KIP-699).
const BATCHED: i16 = 4;

/// Key type of a consumer group.
const GROUP: i8 = 0;

/// Asks any broker for the group's coordinator, `host:port`.
pub(super) struct Find;

impl Call for Find {
    type Request = FindCoordinatorRequest;
    type Output = String;

    const VERSIONS: VersionRange = VersionRange { min: 1, max: BATCHED };

    fn request(&self, group: &str, version: i16) -> FindCoordinatorRequest {
        let request = FindCoordinatorRequest::default().with_key_type(GROUP);
        let key = StrBytes::from_string(group.to_owned());
        if version >= BATCHED { request.with_coordinator_keys(vec![key]) } else { request.with_key(key) }
    }

    fn read(&self, from: &Origin<'_>, response: FindCoordinatorResponse) -> Result<String, Error> {
        from.group_code(response.error_code)?;
        // Before version 4 the one coordinator stands in the response itself.
        let (host, port) = match response.coordinators.into_iter().next() {
            Some(coordinator) => {
                from.group_code(coordinator.error_code)?;
                (coordinator.host, coordinator.port)
            }
            None => (response.host, response.port),
        };
        if host.is_empty() {
            return Err(from.incomplete("the coordinator's address"));
        }
        Ok(if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }
}
