//! Consumer groups: who is in one, how far it is, and members that are another program.
//!
//! Owns asking the broker and Kafka's own tool; the numbers of [`Cluster::group_lag`] are those that an operator sees.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, DescribeGroupsRequest, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::admin::retried;
use super::cluster::Cluster;
use super::java::Java;
use super::runtime::Runtime;
use super::tools::{Output, TOOL_JVM};
use super::wire::{Connection, Coordinator, check};

const GROUP_COMMAND: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const DESCRIBE_GROUPS_VERSION: i16 = 4;
const CONSUMER_GROUP_DESCRIBE_VERSION: i16 = 0;
const JOIN_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// The two ways in which a group's members agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    /// `JoinGroup` and `SyncGroup`: the members assign the partitions.
    Classic,
    /// KIP-848: the broker assigns them.
    Consumer,
}

impl GroupProtocol {
    /// The value of a Java consumer's `group.protocol`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// A live member of a group, as its coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The id of the member.
    pub member_id: String,
    /// What the client calls itself.
    pub client_id: String,
    /// The instance id of a static member.
    pub instance_id: Option<String>,
    /// Whether it has got its share of the partitions, if only an empty one.
    pub assigned: bool,
}

/// One line of `kafka-consumer-groups --describe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The committed offset, the next one to read; `None` where there is no commit.
    pub current_offset: Option<i64>,
    /// The end of the log.
    pub log_end: Option<i64>,
    /// The distance of the two.
    pub lag: Option<i64>,
    /// The id of the member that owns the partition.
    pub member_id: Option<String>,
}

/// A member of a group that is another program: Kafka's console consumer. It leaves when this is dropped, without a word, as
/// a crashed one would; its session then has to expire.
#[derive(Debug)]
pub struct ForeignConsumer {
    java: Java,
    /// The client id under which the group knows it.
    pub client_id: String,
    _folder: tempfile::TempDir,
}

impl ForeignConsumer {
    /// Ends it in order: it commits and leaves the group.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn leave(mut self) -> Result<()> {
        self.java.terminate()?;
        self.java.wait(JOIN_LIMIT).await
    }
}

