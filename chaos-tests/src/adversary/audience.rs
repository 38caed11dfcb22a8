//! Visitors of a site whose mesh is attacked: answered before it begins, and watched until it is over.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use stead::demo::stage::{SITE_PORT, Stage};
use stead_deploy::lab::visitor::{Route, Visitor};
use stead_deploy::lab::{now, outage};
use stead_proto::time::{Instant, Span};

/// How long the first answers may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Visitors who were answered, and since when they count.
pub(super) struct Audience {
    visitor: Visitor,
    pub(super) since: Instant,
}

impl Audience {
    /// Lets visitors come, and waits until they are answered.
    pub(super) fn seated(stage: &mut Stage) -> anyhow::Result<Self> {
        let visitor = Visitor::start(&stage.lab, Route::to(SocketAddr::new(stage.address, SITE_PORT)))?;
        stage.until("the visitor is answered", PATIENCE, |_| {
            let good = visitor.so_far().visits.iter().filter(|visit| outage::is_good(visit)).count();
            (good >= 50).then_some(())
        })?;
        Ok(Self { visitor, since: now() })
    }

    /// Ends it; the longest time for which they were not served. One that did not end lasted all the time.
    pub(super) fn dismissed(self) -> anyhow::Result<Span> {
        let diary = self.visitor.stop()?;
        ensure!(diary.lost == 0, "the visitor's diary was full");
        let gaps = outage::outages(&diary.visits);
        let concerned = gaps.iter().filter(|gap| gap.until.is_none_or(|until| until >= self.since));
        let lengths = concerned.map(|gap| gap.length().unwrap_or_else(|| now().since(self.since)));
        Ok(lengths.max().unwrap_or(Span::ZERO))
    }
}
