//! OpenTelemetry's variables, by its specification where that says how a value is written; a wrong one is an error here
//! as with every other variable, where the specification would have it ignored.

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
    let (service_name, resource_attributes) = resource(reader, raw);
    reader.optional(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        raw.exporter_otlp_protocol.as_ref(),
        "http/protobuf (mostly port 4318), the one that postlane speaks",
        |text| (text == "http/protobuf").then_some(()),
    );
    let timeout = reader.number(
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        raw.exporter_otlp_timeout.as_ref(),
        10_000,
        1,
        // in milliseconds
        600_000,
    );
    Telemetry {
        disabled: reader.value(
            "OTEL_SDK_DISABLED",
            raw.sdk_disabled.as_ref(),
            false,
            "true or false",
            values::boolean,
        ),
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
        endpoint: endpoint(reader, "OTEL_EXPORTER_OTLP_ENDPOINT", raw.exporter_otlp_endpoint.as_ref()),
        traces_endpoint: endpoint(
            reader,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            raw.exporter_otlp_traces_endpoint.as_ref(),
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

fn endpoint(reader: &mut Reader, variable: &'static str, text: Option<&String>) -> Option<String> {
    let text = text.map(|text| text.trim()).filter(|text| !text.is_empty())?;
    let uri = text.parse::<Uri>().ok().filter(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        scheme && uri.host().is_some_and(|host| !host.is_empty()) && !text.contains('@')
    });
    if uri.is_none() {
        // what stands before an @ may be a password
        let held = if text.contains('@') { "***" } else { text };
        let expected = "a URL such as http://collector:4318; credentials go into OTEL_EXPORTER_OTLP_HEADERS";
        reader.problem(variable, Some(held), expected);
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
