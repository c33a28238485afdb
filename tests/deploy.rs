//! The files people deploy with, held against the program: every setting that they name exists and is accepted, every
//! grace period is longer than a shutdown takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use postlane::config::{Config, from_variables};
use yaml_rust2::{Yaml, YamlLoader};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The one document of a file.
fn yaml(path: &str) -> Yaml {
    let mut documents = YamlLoader::load_from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(documents.len(), 1, "{path} has not one document");
    documents.remove(0)
}

/// Every file below a folder with one of these endings.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
            found.push(path);
        }
    }
    found
}

/// A scalar as Docker and Kubernetes make it a text.
fn text(value: &Yaml) -> String {
    match value {
        Yaml::String(text) | Yaml::Real(text) => text.clone(),
        Yaml::Integer(number) => number.to_string(),
        Yaml::Boolean(truth) => truth.to_string(),
        other => panic!("{other:?} is no scalar"),
    }
}

fn map(value: &Yaml) -> BTreeMap<String, String> {
    let entries = value.as_hash().unwrap_or_else(|| panic!("{value:?} is no mapping"));
    entries.iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// `90s`, `2m`, or a number of seconds.
fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("{text:?} is no duration"));
    Duration::from_secs(match unit {
        "" | "s" => number,
        "m" | "min" => number * 60,
        other => panic!("{other:?} in {text:?} is no unit"),
    })
}

/// Every setting; a test of the configuration holds this file against the code.
fn settings() -> BTreeSet<String> {
    let name = |line: &str| {
        let (name, _) = line.trim_start_matches("# ").split_once('=')?;
        name.chars().all(|c| c.is_ascii_uppercase() || c == '_').then(|| name.to_owned())
    };
    read(".env.example").lines().filter_map(name).collect()
}

/// Demands that these variables are settings, and that the program starts with them; returns what it makes of them.
fn accepted(file: &str, variables: &BTreeMap<String, String>) -> Config {
    let settings = settings();
    for name in variables.keys() {
        assert!(settings.contains(name), "{file} sets {name}, which postlane does not know");
    }
    // the secret is not here
    let secret = tempfile::NamedTempFile::new().expect("a file");
    fs::write(secret.path(), "secret").expect("written");
    let here = |(name, value): (&String, &String)| {
        let value = if name.ends_with("_PASSWORD_FILE") { secret.path().display().to_string() } else { value.clone() };
        (name.clone(), value)
    };
    from_variables(variables.iter().map(here)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn default_shutdown_timeout() -> Duration {
    let required = [("KAFKA_BROKERS", "kafka"), ("SMTP_HOST", "relay")];
    from_variables(required.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .expect("defaults")
        .shutdown_timeout
}

/// The relay takes up to this long to see that a process is gone, and the engine to tell it.
fn assert_longer(file: &str, grace: Duration, config: &Config) {
    let least = config.shutdown_timeout.max(default_shutdown_timeout()) + Duration::from_secs(5);
    assert!(grace >= least, "{file} grants {grace:?} for a shutdown; {least:?} is the least");
}

#[test]
fn compose_starts_what_the_program_accepts() {
    let service = &yaml("compose.yaml")["services"]["postlane"];
    let config = accepted("compose.yaml", &map(&service["environment"]));
    assert_longer("compose.yaml", duration(&text(&service["stop_grace_period"])), &config);
    assert_eq!(service["read_only"], Yaml::Boolean(true));
    assert_eq!(service["cap_drop"][0].as_str(), Some("ALL"));
    assert_eq!(service["security_opt"][0].as_str(), Some("no-new-privileges:true"));
    assert_eq!(service["healthcheck"]["test"][1].as_str(), Some("/postlane"));
}

#[test]
fn compose_creates_the_default_topics_and_pins_every_image() {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_hash().expect("services");
    let script = text(&compose["services"]["topics"]["command"][0]);
    let config = accepted("compose.yaml", &map(&compose["services"]["postlane"]["environment"]));
    let kafka = &config.kafka;
    for topic in [&kafka.topic_high, &kafka.topic_normal, &kafka.topic_low, &kafka.topic_dead_letters] {
        assert!(script.split([' ', ';', '\n']).any(|word| word == topic), "compose.yaml does not create {topic}");
    }
    for (name, service) in services {
        let image = text(&service["image"]);
        let tag = image.rsplit_once(':').map(|(_, tag)| tag);
        assert!(tag.is_some_and(|tag| tag != "latest"), "{name:?} has no version in {image}");
        // what is not there would be made a folder by Docker
        for volume in service["volumes"].as_vec().into_iter().flatten() {
            let volume = text(volume);
            let (source, _) = volume.split_once(':').expect("source:target");
            assert!(!source.starts_with('.') || root().join(source).exists(), "{source} of {name:?} is missing");
        }
    }
}

#[test]
fn the_unit_starts_what_the_program_accepts() {
    let file = "deploy/systemd/postlane.service";
    let unit = read(file);
    let values = |key: &str| -> Vec<String> {
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned)).collect()
    };
    let mut variables: BTreeMap<String, String> = values("Environment")
        .iter()
        .map(|setting| setting.split_once('=').expect("NAME=value"))
        .map(|(name, value)| (name.to_owned(), value.replace("%H", "mailer.example.com")))
        .collect();
    // from its EnvironmentFile
    for (name, value) in [("KAFKA_BROKERS", "kafka"), ("SMTP_HOST", "relay.example.com"), ("SMTP_USER", "shop")] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    let config = accepted(file, &variables);
    assert_longer(file, duration(&values("TimeoutStopSec")[0]), &config);
    assert_eq!(values("Restart"), ["on-failure"]);
    let stays_wrong = values("RestartPreventExitStatus").join(" ");
    assert!(stays_wrong.split(' ').any(|status| status == "78"), "wrong settings would be tried for ever");
    assert!(!stays_wrong.split(' ').any(|status| status == "75"), "a group in use may be free later");
    for path in variables.iter().filter(|(name, _)| name.ends_with("_FILE")).map(|(_, path)| path) {
        let name = path.strip_prefix("%d/").expect("a file by LoadCredential");
        assert!(values("LoadCredential").iter().any(|loaded| loaded.starts_with(&format!("{name}:"))), "{name}");
    }
}

#[test]
fn kubernetes_starts_what_the_program_accepts() {
    let file = "deploy/kubernetes/deployment.yaml";
    let deployment = yaml(file);
    let spec = &deployment["spec"];
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    let mut variables = map(&yaml("deploy/kubernetes/configmap.yaml")["data"]);
    for variable in container["env"].as_vec().expect("a list") {
        variables.insert(text(&variable["name"]), text(&variable["value"]));
    }
    let config = accepted(file, &variables);
    assert_longer(file, duration(&text(&pod["terminationGracePeriodSeconds"])), &config);
    // two would each send every mail
    assert_eq!(spec["strategy"]["type"].as_str(), Some("Recreate"));
    assert_eq!(spec["replicas"].as_i64(), Some(1));
    // a Service with a name such as smtp would set SMTP_PORT
    assert_eq!(pod["enableServiceLinks"], Yaml::Boolean(false));
    // what the profile `restricted` of the pod security standards asks for, and a root that cannot be written
    assert_eq!(pod["securityContext"]["runAsNonRoot"], Yaml::Boolean(true));
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"].as_str(), Some("RuntimeDefault"));
    let own = &container["securityContext"];
    assert_eq!(own["allowPrivilegeEscalation"], Yaml::Boolean(false));
    assert_eq!(own["readOnlyRootFilesystem"], Yaml::Boolean(true));
    assert_eq!(own["capabilities"]["drop"][0].as_str(), Some("ALL"));

    // the file of the password lies where a key of the secret is mounted
    let secret = yaml("deploy/kubernetes/secret.example.yaml");
    let mount = &container["volumeMounts"][0];
    assert!(mount["subPath"].is_badvalue(), "a new password would never be seen");
    assert_eq!(pod["volumes"][0]["name"], mount["name"]);
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], secret["metadata"]["name"]);
    let path = &variables["SMTP_PASSWORD_FILE"];
    let key = path.strip_prefix(&format!("{}/", text(&mount["mountPath"]))).expect("below the mount");
    assert!(!secret["stringData"][key].is_badvalue(), "the secret has no key {key}");
    let data = map(&yaml("deploy/kubernetes/configmap.yaml")["data"]);
    assert!(!data.keys().any(|name| name.contains("PASSWORD")), "a password in a ConfigMap");
}

