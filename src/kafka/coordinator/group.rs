//! Who is in the group: `DescribeGroups`, and `ConsumerGroupDescribe` for groups of the newer protocol (KIP-848).

use std::fmt;

use kafka_protocol::{
    ResponseError,
    messages::{
        ApiKey, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest,
        DescribeGroupsResponse, GroupId,
    },
    protocol::{StrBytes, VersionRange},
};

use super::{
    super::{
        topics::{Operation, Operations},
        wire,
    },
    Call, Error, Origin,
};

/// From this version of `DescribeGroups` on (KIP-430) the answer can tell what we may do with the group.
const OPERATIONS: i16 = 3;

/// What a coordinator tells of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Whether anyone is in it.
    pub state: State,
    /// How its members join.
    pub protocol: Protocol,
    /// Its members.
    pub members: Vec<Member>,
    /// Whether we may commit for it (READ), `None` where the broker does not tell (before 2.3).
    pub may_commit: Option<bool>,
}

/// Whether a group exists and has members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The broker knows no such group.
    Absent,
    /// There are offsets, but no members.
    Empty,
    /// There are members; the broker's word for it, such as `Stable` or `PreparingRebalance`.
    Live(String),
}

impl State {
    fn new(word: &str) -> Self {
        match word {
            "Dead" => Self::Absent,
            "Empty" => Self::Empty,
            word => Self::Live(word.to_owned()),
        }
    }
}

/// How the members of a group join it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// By `JoinGroup`, with their protocol type: `consumer`, `connect`, or empty where nobody has ever joined.
    Classic(String),
    /// By `ConsumerGroupHeartbeat` (KIP-848).
    Consumer,
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The id that the coordinator gave it.
    pub id: String,
    /// The name of its program's choice.
    pub client_id: String,
    /// The address from which it is connected.
    pub host: String,
}

impl Member {
    fn new(id: &StrBytes, client_id: &StrBytes, host: &StrBytes) -> Self {
        // Brokers print Java's InetAddress, which puts a slash before an address without a name.
        let host = host.strip_prefix('/').unwrap_or(host);
        Self { id: id.to_string(), client_id: client_id.to_string(), host: host.to_owned() }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.client_id, self.host)
    }
}

/// Describes a group whose members join the classic way. From version 6 on an absent group is an error.
pub(super) struct DescribeClassic;

impl Call for DescribeClassic {
    type Request = DescribeGroupsRequest;
    type Output = Group;

    const VERSIONS: VersionRange = VersionRange { min: 0, max: 5 };

    fn request(&self, group: &str, version: i16) -> DescribeGroupsRequest {
        DescribeGroupsRequest::default()
            .with_groups(vec![id(group)])
            .with_include_authorized_operations(version >= OPERATIONS)
    }

    fn read(&self, from: &Origin<'_>, response: DescribeGroupsResponse) -> Result<Group, Error> {
        let group = response.groups.into_iter().next().ok_or_else(|| from.incomplete("the group"))?;
        from.group_code(group.error_code)?;
        let members =
            group.members.iter().map(|member| Member::new(&member.member_id, &member.client_id, &member.client_host));
        Ok(Group {
            state: State::new(&group.group_state),
            members: members.collect(),
            may_commit: may_commit(group.authorized_operations),
            protocol: Protocol::Classic(group.protocol_type.to_string()),
        })
    }
}

/// Describes a group of the newer protocol.
pub(super) struct DescribeConsumer;

impl DescribeConsumer {
    pub(super) fn is_known_to(connection: &wire::Connection) -> bool {
        connection.knows(ApiKey::ConsumerGroupDescribe)
    }
}

impl Call for DescribeConsumer {
    type Request = ConsumerGroupDescribeRequest;
    type Output = Group;

    const VERSIONS: VersionRange = VersionRange { min: 0, max: 1 };

    fn request(&self, group: &str, _version: i16) -> ConsumerGroupDescribeRequest {
        ConsumerGroupDescribeRequest::default().with_group_ids(vec![id(group)]).with_include_authorized_operations(true)
    }

    fn read(&self, from: &Origin<'_>, response: ConsumerGroupDescribeResponse) -> Result<Group, Error> {
        let group = response.groups.into_iter().next().ok_or_else(|| from.incomplete("the group"))?;
        if group.error_code == ResponseError::GroupIdNotFound.code() {
            let protocol = Protocol::Classic(String::new());
            return Ok(Group { state: State::Absent, protocol, members: Vec::new(), may_commit: None });
        }
        from.group_code(group.error_code)?;
        let members =
            group.members.iter().map(|member| Member::new(&member.member_id, &member.client_id, &member.client_host));
        Ok(Group {
            state: State::new(&group.group_state),
            members: members.collect(),
            may_commit: may_commit(group.authorized_operations),
            protocol: Protocol::Consumer,
        })
    }
}

fn may_commit(operations: i32) -> Option<bool> {
    Operations::new(operations).map(|operations| operations.allow(Operation::Read))
}

fn id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}
