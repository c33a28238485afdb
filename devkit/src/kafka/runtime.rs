//! Where Kafka's classes come from and what runs them: Java with jars from Maven, or Docker.
//!
//! Owns finding Java, fetching the jars once for all processes, and the command line that runs one class. Does not know
//! what the classes do.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::process::Command;
use tokio::sync::OnceCell;

/// The version of Apache Kafka that is fetched. It needs Java 17.
pub const KAFKA_VERSION: &str = "4.1.1";

const JAVA_NEEDED: u32 = 17;
const INSTALL: &str = "apt-get install openjdk-17-jre-headless maven";

/// Runs classes of Apache Kafka.
#[derive(Debug, Clone)]
pub(crate) enum Runtime {
    /// A local Java with the jars in a folder.
    Java { java: PathBuf, jars: PathBuf },
    /// A container of the image for each process.
    Docker { image: String },
}

/// A command line that runs one class.
#[derive(Debug)]
pub(crate) struct CommandLine {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// The container in which it runs, if it does not run as the child itself.
    pub(crate) container: Option<String>,
}

impl Runtime {
    /// The runtime of this machine, provisioned by the first caller.
    pub(crate) async fn get() -> Result<&'static Self> {
        static RUNTIME: OnceCell<Runtime> = OnceCell::const_new();
        RUNTIME.get_or_try_init(Self::provision).await
    }

    async fn provision() -> Result<Self> {
        let without_java = match Self::from_java().await {
            Ok(runtime) => return Ok(runtime),
            Err(error) => error,
        };
        let without_docker = match Self::from_docker().await {
            Ok(runtime) => return Ok(runtime),
            Err(error) => error,
        };
        bail!(
            "no Kafka to test against: {without_java:#}; {without_docker:#}. Install Java and Maven with `{INSTALL}`, \
             start Docker, or name a running cluster in {}",
            super::BROKERS_VARIABLE
        )
    }

    async fn from_java() -> Result<Self> {
        let java = find_java().await?;
        let jars = cache_folder().join(format!("kafka-{KAFKA_VERSION}"));
        if !jars.is_dir() {
            fetch_jars(&jars).await?;
        }
        Ok(Self::Java { java, jars })
    }

    async fn from_docker() -> Result<Self> {
        let image = format!("apache/kafka:{KAFKA_VERSION}");
        output("docker", &["version", "--format", "{{.Server.Version}}"])
            .await
            .map_err(|_| anyhow!("no Docker daemon answers"))?;
        if output("docker", &["image", "inspect", "--format", "{{.Id}}", &image]).await.is_err() {
            eprintln!("devkit: pulling the image {image} (once)");
            output("docker", &["pull", "--quiet", &image]).await?;
        }
        Ok(Self::Docker { image })
    }

    /// The command line that runs `class` with `arguments`; a container sees `folder` under the same path.
    pub(crate) fn command_line(
        &self,
        jvm: &[&str],
        class: &str,
        arguments: &[&str],
        folder: Option<&Path>,
    ) -> CommandLine {
        let mut line = match self {
            Self::Java { java, jars } => {
                let mut classpath = jars.clone().into_os_string();
                classpath.push("/*");
                let arguments = vec![OsString::from("-cp"), classpath];
                CommandLine { program: java.clone(), arguments, container: None }
            }
            Self::Docker { image } => {
                let name = super::unique("postlane-devkit");
                let user = format!("{}:{}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
                let mut arguments: Vec<OsString> =
                    ["run", "--rm", "--network", "host", "--user", &user, "--name", &name, "--entrypoint", "java"]
                        .map(OsString::from)
                        .to_vec();
                if let Some(folder) = folder {
                    let mut volume = folder.as_os_str().to_owned();
                    volume.push(":");
                    volume.push(folder.as_os_str());
                    arguments.extend([OsString::from("--volume"), volume]);
                }
                arguments.extend([image, "-cp", "/opt/kafka/libs/*"].map(OsString::from));
                arguments.push("-Dlog4j2.configurationFile=/opt/kafka/config/tools-log4j2.yaml".into());
                CommandLine { program: "docker".into(), arguments, container: Some(name) }
            }
        };
        line.arguments.extend(jvm.iter().map(OsString::from));
        line.arguments.push(class.into());
        line.arguments.extend(arguments.iter().map(OsString::from));
        line
    }
}