impl Cluster {
    /// The live members of a group of either protocol; none where the group does not exist.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn group_members(&self, group: &str) -> Result<Vec<Member>> {
        let members = retried(|| self.consumer_members(group)).await;
        match members.as_ref().err().and_then(|error| error.downcast_ref()) {
            // Not a group of the new protocol, or a broker that does not know it.
            Some(ResponseError::GroupIdNotFound | ResponseError::UnsupportedVersion) => {
                retried(|| self.classic_members(group)).await
            }
            _ => members,
        }
    }

    async fn consumer_members(&self, group: &str) -> Result<Vec<Member>> {
        let mut coordinator = Connection::to_coordinator(self.bootstrap(), Coordinator::Group, group).await?;
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
        let answer = coordinator.request(&request, CONSUMER_GROUP_DESCRIBE_VERSION).await?;
        let found = answer.groups.first().context("an answer for the group")?;
        check(found.error_code).with_context(|| format!("cannot describe group {group}"))?;
        let member = |member: &kafka_protocol::messages::consumer_group_describe_response::Member| Member {
            member_id: member.member_id.to_string(),
            client_id: member.client_id.to_string(),
            instance_id: member.instance_id.as_ref().map(ToString::to_string),
            assigned: member.member_epoch == found.group_epoch && member.assignment == member.target_assignment,
        };
        Ok(found.members.iter().map(member).collect())
    }

    async fn classic_members(&self, group: &str) -> Result<Vec<Member>> {
        let mut coordinator = Connection::to_coordinator(self.bootstrap(), Coordinator::Group, group).await?;
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
        let answer = coordinator.request(&request, DESCRIBE_GROUPS_VERSION).await?;
        let found = answer.groups.first().context("an answer for the group")?;
        check(found.error_code).with_context(|| format!("cannot describe group {group}"))?;
        let stable = found.group_state.as_str() == "Stable";
        let member = |member: &kafka_protocol::messages::describe_groups_response::DescribedGroupMember| Member {
            member_id: member.member_id.to_string(),
            client_id: member.client_id.to_string(),
            instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
            assigned: stable,
        };
        Ok(found.members.iter().map(member).collect())
    }

    /// Waits until `wanted` holds for the members of a group.
    ///
    /// # Errors
    /// When it does not within `limit`; the error has the members.
    pub async fn until_members(
        &self,
        group: &str,
        limit: Duration,
        wanted: impl Fn(&[Member]) -> bool,
    ) -> Result<Vec<Member>> {
        let deadline = Instant::now() + limit;
        loop {
            let members = self.group_members(group).await?;
            if wanted(&members) {
                return Ok(members);
            }
            if Instant::now() >= deadline {
                bail!("group {group} has after {limit:?} only the members {members:?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What `kafka-consumer-groups --describe` says of a group.
    ///
    /// # Errors
    /// When the tool cannot be run or fails, as it does for a group that does not exist.
    pub async fn group_lag(&self, group: &str) -> Result<Vec<PartitionLag>> {
        parse_description(&self.group_command(&["--describe", "--group", group]).await?.stdout)
    }

    /// Runs `kafka-consumer-groups --reset-offsets --execute` for a topic with more arguments, such as `--to-earliest` or
    /// `--to-offset`, `7`. A topic may be `name:0,1`.
    ///
    /// # Errors
    /// When the tool cannot be run or refuses, as it does while the group has members.
    pub async fn reset_offsets(&self, group: &str, topic: &str, to: &[&str]) -> Result<Output> {
        let mut arguments = vec!["--reset-offsets", "--execute", "--group", group, "--topic", topic];
        arguments.extend(to);
        self.group_command(&arguments).await
    }

    /// Runs `kafka-consumer-groups`. Its exit status is 0 even where it fails; here that is an error.
    ///
    /// # Errors
    /// When the tool cannot be run, and when it says that something failed.
    pub async fn group_command(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.tool(GROUP_COMMAND, arguments).await?;
        match output.stdout.lines().find(|line| line.starts_with("Error: ")) {
            Some(error) => bail!("kafka-consumer-groups {}: {error}", arguments.join(" ")),
            None => Ok(output),
        }
    }

    /// Starts Kafka's console consumer in a group and waits until it is a member and has its share of the partitions.
    ///
    /// # Errors
    /// When it does not get so far within a minute; the error has what it wrote.
    pub async fn foreign_consumer(&self, group: &str, topic: &str, protocol: GroupProtocol) -> Result<ForeignConsumer> {
        let client_id = super::unique("foreign");
        let folder = tempfile::Builder::new().prefix("postlane-consumer-").tempdir()?;
        let log = folder.path().join("consumer.log");
        let client_property = format!("client.id={client_id}");
        let protocol_property = format!("group.protocol={}", protocol.name());
        let arguments = [
            ["--bootstrap-server", self.bootstrap()],
            ["--topic", topic],
            ["--group", group],
            ["--consumer-property", &client_property],
            ["--consumer-property", &protocol_property],
        ]
        .concat();
        let java =
            Java::spawn(Runtime::get().await?, &TOOL_JVM, CONSOLE_CONSUMER, &arguments, &log, Some(folder.path()))?;
        let consumer = ForeignConsumer { java, client_id, _folder: folder };
        let joined = |members: &[Member]| members.iter().any(|m| m.client_id == consumer.client_id && m.assigned);
        self.until_members(group, JOIN_LIMIT, joined).await.with_context(|| {
            format!("the console consumer did not join: {}", std::fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok(consumer)
    }
}

/// Reads the table by its heading, because the columns differ with versions and options.
fn parse_description(text: &str) -> Result<Vec<PartitionLag>> {
    let mut rows = Vec::new();
    let mut heading: Option<Vec<&str>> = None;
    for line in text.lines() {
        let cells: Vec<&str> = line.split_whitespace().collect();
        if cells.contains(&"CURRENT-OFFSET") {
            heading = Some(cells);
            continue;
        }
        let Some(heading) = heading.as_ref().filter(|_| !cells.is_empty()) else { continue };
        let cell = |name: &str| {
            let column = heading.iter().position(|title| *title == name)?;
            cells.get(column).copied().filter(|cell| *cell != "-")
        };
        let number = |name: &str| cell(name).map(str::parse).transpose().with_context(|| format!("{name} in {line}"));
        rows.push(PartitionLag {
            topic: cell("TOPIC").with_context(|| format!("no topic in {line}"))?.to_owned(),
            partition: cell("PARTITION").with_context(|| format!("no partition in {line}"))?.parse()?,
            current_offset: number("CURRENT-OFFSET")?,
            log_end: number("LOG-END-OFFSET")?,
            lag: number("LAG")?,
            member_id: cell("CONSUMER-ID").map(str::to_owned),
        });
    }
    if heading.is_none() {
        bail!("not the description of a group: {}", text.trim());
    }
    Ok(rows)
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{PartitionLag, parse_description};

    #[test]
    fn reads_the_table_of_the_tool() {
        let text = "\nConsumer group 'g' has no active members.\n\n\
            GROUP  TOPIC  PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  CONSUMER-ID  HOST  CLIENT-ID\n\
            g      t      0          7               10              3    -            -     -\n\
            g      t      1          -               4               -    c-1          /1    c\n";
        let rows = parse_description(text).expect("a table");
        let row = |partition, current_offset, log_end, lag, member: Option<&str>| PartitionLag {
            topic: "t".to_owned(),
            partition,
            current_offset,
            log_end,
            lag,
            member_id: member.map(str::to_owned),
        };
        assert_eq!(rows, [row(0, Some(7), Some(10), Some(3), None), row(1, None, Some(4), None, Some("c-1"))]);
        assert!(parse_description("Error: no such group").is_err());
    }
}
