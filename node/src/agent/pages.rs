//! The holding pages of this node: one for each endpoint whose application has failed while we hold it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

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
    /// Why some do not, as it was told.
    told: BTreeMap<Name, String>,
    tried: Option<Instant>,
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
            self.tend().await;
        }
    }

    async fn take_away(&mut self, endpoint: &Name) {
        self.wanted.remove(endpoint);
        self.told.remove(endpoint);
        if let Some(page) = self.standing.remove(endpoint) {
            tracing::info!(%endpoint, served = page.served(), "the holding page goes");
            page.stop().await;
        }
    }

    /// Shows what should stand and does not, if it is time to.
    pub(super) async fn retry(&mut self) {
        if self.retry_after().is_zero() {
            self.tend().await;
        }
    }

    async fn tend(&mut self) {
        self.tried = Some(Instant::now());
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
                Err(error) => {
                    let why = error.to_string();
                    if self.told.get(endpoint) != Some(&why) {
                        tracing::error!(%endpoint, why, "visitors see no holding page");
                        self.told.insert(endpoint.clone(), why);
                    }
                }
            }
        }
    }

    /// How long until something should be tried again, however much else there is to do meanwhile.
    pub(super) fn retry_after(&self) -> Duration {
        if self.wanted.len() == self.standing.len() {
            return Duration::MAX;
        }
        self.tried.map_or(Duration::ZERO, |tried| RETRY_AFTER.saturating_sub(tried.elapsed()))
    }

    /// Takes all pages away.
    pub(super) async fn clear(&mut self) {
        self.wanted.clear();
        for (_, page) in std::mem::take(&mut self.standing) {
            page.stop().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use stead_proto::site::{Driver, HoldingText};

    /// There is no page on a port that speaks TLS.
    fn without_a_page() -> EndpointSpec {
        EndpointSpec {
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            ports: vec![443],
            services: BTreeSet::new(),
            driver: Driver::Vip,
            lease_ms: 350,
            prefer: Vec::new(),
            holding: HoldingText::default(),
        }
    }

    #[tokio::test]
    async fn a_page_that_could_not_be_shown_is_tried_again_in_time_whatever_else_happens() {
        let mut pages = Pages::default();
        assert_eq!(pages.retry_after(), Duration::MAX);
        pages.set("www".parse().unwrap(), without_a_page(), true).await;

        // Effects of other kinds come and go, and each time it is looked whether it is time.
        let lately = Instant::now().checked_sub(RETRY_AFTER / 2);
        pages.tried = lately;
        pages.retry().await;
        assert_eq!(pages.tried, lately);
        assert!(pages.retry_after() <= RETRY_AFTER / 2, "they put nothing off");
        let long_ago = Instant::now().checked_sub(RETRY_AFTER);
        pages.tried = long_ago;
        pages.retry().await;
        assert!(pages.tried > long_ago);

        pages.set("www".parse().unwrap(), without_a_page(), false).await;
        assert_eq!(pages.retry_after(), Duration::MAX);
    }
}
