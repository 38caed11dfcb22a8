//! The site: what runs, where visitors find it, and how far the mesh may go on its own.
//!
//! These are *checked* types: a [`Site`] that came out of [`Site::check`] without complaint can be served.
//! Reading files, lines and units is the command line's work.

use crate::fence::FencePolicy;
use crate::guard::GuardPolicy;
use crate::id::Name;
use crate::limits::{COMMAND_BYTES_MAX, ENDPOINTS_MAX, LEASE_MAX, LEASE_MIN, SERVICES_MAX, TEXT_BYTES_MAX};
use crate::outside::Watch;
use crate::service::Service;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// The replicated specification of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// What must run on the nodes.
    pub services: BTreeMap<Name, Service>,
    /// Where visitors find it.
    pub endpoints: BTreeMap<Name, EndpointSpec>,
    /// What may happen to the membership without an operator.
    pub charter: Charter,
    /// How many connections its servers may open to strangers.
    pub guard: GuardPolicy,
    /// What the nodes look at in one another.
    pub watch: Watch,
    /// What may be done to a server that was cut off.
    pub fence: Option<FencePolicy>,
}

/// One public address of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// The public address.
    pub address: IpAddr,
    /// The ports that visitors use; the holding page answers on them. Port 443 cannot be answered
    /// without the site's certificate and stays closed instead.
    pub ports: Vec<u16>,
    /// The services that have to be healthy on its holder.
    pub services: BTreeSet<Name>,
    /// How it is moved.
    pub driver: Driver,
    /// How long a holder may serve without renewing, in milliseconds.
    pub lease_ms: u32,
    /// Nodes that shall come first when somebody has to be chosen; never a reason to move.
    pub prefer: Vec<Name>,
    /// What visitors read when nothing healthy is left.
    pub holding: HoldingText,
}

/// How an endpoint is moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Driver {
    /// An address on the uplink, announced by ARP or neighbour advertisement.
    Vip,
    /// A command of the operator's: `COMMAND… claim|release ENDPOINT ADDRESS EPOCH`.
    ///
    /// The next holder's `claim` does not wait for a `release`. The command has to be idempotent, and its
    /// provider to refuse an epoch (`PLAN.RANK`, two numbers) lower than one that it has seen.
    Exec(Vec<String>),
}

/// The words on the holding page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldingText {
    /// Its heading.
    pub title: String,
    /// One calm sentence or two.
    pub message: String,
    /// What `Retry-After` says, in seconds.
    pub retry_after_s: u32,
}

impl Default for HoldingText {
    fn default() -> Self {
        Self {
            title: "Back in a moment".into(),
            message: "This site is being repaired. Nothing is lost; please try again in a few minutes."
                .into(),
            retry_after_s: 120,
        }
    }
}

/// What changes of membership may happen while no operator is there. Operator-signed, like all of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charter {
    /// After how long a voter that nobody reaches stops counting, in milliseconds; 0 = never.
    pub demote_after_ms: u32,
    /// After how long back and caught up it counts again, in milliseconds.
    pub promote_after_ms: u32,
    /// Below how many voters nothing is demoted.
    pub voters_min: u8,
    /// Whether, of exactly two voters, the holder may go on alone when the other one is lost.
    pub pair: bool,
    /// Whether the nodes may demote and isolate one of theirs without an operator.
    pub isolate: bool,
}

impl Default for Charter {
    fn default() -> Self {
        Self { demote_after_ms: 600_000, promote_after_ms: 30_000, voters_min: 3, pair: true, isolate: true }
    }
}

/// Something in a site that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Complaint {
    /// Where: `endpoint.www.lease`.
    pub key: String,
    /// What is wrong and what to write instead.
    pub text: String,
}

