//! The one secured broker that all tests here share, and the ways into it.

use devkit::{
    kafka::{Cluster, Listener, PASSWORD, SCRAM_PASSWORD, USER},
    smtp::SmtpServer,
};
use tokio::sync::OnceCell;

use crate::bed::Bed;

pub(crate) async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(|| async { Cluster::builder().secured().start().await.expect("a secured broker") }).await
}

/// A file of the broker's certificates.
pub(crate) async fn file(name: &str) -> String {
    cluster().await.secured().expect("secured").file(name).display().to_string()
}

/// A bed whose service uses this listener with nothing but the address set.
pub(crate) async fn bed(listener: Listener) -> Bed {
    let cluster = cluster().await;
    let mut bed = Bed::on(cluster, SmtpServer::builder(), 1).await;
    bed.set("KAFKA_BROKERS", cluster.secured().expect("secured").bootstrap(listener));
    bed
}

/// The same with the protocol and the broker's authority.
pub(crate) async fn with_tls(listener: Listener, protocol: &str) -> Bed {
    let mut bed = bed(listener).await;
    bed.set("KAFKA_SECURITY_PROTOCOL", protocol);
    if protocol.to_ascii_uppercase().ends_with("SSL") {
        bed.set("KAFKA_SSL_CA_FILE", file("ca.pem").await);
    }
    bed
}

/// The same with a user and the right password.
pub(crate) async fn with_password(listener: Listener, protocol: &str, mechanism: &str) -> Bed {
    let mut bed = with_tls(listener, protocol).await;
    bed.set("KAFKA_SASL_MECHANISM", mechanism);
    bed.set("KAFKA_SASL_USERNAME", USER);
    bed.set("KAFKA_SASL_PASSWORD", if mechanism.eq_ignore_ascii_case("PLAIN") { PASSWORD } else { SCRAM_PASSWORD });
    bed
}