#[test]
fn probes_and_monitors_name_ports_that_exist() {
    let deployment = yaml("deploy/kubernetes/deployment.yaml");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let port = &container["ports"][0];
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"].as_str(), Some(path), "{probe}");
        assert_eq!(container[probe]["httpGet"]["port"], port["name"], "{probe}");
    }
    let service = yaml("deploy/kubernetes/service.yaml");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], port["name"]);
    assert_eq!(service["spec"]["publishNotReadyAddresses"], Yaml::Boolean(true));
    let monitor = yaml("deploy/kubernetes/podmonitor.yaml");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], port["name"]);
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for selector in [&deployment["spec"]["selector"], &monitor["spec"]["selector"]] {
        assert_eq!(&selector["matchLabels"], labels);
    }
    assert_eq!(&service["spec"]["selector"], labels);

    let exposed = format!("EXPOSE {}", text(&port["containerPort"]));
    assert!(read("Dockerfile").lines().any(|line| line == exposed), "the image does not say {exposed}");
    let target = format!("postlane:{}", text(&port["containerPort"]));
    assert_eq!(
        yaml("deploy/prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"][0].as_str(),
        Some(target.as_str())
    );
}

#[test]
fn every_manifest_is_a_kubernetes_object_and_every_file_is_yaml() {
    for path in files(&root().join("deploy"), &["yaml", "yml"]) {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        let document = yaml(&name);
        if name.starts_with("deploy/kubernetes/") {
            assert!(document["kind"].as_str().is_some() && document["apiVersion"].as_str().is_some(), "{name}");
            let named = document["metadata"]["name"].as_str() == Some("postlane");
            assert!(named || document["kind"].as_str() == Some("Kustomization"), "{name} is not named postlane");
        }
    }
    for resource in yaml("deploy/kubernetes/kustomization.yaml")["resources"].as_vec().expect("a list") {
        assert!(root().join("deploy/kubernetes").join(text(resource)).is_file(), "{resource:?} is missing");
    }
}

#[test]
fn the_image_is_given_all_that_the_program_is_made_of() {
    let ignored = read(".dockerignore");
    let given: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let dockerfile = read("Dockerfile");
    let copied = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    for source in copied.filter(|line| !line.starts_with("--")).flat_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[..words.len() - 1].to_vec()
    }) {
        let known = given.iter().any(|given| source == *given || source.starts_with(&format!("{given}/")));
        assert!(known, ".dockerignore hides {source}");
        assert!(source.starts_with("dist/") || root().join(source).exists(), "{source} does not exist");
    }
    // the manifest of each member of the workspace, without which cargo refuses to build any
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("members");
    for member in members.split('"').skip(1).step_by(2).filter(|member| *member != ".") {
        assert!(dockerfile.contains(&format!("COPY {member}/Cargo.toml {member}/")), "{member} is not copied");
    }
}