impl Site {
    /// Everything that is wrong with it, at once; empty if it can be served.
    #[must_use]
    pub fn check(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut say = |key: String, text: String| complaints.push(Complaint { key, text });
        if self.services.len() > SERVICES_MAX {
            say("service".into(), format!("{} services; at most {SERVICES_MAX}", self.services.len()));
        }
        if self.endpoints.len() > ENDPOINTS_MAX {
            say("endpoint".into(), format!("{} endpoints; at most {ENDPOINTS_MAX}", self.endpoints.len()));
        }
        for (name, service) in &self.services {
            for problem in service.validate() {
                say(format!("service.{name}.{}", problem.key), problem.write);
            }
        }
        let known = self.services.keys().take(SERVICES_MAX).map(Name::as_str).collect::<Vec<_>>().join(", ");
        for (name, endpoint) in &self.endpoints {
            endpoint.check(&mut |key, text| say(format!("endpoint.{name}.{key}"), text));
            for service in endpoint.services.iter().filter(|s| !self.services.contains_key(*s)) {
                say(
                    format!("endpoint.{name}.services"),
                    format!("nobody defines the service {service:?}; defined are: {known}"),
                );
            }
        }
        self.check_overlap(&mut say);
        complaints.extend(self.guard.check());
        complaints.extend(self.fence.iter().flat_map(FencePolicy::check));
        complaints
    }

    fn check_overlap(&self, say: &mut impl FnMut(String, String)) {
        let mut owners: BTreeMap<IpAddr, &Name> = BTreeMap::new();
        for (name, endpoint) in &self.endpoints {
            if let Some(first) = owners.insert(endpoint.address, name) {
                say(
                    format!("endpoint.{name}.address"),
                    format!("{} is the address of endpoint {first} too; give each its own", endpoint.address),
                );
            }
        }
    }
}

impl EndpointSpec {
    fn check(&self, say: &mut impl FnMut(&str, String)) {
        if self.address.is_unspecified() || self.address.is_loopback() || self.address.is_multicast() {
            say("address", format!("{} cannot be a public address", self.address));
        }
        if self.ports.is_empty() || self.ports.contains(&0) {
            say("ports", "name the ports that visitors use, such as [80, 443]".into());
        }
        let (least, most) = (LEASE_MIN.as_ms(), LEASE_MAX.as_ms());
        if !(least..=most).contains(&u64::from(self.lease_ms)) {
            say("lease", format!("{} ms; choose between {least} ms and {most} ms", self.lease_ms));
        }
        match &self.driver {
            Driver::Vip => {}
            Driver::Exec(command) => {
                if command.first().is_none_or(|program| !program.starts_with('/')) {
                    say(
                        "exec",
                        "begin the command with an absolute path, such as [\"/usr/local/bin/move\"]".into(),
                    );
                }
                if command.iter().map(String::len).sum::<usize>() > COMMAND_BYTES_MAX {
                    say("exec", format!("keep the command below {COMMAND_BYTES_MAX} bytes"));
                }
            }
        }
        for (key, text) in
            [("holding.title", &self.holding.title), ("holding.message", &self.holding.message)]
        {
            if text.len() > TEXT_BYTES_MAX {
                say(key, format!("keep it below {TEXT_BYTES_MAX} bytes"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> EndpointSpec {
        EndpointSpec {
            address: address.parse().unwrap(),
            ports: alloc::vec![80],
            services: BTreeSet::new(),
            driver: Driver::Vip,
            lease_ms: 350,
            prefer: Vec::new(),
            holding: HoldingText::default(),
        }
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let mut site = Site::default();
        let mut broken = endpoint("127.0.0.1");
        broken.ports.clear();
        broken.lease_ms = 5;
        broken.services.insert("web".parse().unwrap());
        site.endpoints.insert("www".parse().unwrap(), broken);
        let keys: Vec<_> = site.check().into_iter().map(|c| c.key).collect();
        assert_eq!(
            keys,
            ["endpoint.www.address", "endpoint.www.ports", "endpoint.www.lease", "endpoint.www.services"]
        );
    }

    #[test]
    fn two_endpoints_never_share_an_address() {
        let mut site = Site::default();
        site.endpoints.insert("a".parse().unwrap(), endpoint("192.0.2.1"));
        site.endpoints.insert("b".parse().unwrap(), endpoint("192.0.2.1"));
        assert_eq!(site.check().len(), 1);
    }
}
