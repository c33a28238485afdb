//! Traces: whose they continue, what they tell, what they never tell, and that they hold up nothing.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use devkit::{
    kafka::Record,
    otlp::{Behaviour, Collector, Span},
    smtp::{Action, Command, SmtpServer, on},
};
use postlane::event::Priority;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    bed::{Bed, SOON, end, event, event_with},
    found::Found,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A bed whose service sends traces, and where they go.
async fn traced(smtp: devkit::smtp::Builder) -> (Bed, Collector) {
    let mut bed = Bed::with(smtp, 1).await;
    let collector = Collector::start(Behaviour::Accept).await;
    bed.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    (bed, collector)
}

async fn publish(bed: &Bed, event: Value, traceparent: &str) {
    bed.publish_records(Priority::Normal, [Record::new(event.to_string()).header("traceparent", traceparent)]).await;
}

/// The mail's own span: the one of the event with this id.
fn process<'a>(spans: &'a [Span], id: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.get("messaging.message.id") == id);
    let span = found.next().unwrap_or_else(|| panic!("no span of {id}: {spans:#?}"));
    assert!(found.next().is_none(), "two spans of {id}");
    span
}

fn children<'a>(spans: &'a [Span], parent: &Span) -> Vec<&'a Span> {
    let mut children: Vec<_> = spans.iter().filter(|span| span.parent == parent.id).collect();
    children.sort_by_key(|span| span.time);
    children
}

