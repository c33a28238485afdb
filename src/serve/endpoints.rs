//! What the HTTP server answers, from health and metrics.

use serde_json::json;

use crate::{health::Health, http, metrics::Exposition};

/// Joins the two.
pub(super) struct Endpoints {
    pub(super) health: Health,
    pub(super) exposition: Exposition,
}

impl http::Endpoints for Endpoints {
    fn live(&self) -> (bool, String) {
        let standstills = self.health.standstills();
        let live = standstills.is_empty();
        (live, format!("{:#}\n", json!({"live": live, "reasons": standstills})))
    }

    fn ready(&self) -> (bool, String) {
        let readiness = self.health.readiness();
        (readiness.ready(), readiness.to_json())
    }

    fn metrics(&self, open_metrics: bool) -> String {
        self.exposition.text(open_metrics)
    }
}
