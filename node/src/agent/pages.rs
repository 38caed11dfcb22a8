//! The holding pages of this node: one for each endpoint whose application has failed while we hold it.

use std::collections::BTreeMap;
use std::time::Duration;

use stead_proto::id::Name;
use stead_proto::site::EndpointSpec;

use crate::holding::{Holding, Page, serve};

/// How often a page that could not be shown is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What shall stand, and what does.
#[derive(Debug, Default)]
pub(super) struct Pages {
    wanted: BTreeMap<Name, EndpointSpec>,
    standing: BTreeMap<Name, Holding>,
}

impl Pages {
    /// Puts a page in front of visitors, or takes it away; a page whose words or ports changed is shown anew.
    pub(super) async fn set(&mut self, endpoint: Name, spec: EndpointSpec, on: bool) {
        if on && self.wanted.get(&endpoint) == Some(&spec) && self.standing.contains_key(&endpoint) {
            return;
        }
        self.take_away(&endpoint).await;
        if on {
            self.wanted.insert(endpoint, spec);
            self.retry().await;
        }
    }

    async fn take_away(&mut self, endpoint: &Name) {
        self.wanted.remove(endpoint);
        if let Some(page) = self.standing.remove(endpoint) {
            tracing::info!(%endpoint, served = page.served(), "the holding page goes");
            page.stop().await;
        }
    }

    /// Shows what should stand and does not.
    pub(super) async fn retry(&mut self) {
        for (endpoint, spec) in &self.wanted {
            if self.standing.contains_key(endpoint) {
                continue;
            }
            let page = Page {
                title: spec.holding.title.clone(),
                message: spec.holding.message.clone(),
                retry_after_s: spec.holding.retry_after_s,
            };
            match serve(spec.address, &spec.ports, &page).await {
                Ok(page) => drop(self.standing.insert(endpoint.clone(), page)),
                Err(error) => tracing::error!(%endpoint, %error, "visitors see no holding page"),
            }
        }
    }

    /// How long until something should be tried again.
    pub(super) fn retry_after(&self) -> Duration {
        if self.wanted.len() > self.standing.len() { RETRY_AFTER } else { Duration::MAX }
    }

    /// Takes all pages away.
    pub(super) async fn clear(&mut self) {
        self.wanted.clear();
        for (_, page) in std::mem::take(&mut self.standing) {
            page.stop().await;
        }
    }
}
