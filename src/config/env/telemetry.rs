//! OpenTelemetry's variables, by its specification where that says how a value is written; a wrong one is an error here
//! as with every other variable, where the specification would have it ignored. But only while traces are on: platforms
//! set these variables for all programs alike, and what is not used must not keep mails from going out.

use std::{path::PathBuf, time::Duration};

use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};

use super::{
    super::{Sampler, Secret, Telemetry, TracesExporter},
    OtelVariables, Reader, values,
};

/// Header fields that are the exporter's own.
const OWN_HEADERS: [&str; 5] = ["host", "content-type", "content-length", "content-encoding", "transfer-encoding"];

pub(super) fn telemetry(reader: &mut Reader, raw: &OtelVariables) -> Telemetry {
    let mut own = Reader::default();
    let telemetry = read(&mut own, raw);
    let set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
    let aimed = set(&raw.exporter_otlp_endpoint) || set(&raw.exporter_otlp_traces_endpoint);
    if aimed && !telemetry.disabled && telemetry.exporter != TracesExporter::None {
        reader.problems.append(&mut own.problems);
    }
    telemetry
}

fn read(reader: &mut Reader, raw: &OtelVariables) -> Telemetry {
    let (service_name, resource_attributes) = resource(reader, raw);
    reader.optional(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        raw.exporter_otlp_protocol.as_ref(),
        "http/protobuf (mostly port 4318), the one that postlane speaks",
        |text| (text == "http/protobuf").then_some(()),
    );
    let timeout = reader.number("OTEL_EXPORTER_OTLP_TIMEOUT", raw.exporter_otlp_timeout.as_ref(), 10_000, 1, 600_000);
    Telemetry {
        disabled: reader.value("OTEL_SDK_DISABLED", raw.sdk_disabled.as_ref(), false, "true or false", values::boolean),
        exporter: reader.value(
            "OTEL_TRACES_EXPORTER",
            raw.traces_exporter.as_ref(),
            TracesExporter::Otlp,
            "otlp or none",
            |text| match text.to_ascii_lowercase().as_str() {
                "otlp" => Some(TracesExporter::Otlp),
                "none" => Some(TracesExporter::None),
                _ => None,
            },
        ),
        endpoint: endpoint(reader, "OTEL_EXPORTER_OTLP_ENDPOINT", raw.exporter_otlp_endpoint.as_ref(), &['?', '#']),
        traces_endpoint: endpoint(
            reader,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            raw.exporter_otlp_traces_endpoint.as_ref(),
            &['#'],
        ),
        headers: headers(reader, raw.exporter_otlp_headers.as_ref()),
        ca_file: raw.exporter_otlp_certificate.as_ref().filter(|text| !text.is_empty()).map(PathBuf::from),
        timeout: Duration::from_millis(u64::try_from(timeout).expect("the range is that of u64")),
        service_name,
        resource_attributes,
        sampler: reader.value(
            "OTEL_TRACES_SAMPLER",
            raw.traces_sampler.as_ref(),
            Sampler::ParentAlwaysOn,
            "always_on, always_off, traceidratio, or one of them with parentbased_ before it",
            values::sampler,
        ),
        sampler_ratio: reader.value(
            "OTEL_TRACES_SAMPLER_ARG",
            raw.traces_sampler_arg.as_ref(),
            1.0,
            "a share from 0 to 1",
            |text| text.parse().ok().filter(|share| (0.0..=1.0).contains(share)),
        ),
    }
}

/// `service.name`, which has a variable of its own, and the other attributes.
fn resource(reader: &mut Reader, raw: &OtelVariables) -> (String, Vec<(String, String)>) {
    let mut attributes = reader.value(
        "OTEL_RESOURCE_ATTRIBUTES",
        raw.resource_attributes.as_ref(),
        Vec::new(),
        "names and values such as deployment.environment.name=production,host.name=mail-1, percent-encoded",
        values::pairs,
    );
    let named = raw.service_name.as_ref().map(|name| name.trim()).filter(|name| !name.is_empty());
    let listed = attributes.iter().find(|(name, _)| name == "service.name").map(|(_, value)| value.clone());
    let name = named.map(str::to_owned).or(listed).unwrap_or_else(|| "postlane".to_owned());
    attributes.retain(|(name, _)| name != "service.name");
    (name, attributes)
}

/// A URL without what it must not have: a path is put behind a base, so that has no query.
fn endpoint(reader: &mut Reader, variable: &'static str, text: Option<&String>, without: &[char]) -> Option<String> {
    let text = text.map(|text| text.trim()).filter(|text| !text.is_empty())?;
    let uri = text.parse::<Uri>().ok().filter(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        scheme && uri.host().is_some_and(|host| !host.is_empty()) && !text.contains('@') && !text.contains(without)
    });
    if uri.is_none() {
        // what stands before an @ may be a password, and what stands behind it a key
        let held = if text.contains('@') { "***".to_owned() } else { values::url_shown(text) };
        let expected = if without.contains(&'?') {
            "a URL such as http://collector:4318, without a query; credentials go into OTEL_EXPORTER_OTLP_HEADERS"
        } else {
            "a URL such as http://collector:4318/v1/traces; credentials go into OTEL_EXPORTER_OTLP_HEADERS"
        };
        reader.problem(variable, Some(&held), expected);
    }
    uri.map(|_| text.to_owned())
}

