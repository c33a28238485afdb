use super::*;

fn file(name: &str, content: &str) -> PemFile {
    let path = std::env::temp_dir().join(format!("postlane-tls-{}-{name}", std::process::id()));
    std::fs::write(&path, content).expect("a temporary file");
    PemFile { variable: "SMTP_CA_FILE", path }
}

#[test]
fn the_public_authorities_are_trusted_without_a_file() {
    assert!(Settings::default().client_config().is_ok());
}

#[test]
fn a_bad_ca_file_is_refused_and_the_setting_named() {
    let missing = std::env::temp_dir().join("postlane-tls-no-such-file");
    let missing = PemFile { variable: "SMTP_CA_FILE", path: missing };
    let empty = file("empty", "nothing here\n");
    let broken = file("broken", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
    let wrong = file("wrong", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (file, expected) in [
        (&missing, "cannot read certificates"),
        (&empty, "no certificate in"),
        (&broken, "cannot read certificates"),
        (&wrong, "certificate 1 in"),
    ] {
        let settings = Settings { authorities: Some(file.clone()), ..Settings::default() };
        let text = settings.client_config().expect_err("a bad file").to_string();
        assert!(text.starts_with("SMTP_CA_FILE: ") && text.contains(expected), "{text}");
    }
    for file in [empty, broken, wrong] {
        std::fs::remove_file(file.path).expect("the file that was made above");
    }
}
