//! Samples of datagrams, and of the lease records on a node's tmpfs.

use std::collections::BTreeMap;

use stead_proto::id::NodeId;
use stead_proto::lease::{BootId, Held, Promise, Record, Verdict};
use stead_proto::limits::{COMMAND_FRAME_BYTES_MAX, LEASE_FRAME_BYTES_MAX};
use stead_proto::mesh::Records;
use stead_proto::time::Span;
use stead_proto::{election, lease, message};

use crate::parts::{epoch, made_of, name};
use crate::sample::{Samples, every};
use crate::{reports, tribunal};

const BOOT: BootId = BootId([0xb0; 16]);
/// 100 s after boot.
const NS: u64 = 100_000_000_000;

fn verdicts() -> [(&'static str, Verdict); 2] {
    every!(Verdict:
        Agreed;
        Refused { highest: epoch(70_000, 251), retry_after_ms: 350, promised_to: Some(NodeId(300)) };
    )
}

fn leases() -> [(&'static str, lease::Message); 3] {
    use lease::Message;
    every!(Message:
        Ask { epoch: epoch(70_000, 1), config_index: 400, seq: NS };
        Answer { epoch: epoch(70_000, 1), config_index: 400, seq: NS, verdict: Verdict::Agreed };
        Release { epoch: epoch(70_000, 1), next: Some(NodeId(300)) };
    )
}

fn answer(verdict: Verdict) -> lease::Message {
    lease::Message::Answer { epoch: epoch(70_000, 1), config_index: 400, seq: NS, verdict }
}

fn elections() -> [(&'static str, election::Message); 2] {
    use election::Message;
    every!(Message:
        Ask { round: 251, last: (7, 70_000) };
        Grant { round: 251 };
    )
}

fn messages() -> [(&'static str, message::Message); 6] {
    use message::Message;
    every!(Message:
        Lease(name("www"), lease::Message::Release { epoch: epoch(70_000, 1), next: None });
        Election(election::Message::Grant { round: 1 });
        Recall;
        Recalled(Some(reports::memory()));
        Testimony(tribunal::signed());
        Challenge;
    )
}

fn promise() -> Promise {
    let (length, length_before) = (Span::from_ms(380), Span::from_ms(1_200));
    made_of(&(NodeId(300), epoch(70_000, 2), epoch(70_000, 1), NS, length, length_before))
}

fn held() -> Held {
    made_of(&(epoch(70_000, 1), epoch(70_000, 2), Span::from_ms(350), NS))
}

fn record() -> Record {
    Record {
        boot_id: BOOT,
        highest: epoch(70_000, 2),
        spent: true,
        promise: Some(promise()),
        config_index: 400,
        config_since_ns: NS,
        silent_until_ns: NS,
        held: Some(held()),
    }
}

fn records() -> Records {
    let bare = Record { spent: false, promise: None, held: None, ..record() };
    let endpoints = BTreeMap::from([(name("dns"), bare), (name("www"), record())]);
    made_of(&(BOOT, 69_000_u64, NS, endpoints))
}

pub(crate) fn add(samples: &mut Samples) {
    let limit = LEASE_FRAME_BYTES_MAX;
    samples.add_all("lease::message::Verdict", verdicts(), limit);
    samples.add_all("lease::message::Message", leases(), limit);
    samples.add_all("election::Message", elections(), limit);
    samples.add_all("message::Message", messages(), limit);
    for (word, about) in leases() {
        let message = message::Message::Lease(name("www"), about);
        samples.add(&format!("message::Message::Lease {word}"), message, limit);
    }
    for (word, verdict) in verdicts() {
        let message = message::Message::Lease(name("www"), answer(verdict));
        samples.add(&format!("message::Message::Lease Answer {word}"), message, limit);
    }
    for (word, about) in elections() {
        let message = message::Message::Election(about);
        samples.add(&format!("message::Message::Election {word}"), message, limit);
    }
    samples.add("message::Message::Recalled nothing", message::Message::Recalled(None), limit);

    let limit = COMMAND_FRAME_BYTES_MAX;
    samples.add("lease::record::BootId", BOOT, limit);
    samples.add("lease::record::Promise", promise(), limit);
    samples.add("lease::record::Held", held(), limit);
    samples.add("lease::record::Record", record(), limit);
    samples.add("mesh::records::Records", records(), limit);
}
