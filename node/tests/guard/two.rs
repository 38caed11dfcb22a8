//! Two agents on one uplink: somebody started a second one.

use super::{PACE, SECONDS, TRICKLE_MAX, Way, flood, on_a_wire, open, sh};
use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    thread,
    time::{Duration, Instant},
};
use stead_node::guard::{
    limiter::{Counters, Found, Guard, GuardError},
    rules::Rung,
};
use stead_proto::guard::{GuardPolicy, Rate};

const ALL: u64 = (PACE * SECONDS) as u64;

#[test]
fn a_second_agent_leaves_the_limit_to_the_first_and_takes_over_when_that_ends() {
    on_a_wire(|peer, index| {
        let policy = GuardPolicy { licence_ms: 30_000, ..GuardPolicy::default() };
        let mut first = open(index, policy.clone());
        first.renew().unwrap();
        // Of another mesh, so with another policy.
        let narrow = GuardPolicy { limit: Rate { per_second: 5, burst: 5 }, ..policy };
        let (mut second, shortfalls) = Guard::open("up0", index, narrow).unwrap();
        assert_eq!(second.rung(), Rung::None);
        let [why] = &shortfalls[..] else { panic!("{shortfalls:?}") };
        println!("SHORTFALL {why}");
        assert!(why.contains(&format!("process {}", std::process::id())), "{why}");

        // Whatever the second wants, the first finds its rules as it left them, and its licence counts.
        second.renew().unwrap();
        assert!(matches!(second.throttle(), Err(GuardError::Waiting(_))));
        assert!(!second.is_throttled(), "it does not claim what it cannot do");
        assert_eq!((first.verify().unwrap(), second.verify().unwrap()), (Found::Intact, Found::Intact));
        let passed = peer.count(|| flood(Way::Raw, index));
        assert!(passed >= ALL * 9 / 10, "{passed} passed with the first one's licence");
        first.throttle().unwrap();
        assert_eq!((second.verify().unwrap(), first.verify().unwrap()), (Found::Intact, Found::Intact));
        let cut = peer.count(|| flood(Way::Raw, index));
        assert!((1..=TRICKLE_MAX).contains(&cut), "{cut} passed a throttle beside a second agent");
        assert!(first.counters().unwrap().dropped > 0);

        // The first one ends: the second takes its place, with the throttle and with its own policy.
        drop(first);
        let end = Instant::now() + Duration::from_secs(5);
        while second.rung() == Rung::None {
            assert_eq!(second.verify().unwrap(), Found::Intact, "nobody meddled");
            assert!(Instant::now() < end, "the second agent does not take over");
        }
        assert_eq!(second.rung(), Rung::NetdevEgress);
        assert!(second.is_throttled());
        assert_eq!(second.counters().unwrap(), Counters::default(), "what the first one cut is told already");
        assert!(sh(&format!("nft list table netdev stead_guard_{index}")).contains("limit rate 5/second"));
        second.lift().unwrap();
        assert_eq!(second.verify().unwrap(), Found::Intact);
        second.close().unwrap();
        assert_eq!(sh("nft list tables").trim(), "");
    });
}

#[test]
fn a_second_agent_that_ends_leaves_the_first_one_its_limit() {
    on_a_wire(|_, index| {
        let mut first = open(index, GuardPolicy::default());
        let (second, _) = Guard::open("up0", index, GuardPolicy::default()).unwrap();
        second.close().unwrap();
        assert_eq!(first.verify().unwrap(), Found::Intact);
        assert_eq!(sh("nft list tables").trim(), format!("table netdev stead_guard_{index}"));
        first.close().unwrap();
    });
}

#[test]
fn who_is_not_root_keeps_no_agent_from_its_limit() {
    on_a_wire(|_, index| {
        const NOBODY: libc::uid_t = 65_534;
        let squatter = thread::spawn(move || {
            // SAFETY: the system call itself, unlike the function of the C library, changes this thread's user only.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) }, 0);
            let name = SocketAddr::from_abstract_name(format!("stead_guard_{index}")).unwrap();
            UnixListener::bind_addr(&name).unwrap()
        });
        let _squatter = squatter.join().unwrap();
        open(index, GuardPolicy::default()).close().unwrap();
    });
}
