//! docs/asyncapi.yaml: topics, headers, operations and examples.

use std::collections::{BTreeMap, BTreeSet};

use postlane::{
    config,
    kafka::dead_letter::{Failure, Reason, Stage, letter, stub},
};
use serde_json::{Map, Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use crate::{decode, read, record, schema::Validator, table};

fn document() -> Value {
    let mut documents = YamlLoader::load_from_str(&read("docs/asyncapi.yaml")).expect("YAML");
    assert_eq!(documents.len(), 1);
    converted(documents.remove(0))
}

fn converted(yaml: Yaml) -> Value {
    match yaml {
        Yaml::String(text) => json!(text),
        Yaml::Integer(number) => json!(number),
        Yaml::Boolean(value) => json!(value),
        Yaml::Null => Value::Null,
        Yaml::Array(list) => list.into_iter().map(converted).collect(),
        Yaml::Hash(map) => {
            let pairs =
                map.into_iter().map(|(key, value)| (key.into_string().expect("a text as key"), converted(value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        other => panic!("no JSON: {other:?}"),
    }
}

fn settings() -> config::Config {
    let variables = [("KAFKA_BROKERS", "localhost:9092"), ("SMTP_HOST", "localhost")];
    config::from_variables(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .expect("all that is needed")
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().expect("an object").keys().cloned().collect()
}

fn documented(head: &str) -> BTreeSet<String> {
    table(head).into_iter().collect()
}

#[test]
fn it_is_of_its_format() {
    let document = document();
    assert_eq!(document["asyncapi"], "3.0.0");
    let known = ["asyncapi", "channels", "components", "defaultContentType", "info", "operations", "servers"];
    assert_eq!(names(&document).into_iter().collect::<Vec<_>>(), known);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (name, operation) in document["operations"].as_object().expect("operations") {
        assert!(matches!(operation["action"].as_str(), Some("send" | "receive")), "{name}");
        let channel = operation["channel"]["$ref"].as_str().expect("a channel");
        for message in operation["messages"].as_array().expect("messages") {
            let message = message["$ref"].as_str().expect("a reference");
            assert!(message.starts_with(&format!("{channel}/messages/")), "{name}: {message} is none of {channel}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    match value.as_str().filter(|_| key == "$ref") {
                        Some(target) => found.push(target.to_owned()),
                        None => walk(value, found),
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let (document, mut found) = (document(), Vec::new());
    walk(&document, &mut found);
    assert!(found.len() > 10);
    for target in found {
        match target.strip_prefix('#') {
            Some(pointer) => assert!(document.pointer(pointer).is_some(), "{target}"),
            None => assert_eq!(target, "./event.schema.json"),
        }
    }
}

#[test]
fn the_channels_are_the_topics() {
    let (document, kafka) = (document(), settings().kafka);
    let channels = document["channels"].as_object().expect("channels");
    let addresses: BTreeMap<&str, &str> =
        channels.iter().map(|(name, channel)| (name.as_str(), channel["address"].as_str().expect("a topic"))).collect();
    let topics = [
        ("high", &kafka.topic_high),
        ("normal", &kafka.topic_normal),
        ("low", &kafka.topic_low),
        ("deadLetters", &kafka.topic_dead_letters),
    ];
    assert_eq!(addresses, topics.into_iter().map(|(name, topic)| (name, topic.as_str())).collect());
    let group = &document["components"]["operationBindings"]["service"]["kafka"]["groupId"]["default"];
    assert_eq!(group, &kafka.group_id);
    let used: BTreeMap<&str, &str> = document["operations"]
        .as_object()
        .expect("operations")
        .values()
        .map(|it| (it["channel"]["$ref"].as_str().expect("a channel"), it["action"].as_str().expect("an action")))
        .collect();
    let expected = channels.keys().map(|name| if name == "deadLetters" { (name, "send") } else { (name, "receive") });
    let expected: Vec<_> = expected.map(|(name, action)| (format!("#/channels/{name}"), action)).collect();
    assert_eq!(used, expected.iter().map(|(channel, action)| (channel.as_str(), *action)).collect());
}

#[test]
fn the_headers_are_those_that_are_written() {
    let schemas = &document()["components"]["schemas"];
    assert_eq!(names(&schemas["eventHeaders"]["properties"]), documented("header of an event"));
    let described = names(&schemas["deadLetterHeaders"]["properties"]);
    assert_eq!(described, documented("header"));
    let failure = Failure {
        stage: Stage::Send,
        reason: Reason::Rejected,
        message: "no".to_owned(),
        recipients: Some(vec![0]),
        attempts: 1,
        smtp_code: Some(550),
        smtp_enhanced: Some((5, 1, 1)),
        message_id: Some("x".to_owned()),
    };
    let (record, now) = (record(b"{}".to_vec()), chrono::DateTime::UNIX_EPOCH);
    let written = stub(&record, &failure, "group", now).headers.into_keys().collect();
    assert_eq!(described, written);
    let bare = Failure { recipients: None, smtp_code: None, smtp_enhanced: None, message_id: None, ..failure };
    let always = letter(&record, &bare, "group", now).headers.into_keys().collect::<Vec<_>>();
    let mut required: Vec<_> =
        schemas["deadLetterHeaders"]["required"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    required.sort_unstable();
    assert_eq!(always, required);
}

#[test]
fn the_words_of_a_dead_letter_are_all_there() {
    let document = document();
    let words = |header: &str| -> BTreeSet<String> {
        let words = &document["components"]["schemas"]["deadLetterHeaders"]["properties"][header]["enum"];
        words.as_array().expect("words").iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    assert_eq!(words("postlane-reason"), documented("reason"));
    let stages = [Stage::Decode, Stage::Template, Stage::Compose, Stage::Send, Stage::Expired];
    assert_eq!(words("postlane-stage"), stages.map(|stage| stage.as_str().to_owned()).into());
}

#[test]
fn the_examples_are_good() {
    let document = document();
    let message = &document["components"]["messages"]["event"];
    let headers = Validator::new(document["components"]["schemas"]["eventHeaders"].clone());
    let events = Validator::of_events();
    let examples = message["examples"].as_array().expect("examples");
    assert!(!examples.is_empty());
    for example in examples {
        let payload = &example["payload"];
        assert_eq!(events.problem(payload), None, "{}", example["name"]);
        assert!(decode(payload).is_ok(), "{}", example["name"]);
        if let Some(given) = example.get("headers") {
            assert_eq!(headers.problem(given), None);
            assert_eq!((&given["type"], &given["timestamp"]), (&payload["type"], &payload["message"]["timestamp"]));
            let known = names(&document["components"]["schemas"]["eventHeaders"]["properties"]);
            assert!(names(given).is_subset(&known));
        }
    }
}