#[tokio::test]
async fn a_mail_continues_the_trace_of_its_producer() {
    let (mut bed, collector) = traced(SmtpServer::builder()).await;
    bed.set("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cr3t");
    bed.set("RUST_LOG", "trace");
    bed.set("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test%20bed");
    let record = Record::new(event("one", "one@example.org").to_string())
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("tracestate", "vendor=opaque");
    bed.publish_records(Priority::Normal, [record]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;
    found.assert_sent("one", 1, 0);
    assert_eq!(found.outcomes("one")[0]["trace_id"], TRACE);
    assert!(!found.log.contains("s3cr3t"), "{}", found.log);

    let spans = collector.spans();
    let mail = process(&spans, "one");
    let topic = bed.topic(Priority::Normal);
    assert_eq!((mail.trace.as_str(), mail.parent.as_str(), mail.state.as_str()), (TRACE, PARENT, "vendor=opaque"));
    assert_eq!((mail.name.clone(), mail.kind.as_str()), (format!("process {topic}"), "Consumer"));
    assert_eq!((mail.error.as_ref(), mail.event_names()), (None, vec![]));
    for (name, value) in [
        ("messaging.system", "kafka"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", topic),
        ("messaging.destination.partition.id", "0"),
        ("messaging.kafka.offset", "0"),
        ("messaging.consumer.group.name", &bed.names.group),
        ("postlane.lane", "normal"),
        ("postlane.template", "plain"),
        ("postlane.outcome", "sent"),
        ("postlane.attempts", "1"),
    ] {
        assert_eq!(mail.get(name), value, "{name}");
    }
    assert_eq!(mail.schema, "https://opentelemetry.io/schemas/1.42.0");
    assert_eq!(mail.resource["service.name"], "postlane");
    assert_eq!(mail.resource["deployment.environment.name"], "test bed");

    let parts = children(&spans, mail);
    let names: Vec<_> = parts.iter().map(|span| (span.name.clone(), span.kind.as_str())).collect();
    let expected = [(format!("receive {topic}"), "Client"), ("render".into(), "Internal"), ("send".into(), "Client")];
    assert_eq!(names, expected);
    let send = parts[2];
    assert_eq!((send.get("server.address"), send.get("server.port")), ("127.0.0.1", &*bed.smtp.port().to_string()));
    assert_eq!((send.get("postlane.smtp.code"), send.get("postlane.attempt")), ("250", "1"));
    for part in parts {
        assert_eq!((part.trace.as_str(), part.error.as_ref()), (TRACE, None), "{part:?}");
        assert!(mail.time.0 <= part.time.0 && part.time.0 <= part.time.1 && part.time.1 <= mail.time.1, "{part:?}");
    }
    let (path, headers) = &collector.requests()[0];
    assert_eq!((path.as_str(), headers["authorization"].as_str()), ("/v1/traces", "Bearer s3cr3t"));
}

#[tokio::test]
async fn what_is_no_parent_by_the_rules_begins_a_new_trace() {
    let (bed, collector) = traced(SmtpServer::builder()).await;
    let cases = [
        ("none", String::new()),
        ("upper", format!("00-{}-{PARENT}-01", TRACE.to_uppercase())),
        ("zero", format!("00-{}-{PARENT}-01", "0".repeat(32))),
        ("short", format!("00-{}-{PARENT}-01", &TRACE[1..])),
        ("not sampled", format!("00-{TRACE}-{PARENT}-00")),
    ];
    for (id, parent) in &cases {
        publish(&bed, event(id, "one@example.org"), parent).await;
    }
    let found = Found::at_the_end(&bed, bed.start()).await;
    let spans = collector.spans();
    for (id, _) in &cases[..4] {
        let mail = process(&spans, id);
        assert!(mail.parent.is_empty() && mail.trace != TRACE && mail.trace.len() == 32, "{mail:?}");
    }
    // the producer has decided that this one has no trace
    assert!(spans.iter().all(|span| span.trace != TRACE), "{spans:#?}");
    assert_eq!(found.ledger.accepted().len(), 5);
    assert!(found.outcomes("not sampled")[0]["trace_id"].is_null());
}

#[tokio::test]
async fn the_sampler_decides_where_no_parent_does() {
    let (mut bed, collector) = traced(SmtpServer::builder()).await;
    bed.set("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
    bed.set("OTEL_TRACES_SAMPLER_ARG", "0");
    publish(&bed, event("child", "one@example.org"), &format!("00-{TRACE}-{PARENT}-01")).await;
    bed.publish(Priority::Normal, [event("root", "one@example.org")]).await;
    Found::at_the_end(&bed, bed.start()).await;
    let spans = collector.spans();
    process(&spans, "child");
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
}

#[tokio::test]
async fn retries_are_events_and_dead_letters_errors() {
    let later = || Action::reply(451, "4.3.0", "ask person@example.org");
    let server = SmtpServer::builder()
        .rule(on(Command::Dot).recipient("later@example.org").times(2, later()))
        .rule(on(Command::Rcpt).recipient("never@example.org").reply(550, "5.1.1", "no person@example.org here"))
        .rule(on(Command::Rcpt).recipient("slow@example.org").once(Action::reply(452, "4.3.1", "slow down")));
    let (bed, collector) = traced(server).await;
    bed.publish(
        Priority::Normal,
        ["later", "never", "slow"].map(|name| event(name, &format!("{name}@example.org"))).into_iter().chain([
            event_with("untemplated", "secret.person@example.org", &json!({"template": "no-such"})),
            event("event-of.person@example.org", "fine@example.org"),
            json!({"message": {"id": "secret.person@example.org", "to": 5}}),
        ]),
    )
    .await;
    let found = Found::at_the_end(&bed, bed.start()).await;
    let spans = collector.spans();

    let mail = process(&spans, "later");
    assert_eq!((mail.event_names(), mail.error.as_ref()), (vec!["deferred"; 2], None));
    for (index, (_, event)) in mail.events.iter().enumerate() {
        assert_eq!(event["postlane.attempts"], (index + 1).to_string());
        assert_eq!((event["postlane.class"].as_str(), event["postlane.smtp.code"].as_str()), ("deferred", "451"));
        assert_eq!(event["postlane.smtp.enhanced_code"], "4.3.0");
        assert!(event["postlane.retry_in"].parse::<f64>().expect("seconds") > 0.0);
    }
    assert_eq!((mail.get("postlane.outcome"), mail.get("postlane.attempts")), ("sent", "3"));
    let sends: Vec<_> = children(&spans, mail).into_iter().filter(|span| span.name == "send").collect();
    let tried: Vec<_> = sends.iter().map(|span| (span.get("postlane.attempt"), span.get("error.type"))).collect();
    assert_eq!(tried, [("1", "deferred"), ("2", "deferred"), ("3", "")]);
    assert_eq!((sends[0].error.as_deref(), sends[2].error.as_deref()), (Some("deferred"), None));

    let mail = process(&spans, "slow");
    assert_eq!((mail.event_names(), mail.get("postlane.attempts")), (vec!["throttled"], "1"));

    let mail = process(&spans, "never");
    assert_eq!((mail.event_names(), mail.error.as_deref()), (vec!["dead letter"], Some("rejected")));
    assert_eq!((mail.get("error.type"), mail.get("postlane.outcome")), ("rejected", "dead letter"));
    assert_eq!(mail.events[0].1["postlane.smtp.enhanced_code"], "5.1.1");
    let burial = format!("send {}", bed.names.dead_letters);
    assert!(children(&spans, mail).iter().any(|span| span.name == burial));

    let mail = process(&spans, "untemplated");
    assert_eq!(mail.error.as_deref(), Some("unknown-template"));
    let render = children(&spans, mail).into_iter().find(|span| span.name == "render").expect("tried");
    assert_eq!(render.error.as_deref(), Some("unknown-template"));
    let malformed = spans.iter().filter(|span| span.error.as_deref() == Some("malformed"));
    assert_eq!(malformed.count(), 1);
    assert_eq!(found.letters.len(), 3);

    for secret in ["person", "never@", "slow down"] {
        assert!(!format!("{spans:?}").contains(secret), "{secret}: {spans:#?}");
    }
}

#[tokio::test]
async fn a_mail_that_still_waits_at_the_end_says_so() {
    let later = on(Command::Rcpt).recipient("later@example.org").reply(451, "4.7.1", "greylisted");
    let (mut bed, collector) = traced(SmtpServer::builder().rule(later)).await;
    bed.set("RETRY_INITIAL_DELAY", "1h");
    bed.set("RETRY_MAX_DELAY", "1h");
    bed.publish(Priority::Normal, [event("later", "later@example.org")]).await;
    let mut service = bed.start();
    service.wait_for_line(&["\"outcome\":\"deferred\""], SOON).await.expect("deferred");
    end(service).await;
    let spans = collector.spans();
    let mail = process(&spans, "later");
    assert_eq!((mail.get("postlane.outcome"), mail.event_names()), ("unsettled", vec!["deferred"]));
}

#[tokio::test]
async fn a_collector_that_is_down_or_hangs_holds_up_neither_mails_nor_the_end() {
    let (bed, collector) = traced(SmtpServer::builder()).await;
    for behaviour in [Behaviour::Hang, Behaviour::Refuse(503), Behaviour::Refuse(400)] {
        collector.behave(behaviour);
        bed.smtp.clear();
        // more spans than the queue holds
        let asked = collector.requests().len();
        bed.publish(Priority::Normal, (0..700).map(|number| event(&number.to_string(), "one@example.org"))).await;
        let mut service = bed.start();
        bed.smtp.wait_for_mails(700, SOON).await.expect("the mails");
        bed.wait_for_no_lag(&mut service).await;
        collector.wait_until(SOON, |collector| collector.requests().len() > asked).await.expect("asked");
        let (log, took) = timed_end(service).await;
        assert!(took < Duration::from_secs(5), "{behaviour:?}: the end took {took:?}:\n{log}");
        let line = log.lines().find(|line| line.contains("some spans did not get to the collector"));
        let fields: Value = serde_json::from_str(line.unwrap_or_else(|| panic!("not said:\n{log}"))).expect("JSON");
        assert_eq!(fields["dropped"], 4 * 700, "{behaviour:?}: every span is accounted for");
        if behaviour != Behaviour::Hang {
            assert_eq!(log.matches("the collector takes no spans").count(), 1, "{behaviour:?}:\n{log}");
        }
    }
    assert!(collector.spans().is_empty());
}

async fn timed_end(service: devkit::service::Service) -> (String, Duration) {
    let begun = Instant::now();
    let log = end(service).await;
    (log, begun.elapsed())
}

#[tokio::test]
async fn spans_wait_for_a_collector_that_comes_back() {
    let (bed, collector) = traced(SmtpServer::builder()).await;
    collector.behave(Behaviour::Refuse(503));
    bed.publish(Priority::Normal, [event("one", "one@example.org")]).await;
    let mut service = bed.start();
    let line = service.wait_for_line(&["the collector takes no spans", "503"], SOON).await.expect("said");
    assert!(line.contains("WARN"), "{line}");
    collector.behave(Behaviour::Accept);
    collector.wait_until(SOON, |collector| collector.spans().len() == 4).await.expect("all spans of the mail");
    service.wait_for_line(&["the collector takes spans again"], SOON).await.expect("said");
    assert!(!end(service).await.contains("did not get to the collector"));
}

#[tokio::test]
async fn without_an_endpoint_or_switched_off_nothing_is_connected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    for (name, value) in
        [("OTEL_SERVICE_NAME", "shop"), ("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")]
    {
        let mut bed = Bed::new().await;
        if name != "OTEL_SERVICE_NAME" {
            bed.set("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
        }
        bed.set(name, value);
        publish(&bed, event("one", "one@example.org"), &format!("00-{TRACE}-{PARENT}-01")).await;
        let found = Found::at_the_end(&bed, bed.start()).await;
        assert!(found.outcomes("one")[0]["trace_id"].is_null());
    }
    let connected = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(connected.is_err(), "{connected:?}");
}

#[tokio::test]
async fn a_collector_behind_tls_is_trusted_by_its_authority_alone() {
    let collector = Collector::start_tls(Behaviour::Accept).await;
    let mut bed = Bed::new().await;
    bed.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    bed.publish(Priority::Normal, [event("one", "one@example.org")]).await;
    let mut service = bed.start();
    let line = service.wait_for_line(&["the collector takes no spans"], SOON).await.expect("said");
    assert!(line.contains("certificate") && line.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "{line}");
    end(service).await;
    assert!(collector.requests().is_empty());

    let ca = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-collector.pem", bed.names.group));
    bed.set("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.display());
    let mut service = bed.start();
    let status = service.wait(SOON).await.expect("it does not start without its file");
    assert_eq!(status.code(), Some(78), "{}", service.tail());

    std::fs::write(&ca, collector.ca_pem().expect("TLS")).expect("a file");
    bed.publish(Priority::Normal, [event("two", "two@example.org")]).await;
    Found::at_the_end(&bed, bed.start()).await;
    process(&collector.spans(), "two");
}