fn headers(reader: &mut Reader, text: Option<&String>) -> Vec<(String, Secret)> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Vec::new() };
    let legal = |(name, value): &(String, String)| {
        let name = name.parse::<HeaderName>();
        name.is_ok_and(|name| !OWN_HEADERS.contains(&name.as_str())) && HeaderValue::from_str(value).is_ok()
    };
    let Some(pairs) = values::pairs(text).filter(|pairs| pairs.iter().all(legal)) else {
        let expected = "header fields such as authorization=Bearer%20abc,x-tenant=shop, percent-encoded";
        reader.problem("OTEL_EXPORTER_OTLP_HEADERS", Some("***"), expected);
        return Vec::new();
    };
    pairs.into_iter().map(|(name, value)| (name, Secret::new(value))).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError, from_variables};

    fn with(more: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let needed = [("KAFKA_BROKERS", "kafka:9092"), ("SMTP_HOST", "relay.example.com")];
        let all = needed.iter().chain(more);
        from_variables(all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn collector(more: &[(&str, &str)]) -> Option<String> {
        with(more).expect("valid").telemetry.collector()
    }

    #[test]
    fn an_endpoint_switches_it_on() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example.com/own?tenant=1");
        assert_eq!(collector(&[]), None);
        assert_eq!(collector(&[base]).as_deref(), Some("http://collector:4318/v1/traces"));
        assert_eq!(collector(&[base, traces]).as_deref(), Some(traces.1));
        assert_eq!(collector(&[base, ("OTEL_SDK_DISABLED", "true")]), None);
        assert_eq!(
            collector(&[base, ("OTEL_SDK_DISABLED", "false")]).as_deref(),
            Some("http://collector:4318/v1/traces")
        );
        assert_eq!(collector(&[traces, ("OTEL_TRACES_EXPORTER", "none")]), None);
    }

    #[test]
    fn the_name_of_the_service() {
        let name = |more: &[(&str, &str)]| with(more).expect("valid").telemetry.service_name;
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=listed,host.name=m%2C1");
        assert_eq!(name(&[]), "postlane");
        assert_eq!(name(&[attributes]), "listed");
        assert_eq!(name(&[attributes, ("OTEL_SERVICE_NAME", "own")]), "own");
        let config = with(&[attributes]).expect("valid");
        assert_eq!(config.telemetry.resource_attributes, [("host.name".to_owned(), "m,1".to_owned())]);
        assert!(config.effective().contains(&("OTEL_RESOURCE_ATTRIBUTES", "host.name=m%2C1".to_owned())));
    }

    #[test]
    fn headers_are_secrets() {
        let config =
            with(&[("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20hunter2,x-tenant=a")]).expect("valid");
        let headers = &config.telemetry.headers;
        assert_eq!((headers[0].0.as_str(), headers[0].1.reveal()), ("Authorization", "Bearer hunter2"));
        assert_eq!(headers.len(), 2);
        assert!(!format!("{config:?} {:?}", config.effective()).contains("hunter2"));
        let shown = "Authorization=***,x-tenant=***".to_owned();
        assert!(config.effective().contains(&("OTEL_EXPORTER_OTLP_HEADERS", shown)));
    }

    #[test]
    fn wrong_values_are_named_and_secrets_are_not_told() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://collector:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://user:hunter2@collector"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector?key=hunter2"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector/#hunter2"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector/v1/traces#hunter2"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector?key=hunter2"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0d%0ab:c"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "content-type=hunter2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_RESOURCE_ATTRIBUTES", "nothing"),
            ("OTEL_SDK_DISABLED", "perhaps"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.1"),
            ("OTEL_TRACES_SAMPLER_ARG", "NaN"),
        ] {
            let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
            let error = with(&[base, (name, value)]).expect_err(value);
            assert_eq!(error.0.len(), 1, "{error}");
            assert_eq!(error.0[0].variable, name, "{value}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_is_meant_for_others_is_no_error_while_traces_are_off() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let (disabled, none) = (("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none"));
        for off in [
            &[grpc][..],
            &[("OTEL_TRACES_EXPORTER", "console"), ("OTEL_SDK_DISABLED", "perhaps")],
            &[("OTEL_EXPORTER_OTLP_HEADERS", "rubbish"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")],
            &[disabled, grpc, base],
            &[none, ("OTEL_TRACES_SAMPLER", "jaeger_remote"), base],
            &[none, ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")],
            &[grpc, ("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
        ] {
            assert_eq!(collector(off), None, "{off:?}");
        }
        assert!(with(&[base, grpc]).is_err());
        assert!(with(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317"), grpc]).is_err());
    }

    #[test]
    fn a_query_is_nothing_for_a_base_and_a_secret_elsewhere() {
        let key = "https://traces.example.com/own?key=hunter2";
        assert_eq!(collector(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", key)]).as_deref(), Some(key));
        let effective = with(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", key)]).expect("valid").effective();
        let shown = "https://traces.example.com/own?***".to_owned();
        assert!(effective.contains(&("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", shown)), "{effective:?}");
    }
}
