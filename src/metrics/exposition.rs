//! The text that is scraped, in the two formats that Prometheus reads.

use std::fmt::Write as _;

use prometheus_client::{encoding::text, registry::Registry};

use super::process::Process;

/// All metrics of the process, ready to be scraped.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// Adds the start of the process, which is now, and what it takes of the system to what is registered already.
    pub fn new(mut registry: Registry) -> Self {
        registry.register_collector(Box::new(Process::starts_now()));
        Self(registry)
    }

    /// The metrics as of now, in `OpenMetrics` 1.0 or in the text format 0.0.4 that every Prometheus knows.
    pub fn text(&self, open_metrics: bool) -> String {
        let mut out = String::with_capacity(32 * 1024);
        text::encode(&mut out, &self.0).expect("a String takes every write");
        // both formats write it so; the encoder does not
        let out = out.replace(" inf\n", " +Inf\n");
        if open_metrics { out } else { classic(&out) }
    }
}

/// `OpenMetrics` to the text format 0.0.4: there a counter's name ends in `_total` also where it is described, an info is
/// a gauge, and there are neither units nor an end.
fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else {
            if !line.starts_with('#') {
                out.push_str(line);
                out.push('\n');
            }
            continue;
        };
        let kind = lines.next_if(|line| line.starts_with("# TYPE ")).and_then(|line| line.rsplit(' ').next());
        let (suffix, kind) = match kind.unwrap_or("untyped") {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            other => ("", other),
        };
        let described = write!(out, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
        described.expect("a String takes every write");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::classic;

    #[test]
    fn the_older_format_describes_its_series_by_their_own_names() {
        let open = "# HELP a_b Mails.\n# TYPE a_b counter\na_b_total{x=\"# HELP\"} 1\n# HELP c_seconds Time.\n\
                    # TYPE c_seconds gauge\n# UNIT c_seconds seconds\nc_seconds 0.5\n# HELP d What.\n# TYPE d info\n\
                    d_info{v=\"1\"} 1\n# EOF\n";
        assert_eq!(
            classic(open),
            "# HELP a_b_total Mails.\n# TYPE a_b_total counter\na_b_total{x=\"# HELP\"} 1\n# HELP c_seconds Time.\n\
             # TYPE c_seconds gauge\nc_seconds 0.5\n# HELP d_info What.\n# TYPE d_info gauge\nd_info{v=\"1\"} 1\n"
        );
    }
}
