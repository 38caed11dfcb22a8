//! Saying how this node is, and taking in what the others say.

use super::{Effect, Mesh, Now};
use crate::codec;
use crate::id::{Name, NodeId};
use crate::lease::Lease;
use crate::limits::{PATIENCE, REPORT_EVERY, REPORT_FRAME_BYTES_MAX, REPORT_GAP_MIN};
use crate::liveness::Row;
use crate::plan::Epoch;
use crate::report::{self, LeaseSeen, LogSeen, Reach, Report, ServiceSeen, Unwell};
use crate::sign::{SecretKey, Signed};
use crate::time::Instant;
use alloc::vec::Vec;
use core::net::IpAddr;

/// The chain of this node's reports, and when the next one is due.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) key: SecretKey,
    incarnation: u64,
    sequence: u64,
    previous: [u8; 32],
    last: Instant,
    hurried: bool,
}

impl Reporter {
    pub(super) const fn new(key: SecretKey, incarnation: u64) -> Self {
        Self { key, incarnation, sequence: 0, previous: [0; 32], last: Instant::ZERO, hurried: true }
    }

    /// Something changed that the others should know at once.
    pub(super) const fn hurry(&mut self) {
        self.hurried = true;
    }

    pub(super) const fn deadline(&self) -> Instant {
        self.last.after(if self.hurried { REPORT_GAP_MIN } else { REPORT_EVERY })
    }
}

