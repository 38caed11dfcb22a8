//! Random reports and commands: what was written is what is read, whatever it says.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use stead_proto::codec;
use stead_proto::command::{Command, Ground};
use stead_proto::config::Change;
use stead_proto::fence::Fenced;
use stead_proto::id::{Name, NodeId, PublicKey};
use stead_proto::incident::Matter;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use stead_proto::lookout::{Attacked, Flood, InSeen, OutSeen, QueueSeen, TrafficSeen};
use stead_proto::order::{Act, Order};
use stead_proto::outside::HostKey;
use stead_proto::plan::{Epoch, Seat};
use stead_proto::report::{ConfigSeen, GateSeen, Head, LeaseSeen, LogSeen, Reach, Report, ServiceSeen};
use stead_proto::roster::Role;
use stead_proto::sign::{Signed, Statement};
use stead_proto::tribunal::Place;

use crate::parts::{CLUSTER, key, roles};
use crate::{reports, traffic};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, any::<u64>(), Just(u64::MAX)]
}

fn node() -> impl Strategy<Value = NodeId> {
    number().prop_map(NodeId)
}

fn named() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9._-]{0,39}".prop_map(|text| text.parse().unwrap())
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (number(), any::<u32>()).prop_map(|(plan, rank)| Epoch { plan, rank })
}

fn service() -> impl Strategy<Value = ServiceSeen> {
    prop_oneof![
        Just(ServiceSeen::Unknown),
        Just(ServiceSeen::Healthy),
        any::<String>().prop_map(ServiceSeen::Ailing),
        any::<String>().prop_map(ServiceSeen::Down),
    ]
}

fn lease() -> impl Strategy<Value = LeaseSeen> {
    (named(), epoch(), of((node(), epoch())), of(epoch()))
        .prop_map(|(endpoint, highest, promised, holding)| LeaseSeen { endpoint, highest, promised, holding })
}

fn reach() -> impl Strategy<Value = (NodeId, Reach)> {
    (node(), any::<u32>(), any::<u32>(), of(head()), of(host_key())).prop_map(
        |(node, heard_ms_ago, rtt_us, head, host_key)| (node, Reach { heard_ms_ago, rtt_us, head, host_key }),
    )
}

fn host_key() -> impl Strategy<Value = HostKey> {
    any::<[u8; 32]>().prop_map(HostKey)
}

fn head() -> impl Strategy<Value = Head> {
    (number(), number(), any::<[u8; 32]>())
        .prop_map(|(incarnation, sequence, link)| Head { at: Place { incarnation, sequence }, link })
}

fn fenced() -> impl Strategy<Value = Fenced> {
    (node(), number(), of(any::<String>())).prop_map(|(node, epoch, failed)| Fenced { node, epoch, failed })
}

fn log() -> impl Strategy<Value = LogSeen> {
    (number(), node(), (number(), number()), number(), any::<[u8; 32]>(), of(node())).prop_map(
        |(term, voted_for, durable, applied, digest, leader)| LogSeen {
            term,
            voted_for,
            durable,
            applied,
            digest,
            leader,
        },
    )
}

fn config() -> impl Strategy<Value = ConfigSeen> {
    (number(), number(), any::<bool>()).prop_map(|(index, age_ms, pair_left)| ConfigSeen {
        index,
        age_ms,
        pair_left,
    })
}

fn gate() -> impl Strategy<Value = GateSeen> {
    (any::<String>(), any::<u32>(), vec(any::<String>(), 0..3))
        .prop_map(|(rung, slack_ms, shortfalls)| GateSeen { rung, slack_ms, shortfalls })
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<Ipv4Addr>().prop_map(IpAddr::V4), any::<Ipv6Addr>().prop_map(IpAddr::V6)]
}