/// A Java of at least the needed version: that of `JAVA_HOME`, else the one on the path.
async fn find_java() -> Result<PathBuf> {
    let java = match env::var_os("JAVA_HOME") {
        Some(home) if Path::new(&home).join("bin/java").exists() => Path::new(&home).join("bin/java"),
        _ => PathBuf::from("java"),
    };
    let answer = Command::new(&java)
        .arg("-version")
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|_| anyhow!("no Java is installed"))?;
    let text = String::from_utf8_lossy(&answer.stderr);
    let version = java_version(&text).with_context(|| format!("unknown Java version: {}", text.trim()))?;
    if version < JAVA_NEEDED {
        bail!("Java {version} is too old, Kafka {KAFKA_VERSION} needs {JAVA_NEEDED}");
    }
    Ok(java)
}

/// The major version in the answer to `java -version`, whose first quoted text is `17.0.15`, `21` or, up to Java 8, `1.8.0`.
fn java_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    let mut numbers = quoted.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match numbers.next()?.ok()? {
        1 => numbers.next()?.ok(),
        version => Some(version),
    }
}

/// Where the jars are kept between runs.
fn cache_folder() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("POSTLANE_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("postlane-devkit")))
        .or_else(|| Some(set("HOME")?.join(".cache/postlane-devkit")))
        .filter(|folder| std::fs::create_dir_all(folder).is_ok())
        .unwrap_or_else(|| env::temp_dir().join("postlane-devkit"))
}

/// Fetches the jars into a folder beside `target` and renames it, so that `target` is complete once it exists. Other
/// processes that want the same wait at a file lock.
async fn fetch_jars(target: &Path) -> Result<()> {
    let cache = target.parent().context("the folder of the jars has a parent")?.to_owned();
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock_path = cache.join(format!("kafka-{KAFKA_VERSION}.lock"));
    let lock = File::create(&lock_path).with_context(|| format!("cannot make {}", lock_path.display()))?;
    let _lock = tokio::task::spawn_blocking(move || {
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map(|()| lock)
    })
    .await?
    .context("cannot lock the cache folder")?;
    if target.is_dir() {
        return Ok(());
    }
    let work = tempfile::Builder::new().prefix(".kafka-").tempdir_in(&cache)?;
    std::fs::write(work.path().join("pom.xml"), project_file())?;
    let run = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"])
        .current_dir(work.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|_| anyhow!("no Maven is installed"))?;
    eprintln!("devkit: downloading Apache Kafka {KAFKA_VERSION} with Maven into {} (once)", target.display());
    let run = run.wait_with_output().await?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stdout);
        bail!("Maven could not download Kafka: {}", said.trim());
    }
    std::fs::rename(work.path().join("jars"), target).with_context(|| format!("cannot make {}", target.display()))
}

fn project_file() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>\n"
        )
    };
    let dependencies = [
        dependency("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        dependency("org.apache.kafka", "kafka-tools", KAFKA_VERSION),
        // Without a binding Kafka logs nothing, and a broker that fails to start does not say why.
        dependency("org.slf4j", "slf4j-simple", "1.7.36"),
    ]
    .concat();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>postlane</groupId>\n  <artifactId>devkit</artifactId>\n  <version>0</version>\n  \
         <dependencies>\n{dependencies}  </dependencies>\n</project>\n"
    )
}

async fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let run = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("cannot run {program}"))?;
    if !run.status.success() {
        bail!("{program} {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&run.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&run.stdout).trim().to_owned())
}

/// A path as an argument of a Java class.
pub(crate) fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::java_version;

    #[test]
    fn reads_the_version_of_old_and_new_javas() {
        assert_eq!(java_version("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(java_version("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(java_version("openjdk version \"26-ea\" 2026-03-17"), Some(26));
        assert_eq!(java_version("java version \"1.8.0_292\""), Some(8));
        assert_eq!(java_version("command not found"), None);
    }
}