impl Mesh {
    pub(super) fn report_if_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if now.at < self.reporter.deadline() {
            return;
        }
        let report = self.compose_report(now);
        let signed = self.reporter.key.sign(self.state.cluster, &report);
        let signed = signed.expect("a report fits its frame: every list in it is bounded");
        self.reporter.sequence += 1;
        self.reporter.previous = report::link(&signed);
        self.reporter.last = now.at;
        self.reporter.hurried = false;
        // Silence makes no noise: it is looked for whenever this node speaks itself.
        if self.finds_anything(now.at) {
            self.judging.hurry(now.at);
        }
        let bytes = codec::encode(&signed, REPORT_FRAME_BYTES_MAX);
        out.push(Effect::Report(bytes.expect("a signed report fits its frame")));
        self.remember_row(now.at, report, signed);
    }

    /// What this node says of itself at `now`.
    pub(super) fn compose_report(&self, now: Now) -> Report {
        Report {
            from: self.me,
            incarnation: self.reporter.incarnation,
            sequence: self.reporter.sequence + 1,
            previous: self.reporter.previous,
            unix_ms: now.unix_ms,
            config: self.config_seen(now.at),
            log: LogSeen {
                term: self.raft.term,
                voted_for: self.raft.voted_for,
                durable: self.raft.durable,
                applied: self.state.applied,
                digest: self.state.digest,
                leader: self.raft.leader,
            },
            services: self.services_seen(),
            leases: self.leases_seen(now.at),
            reach: self.reach(now.at),
            isolated: self.judging.outcasts().iter().copied().collect(),
            fenced: self.fences.told(),
            gate: self.gate.clone(),
            unwell: self.unwell_now(now.at),
            traffic: self.traffic.clone(),
        }
    }

    /// Those of the site: probes of an earlier site may still tell something late.
    fn services_seen(&self) -> Vec<(Name, ServiceSeen)> {
        let current = self.services.iter().filter(|(name, _)| self.state.site.services.contains_key(*name));
        current.map(|(name, seen)| (name.clone(), seen.clone())).collect()
    }

    fn leases_seen(&self, now: Instant) -> Vec<LeaseSeen> {
        let seen = |(name, lease): (&Name, &Lease)| LeaseSeen {
            endpoint: name.clone(),
            highest: lease.highest(),
            promised: promised(lease, now),
            holding: self.serving.get(name).map(|s| s.epoch),
        };
        self.leases.iter().map(seen).collect()
    }

    /// Who was never heard since this start counts as silent for as long, once that says something.
    fn reach(&self, now: Instant) -> Vec<(NodeId, Reach)> {
        let unheard = Some(self.started).filter(|started| now.since(*started) >= PATIENCE);
        self.peers()
            .filter_map(|peer| {
                let at = self.heard.get(&peer).copied().or(unheard)?;
                let heard_ms_ago = u32::try_from(now.since(at).as_ms()).unwrap_or(u32::MAX);
                let rtt_us = self.rtt_us.get(&peer).copied().unwrap_or_default();
                let (head, host_key) = (self.findings.chains.head(peer), self.outside.host_key(now, peer));
                Some((peer, Reach { heard_ms_ago, rtt_us, head, host_key }))
            })
            .collect()
    }

    fn unwell_now(&self, now: Instant) -> Vec<Unwell> {
        let stalled = (now < self.stalled_until).then_some(Unwell::Stalled);
        self.unwell.iter().copied().chain(stalled).collect()
    }

    /// Believes a report only if it is signed by the node on whose session it came, and newer.
    pub(super) fn take_report(
        &mut self,
        now: Instant,
        (from, at): (NodeId, Option<IpAddr>),
        bytes: &[u8],
        out: &mut Vec<Effect>,
    ) {
        if !self.trusts(from) || from == self.me {
            return;
        }
        let Ok(signed) = codec::decode::<Signed<Report>>(bytes, REPORT_FRAME_BYTES_MAX) else {
            return self.findings.silence.reports(now, from);
        };
        if self.state.members.get(&from).is_some_and(|member| member.key != signed.claimed_signer()) {
            return self.take_exhibit(now, from, &signed);
        }
        let Some(report) = crate::evidence::verify(&self.state, &signed).filter(|r| r.from == from) else {
            return self.findings.silence.reports(now, from);
        };
        if self.findings.chains.hear(&report, &signed) {
            self.judging.hurry(now);
        }
        if self.rows.get(&from).is_some_and(|row| report.place() <= row.report.place()) {
            return;
        }
        self.hear(now, from, out);
        if self.memories.saw(&report) {
            out.push(Effect::KeepMemories(self.memories.clone()));
        }
        self.judging.rebutted(from);
        if self.findings.hear(now, &report, at, &signed) {
            self.judging.hurry(now);
        }
        self.compare_heads(now, &report, out);
        self.remember_row(now, report, signed);
        self.tell_if_it_lags(now, from);
        self.judge_probes(now);
        self.improve_placement(now, out);
    }

    fn remember_row(&mut self, now: Instant, report: Report, signed: Signed<Report>) {
        let told_news = self.rows.get(&report.from).is_none_or(|row| says_other(&row.report, &report));
        if told_news {
            self.duties.hurry(now);
        }
        self.signed.insert(report.from, signed);
        self.rows.insert(report.from, Row { received: now, report });
    }

    pub(super) fn take_service(
        &mut self,
        now: Instant,
        name: Name,
        seen: Option<ServiceSeen>,
        out: &mut Vec<Effect>,
    ) {
        match seen {
            Some(seen) => drop(self.services.insert(name, seen)),
            None => drop(self.services.remove(&name)),
        }
        self.reporter.hurry();
        self.reconsider_all(now, out);
    }
}

/// To whom a promise runs at `now`, under which epoch.
pub(super) fn promised(lease: &Lease, now: Instant) -> Option<(NodeId, Epoch)> {
    lease.promise().filter(|promise| promise.runs(now)).map(|promise| (promise.to, promise.epoch))
}

/// Whether two reports differ in something that the planner looks at.
fn says_other(old: &Report, new: &Report) -> bool {
    old.leases != new.leases
        || old.services != new.services
        || old.unwell != new.unwell
        || old.gate != new.gate
        || old.config.index != new.config.index
        || old.traffic.posture != new.traffic.posture
        || old.traffic.flood.is_some() != new.traffic.flood.is_some()
        || old.traffic.attack.is_some() != new.traffic.attack.is_some()
        || old.traffic.blinded != new.traffic.blinded
        || old.traffic.meddled != new.traffic.meddled
        || old.isolated != new.isolated
        || old.fenced != new.fenced
}
