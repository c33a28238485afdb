//! What a broker must know for postlane to work with it.
//!
//! Owns the list of APIs and their versions: those that rskafka speaks, and those of our own connections.

use kafka_protocol::{
    messages::{
        DescribeGroupsRequest, FetchRequest, FindCoordinatorRequest, ListOffsetsRequest, MetadataRequest,
        OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
    },
    protocol::VersionRange,
};

use super::wire::{Connection, Error};

/// Whether the broker knows all that postlane asks of it.
///
/// # Errors
///
/// [`Error::Unsupported`] with the first API that the two have no version of in common.
pub fn check(broker: &Connection) -> Result<(), Error> {
    let range = |min, max| VersionRange { min, max };
    broker.version::<FetchRequest>(range(4, 4))?;
    broker.version::<ProduceRequest>(range(3, 7))?;
    broker.version::<ListOffsetsRequest>(range(1, 3))?;
    broker.version::<MetadataRequest>(range(4, 4))?;
    broker.version::<FindCoordinatorRequest>(range(1, 4))?;
    broker.version::<OffsetFetchRequest>(range(2, 9))?;
    broker.version::<OffsetCommitRequest>(range(2, 9))?;
    broker.version::<DescribeGroupsRequest>(range(0, 5))?;
    Ok(())
}
