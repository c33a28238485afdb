//! A broker with rules: what postlane may not do is told before it is tried.

use devkit::{
    kafka::{Cluster, unique},
    smtp::SmtpServer,
};

use crate::{bed::Bed, watch::started};

/// A broker where a resource with any rule is closed to whom no rule of it names. The clients are `User:ANONYMOUS`.
async fn strict_cluster() -> &'static Cluster {
    let builder = Cluster::builder()
        .property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .property("allow.everyone.if.no.acl.found", "true");
    started(builder).await
}

async fn allow(cluster: &Cluster, principal: &str, operation: &str, resource: &[&str]) {
    let mut arguments = vec!["--add", "--allow-principal", principal, "--operation", operation];
    arguments.extend(resource);
    cluster.tool("org.apache.kafka.tools.AclCommand", &arguments).await.expect("a rule");
}

#[tokio::test]
async fn what_is_not_allowed_is_named() {
    let cluster = strict_cluster().await;
    let mut bed = Bed::on(cluster, SmtpServer::builder(), 1).await;
    let (anonymous, other) = ("User:ANONYMOUS", "User:other");
    allow(cluster, anonymous, "Describe", &["--topic", &bed.names.high]).await;
    allow(cluster, other, "Read", &["--topic", &bed.names.normal]).await;
    allow(cluster, anonymous, "Describe", &["--topic", &bed.names.dead_letters]).await;
    allow(cluster, anonymous, "Describe", &["--group", &bed.names.group]).await;
    let checked = bed.check(&[]).await;
    assert_eq!(checked.status, Some(1));
    let topic = |name: &str| format!("topic {name}");
    checked.assert_row(&topic(&bed.names.high), "fail", &["READ is not allowed", "grant READ"]);
    checked.assert_row(&topic(&bed.names.normal), "fail", &["not authorized to see it", "grant DESCRIBE and READ"]);
    checked.assert_row(&topic(&bed.names.low), "ok", &["readable"]);
    checked.assert_row(&topic(&bed.names.dead_letters), "fail", &["WRITE is not allowed", "grant WRITE"]);
    checked.assert_row("topic settings", "skip", &["not told for", &bed.names.high]);
    checked.assert_row("group", "fail", &["READ is not allowed", "grant READ on the group"]);

    let group = unique("closed");
    allow(cluster, other, "Read", &["--group", &group]).await;
    bed.set("KAFKA_GROUP_ID", &group);
    let checked = bed.check(&[]).await;
    checked.assert_row("group", "fail", &["not authorized for consumer group", "READ and DESCRIBE"]);

    let closed = unique("closed");
    allow(cluster, anonymous, "Describe", &["--topic", &closed]).await;
    // the broker itself is among the clients
    allow(cluster, anonymous, "ClusterAction", &["--cluster"]).await;
    bed.set("KAFKA_TOPIC_LOW", &closed);
    let (status, table, _) = bed.run(&["topics", "create"]).await;
    assert_eq!(status, Some(1), "{table}");
    let row = table.lines().find(|row| row.contains(&closed)).expect("a row");
    assert!(row.starts_with("FAILED") && row.contains("not authorized to create topic"), "{row}");
}