fn one_of<T: Copy + Debug + 'static, const N: usize>(
    all: [(&'static str, T); N],
) -> impl Strategy<Value = T> {
    select(all.map(|(_, value)| value).to_vec())
}

fn out_seen() -> impl Strategy<Value = OutSeen> {
    (any::<[u32; 5]>(), of((address(), any::<u16>()))).prop_map(
        |([syn, cut, forged, unanswered, destinations], top)| OutSeen {
            syn,
            cut,
            forged,
            unanswered,
            destinations,
            top,
        },
    )
}

fn in_seen() -> impl Strategy<Value = InSeen> {
    (any::<[u32; 2]>(), one_of(traffic::inbound()), any::<bool>()).prop_map(
        |([syn, queue_full], state, shielded)| InSeen {
            syn,
            queue_full,
            state,
            shielded,
            fullest: shielded.then_some(QueueSeen { port: 443, used: syn, max: queue_full }),
        },
    )
}

fn flood() -> impl Strategy<Value = Flood> {
    let when = (number(), of(number()));
    let counts = (any::<u32>(), number(), number());
    let said = (one_of(traffic::levels()), vec(one_of(traffic::detectors()), 0..9));
    (when, counts, said, vec(address(), 0..4), vec(any::<String>(), 0..4)).prop_map(
        |((began_unix_ms, ended_unix_ms), (peak, sent, escaped), (worst, detectors), targets, senders)| {
            Flood { began_unix_ms, ended_unix_ms, worst, detectors, peak, sent, escaped, targets, senders }
        },
    )
}

fn attacked() -> impl Strategy<Value = Attacked> {
    (number(), of(number()), any::<u32>(), number(), number()).prop_map(
        |(began_unix_ms, ended_unix_ms, peak, received, queue_full)| Attacked {
            began_unix_ms,
            ended_unix_ms,
            peak,
            received,
            queue_full,
        },
    )
}

fn traffic_seen() -> impl Strategy<Value = TrafficSeen> {
    let alarms = vec((one_of(traffic::detectors()), one_of(traffic::levels())), 0..9);
    let blinded = vec(one_of(traffic::detectors()), 0..9);
    let records = (of(flood()), of(attacked()));
    (out_seen(), in_seen(), one_of(traffic::postures()), alarms, records, blinded, of(any::<String>()))
        .prop_map(|(out, inbound, posture, alarms, (flood, attack), blinded, meddled)| TrafficSeen {
            out,
            inbound,
            posture,
            alarms,
            flood,
            attack,
            blinded,
            meddled,
        })
}

fn report() -> impl Strategy<Value = Report> {
    let counters = (node(), number(), number(), any::<[u8; 32]>(), number());
    let services = vec((named(), service()), 0..4);
    let unwell = vec(select(reports::full().unwell), 0..5);
    (
        counters,
        config(),
        log(),
        services,
        vec(lease(), 0..4),
        vec(reach(), 0..4),
        gate(),
        (unwell, traffic_seen(), vec(any::<u64>().prop_map(NodeId), 0..4), vec(fenced(), 0..3)),
    )
        .prop_map(
            |(counters, config, log, services, leases, reach, gate, (unwell, traffic, isolated, fenced))| {
                let (from, incarnation, sequence, previous, unix_ms) = counters;
                Report {
                    from,
                    incarnation,
                    sequence,
                    previous,
                    unix_ms,
                    config,
                    log,
                    services,
                    leases,
                    reach,
                    isolated,
                    fenced,
                    gate,
                    unwell,
                    traffic,
                }
            },
        )
}

fn evidence() -> impl Strategy<Value = Vec<Signed<Report>>> {
    vec(report().prop_map(|report| key(1).sign(CLUSTER, &report).unwrap()), 0..3)
}

fn order() -> impl Strategy<Value = Signed<Order>> {
    let roles = roles().map(|(_, role)| role).to_vec();
    let set_role = |(node, role): (NodeId, Role)| Act::SetRole { node, role };
    let act = prop_oneof![
        (number(), number()).prop_map(|(base, to)| Act::Rollback { base, to }),
        (named(), node()).prop_map(|(endpoint, to)| Act::Move { endpoint, to }),
        (node(), any::<bool>()).prop_map(|(node, drained)| Act::Drain { node, drained }),
        (node(), select(roles)).prop_map(set_role),
        node().prop_map(Act::Remove),
        (node(), host_key()).prop_map(|(node, key)| Act::AcceptHostKey { node, key }),
    ];
    (number(), act).prop_map(|(serial, act)| key(99).sign(CLUSTER, &Order { serial, act }).unwrap())
}

fn matter() -> impl Strategy<Value = Matter> {
    prop_oneof![
        named().prop_map(Matter::Move),
        named().prop_map(Matter::Vacant),
        node().prop_map(Matter::NodeLost),
        (node(), named()).prop_map(|(node, service)| Matter::ServiceDown(node, service)),
        node().prop_map(Matter::NodeUnwell),
        Just(Matter::Voters),
        Just(Matter::Roster),
        node().prop_map(Matter::OutboundFlood),
        node().prop_map(Matter::InboundFlood),
        node().prop_map(Matter::SensorBlind),
        node().prop_map(Matter::HostKey),
        node().prop_map(Matter::Demoted),
        any::<[u8; 32]>().prop_map(|key| Matter::OrderRefused(PublicKey(key))),
    ]
}

fn ground() -> impl Strategy<Value = Ground> {
    prop_oneof![
        Just(Ground::First),
        Just(Ground::Refresh),
        (evidence(), any::<String>()).prop_map(|(reports, because)| Ground::Witnessed { reports, because }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        node().prop_map(Change::Add),
        node().prop_map(Change::Remove),
        node().prop_map(Change::EnterPair),
        Just(Change::LeavePair),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let seat = (node(), any::<u32>()).prop_map(|(node, slack_ms)| Seat { node, slack_ms });
    prop_oneof![
        order().prop_map(Command::Order),
        (named(), number(), vec(seat, 0..5), ground(), number()).prop_map(
            |(endpoint, parent, seats, ground, unix_ms)| Command::Plan {
                endpoint,
                parent,
                seats,
                ground,
                unix_ms
            }
        ),
        (change(), evidence(), any::<String>(), number()).prop_map(|(change, reports, reason, unix_ms)| {
            Command::Voters { change, reports, reason, unix_ms }
        }),
        (matter(), any::<String>(), any::<bool>(), number())
            .prop_map(|(matter, text, closes, unix_ms)| Command::Note { matter, text, closes, unix_ms }),
        Just(Command::Probe),
    ]
}

proptest! {
    #[test]
    fn any_report_is_read_back_as_it_was_written(report in report()) {
        let frame = codec::encode(&report, Report::BYTES_MAX).unwrap();
        prop_assert_eq!(codec::decode::<Report>(&frame, Report::BYTES_MAX), Ok(report));
    }

    #[test]
    fn any_command_is_read_back_as_it_was_written(command in command()) {
        let frame = codec::encode(&command, COMMAND_FRAME_BYTES_MAX).unwrap();
        prop_assert_eq!(codec::decode::<Command>(&frame, COMMAND_FRAME_BYTES_MAX), Ok(command));
    }
}
