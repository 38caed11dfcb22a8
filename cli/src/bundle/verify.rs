//! Verifies a bundle without a mesh, by another path than the mesh itself took: other code for signatures (ring), for reading
//! testimonies, and for the rules.
//!
//! | rule | of |
//! |---|---|
//! | the genesis hashes to the mesh under whose name everything was signed | `proto/src/genesis.rs` |
//! | more than half of those who judge, each once, none of them the accused | DESIGN §8 |
//! | about one node under one key, of one electorate, within a minute by clocks or by the accused's reports | DESIGN §8 |
//! | a proof; or two different grounds, one of them a confession or a probe | `proto/src/tribunal/testimony.rs` |
//! | a confession is the accused's own signed report, and that report convicts it | DESIGN §11 P11 |
//! | a contradiction is two of its signed reports that no honest chain holds | DESIGN §11 P4 |
//!
//! **Invariant.** Nothing is believed for being in the file: the roster counts only as far as the genesis has it, and
//! what it does not have is said.

use super::reader::{self, Ground, Said};
use super::{BYTES_MAX, Bundle, Sealed, VERSION, unhex};
use ring::digest::{Context, SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use std::collections::{BTreeMap, BTreeSet};
use stead_proto::codec;
use stead_proto::detect::Level;
use stead_proto::genesis::Genesis;
use stead_proto::limits::REPORT_FRAME_BYTES_MAX;
use stead_proto::report::Report;
use stead_proto::roster::Member;

const TESTIMONY: &str = "stead testimony v1";
const REPORT: &str = "stead report v1";
const SPREAD_MS_MAX: u64 = 60_000;
const SPREAD_REPORTS_MAX: u64 = 300;
const CLOCKS_APART_MS_MAX: u64 = 86_400_000;

/// What a bundle that holds says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which mesh, 64 hexadecimal digits.
    pub cluster: String,
    /// Who was cut off.
    pub subject: String,
    /// Who testified, and on what.
    pub witnesses: Vec<(String, Vec<String>)>,
    /// What the accused's own reports said.
    pub reports: Vec<String>,
    /// How many witnesses it takes.
    pub needed: usize,
    /// Witnesses, or the accused, whom the genesis does not name: their keys are known from the file alone.
    pub unanchored: Vec<String>,
    /// Who judges by the genesis and does not by the file: unless an operator took their vote, it takes more witnesses
    /// than the file says.
    pub absent: Vec<String>,
    /// Reports that testimonies name and the file does not hold.
    pub missing: usize,
}

/// Reads and verifies a bundle; `own_genesis` is the operator's own copy, if he has one at hand.
///
/// # Errors
/// The first thing that does not hold, as a sentence.
pub fn verify(text: &[u8], own_genesis: Option<&[u8]>) -> Result<Verdict, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("the file has {} bytes; no bundle has more than {BYTES_MAX}", text.len()));
    }
    let bundle: Bundle =
        serde_json::from_slice(text).map_err(|error| format!("the file is no bundle: {error}"))?;
    if bundle.stead_evidence != VERSION {
        let theirs = bundle.stead_evidence;
        return Err(format!(
            "the bundle has version {theirs}, this program reads {VERSION}: use the one that wrote it"
        ));
    }
    let genesis = unhex(&bundle.genesis).ok_or("its genesis is not hexadecimal")?;
    if own_genesis.is_some_and(|own| own != genesis) {
        return Err("it is of another mesh: its genesis is not the one that you gave".into());
    }
    let cluster = cluster(&genesis);
    let roster = roster(&bundle)?;
    let founded = founders(&genesis)?;
    let said = testimonies(&bundle, &cluster)?;
    let (subject, subject_key) = judge(&bundle, &roster, &said)?;
    let (reports, missing) = own_words(&bundle, &cluster, subject_key, &said)?;
    let named = |id: &u64| roster.get(id).map_or_else(|| format!("#{id}"), |one| one.name.clone());
    let concerned = said.iter().map(|one| one.by).chain([subject]).collect::<BTreeSet<u64>>();
    let unanchored = concerned.iter().filter(|id| {
        let key = roster.get(*id).map(|one| one.key);
        founded.get(*id).map(|founder| founder.key) != key
    });
    let judges = |id: &u64| roster.get(id).is_some_and(|one| one.judges);
    let absent = founded.iter().filter(|(id, founder)| founder.judges && !judges(id));
    Ok(Verdict {
        cluster: super::hex(&cluster),
        subject: named(&subject),
        witnesses: said.iter().map(|one| (named(&one.by), one.grounds.iter().map(words).collect())).collect(),
        reports,
        needed: needed(&roster),
        unanchored: unanchored.map(named).collect(),
        absent: absent.map(|(_, founder)| founder.name.clone()).collect(),
        missing,
    })
}

/// The mesh that begins with this genesis.
fn cluster(genesis: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(b"stead genesis");
    // The hash outlives versions of the wire: it is over version 1 for ever.
    hash.update(&[1]);
    hash.update(genesis.get(1..).unwrap_or_default());
    let mut cluster = [0; 32];
    cluster.copy_from_slice(hash.finish().as_ref());
    cluster
}

struct Judge {
    name: String,
    key: [u8; 32],
    judges: bool,
}

fn roster(bundle: &Bundle) -> Result<BTreeMap<u64, Judge>, String> {
    let mut roster = BTreeMap::new();
    for member in &bundle.members {
        let key = unhex(&member.key).and_then(|key| key.try_into().ok());
        let key = key.ok_or_else(|| format!("the key of {} is none", member.name))?;
        let judge = Judge { name: member.name.clone(), key, judges: member.judges };
        if roster.insert(member.id, judge).is_some() {
            return Err(format!("node #{} is in its roster twice", member.id));
        }
    }
    Ok(roster)
}

/// Whom the genesis names, with their keys.
fn founders(genesis: &[u8]) -> Result<BTreeMap<u64, Judge>, String> {
    let genesis = Genesis::decode(genesis).map_err(|error| format!("its genesis is none: {error}"))?;
    let judge = |member: &Member| Judge {
        name: member.name.to_string(),
        key: member.key.0,
        judges: member.role.votes(),
    };
    Ok(genesis.members.iter().map(|member| (member.id.0, judge(member))).collect())
}

fn needed(roster: &BTreeMap<u64, Judge>) -> usize {
    roster.values().filter(|one| one.judges).count() / 2 + 1
}

fn testimonies(bundle: &Bundle, cluster: &[u8; 32]) -> Result<Vec<Said>, String> {
    let read = |(number, sealed): (usize, &Sealed)| {
        let testimony = number + 1;
        let (key, statement) = opened(sealed, TESTIMONY, cluster).ok_or_else(|| {
            format!("testimony {testimony} is forged or altered: its signature does not hold")
        })?;
        let said =
            reader::testimony(&statement).ok_or_else(|| format!("testimony {testimony} cannot be read"))?;
        Ok((key, said))
    };
    let all: Result<Vec<_>, String> = bundle.testimonies.iter().enumerate().map(read).collect();
    let all = all?;
    let roster = roster(bundle)?;
    for (key, said) in &all {
        let judge = roster.get(&said.by).filter(|judge| judge.judges && judge.key == *key);
        judge.ok_or_else(|| format!("node #{} does not judge here, or not with this key", said.by))?;
    }
    Ok(all.into_iter().map(|(_, said)| said).collect())
}

/// Key and statement, if the signature over them holds.
fn opened(sealed: &Sealed, context: &str, cluster: &[u8; 32]) -> Option<([u8; 32], Vec<u8>)> {
    let (key, statement) = (unhex(&sealed.key)?, unhex(&sealed.statement)?);
    let signature = unhex(&sealed.signature)?;
    let length = u8::try_from(context.len()).ok()?;
    let covered = [&[length], context.as_bytes(), &cluster[..], &statement].concat();
    UnparsedPublicKey::new(&ED25519, &key).verify(&covered, &signature).ok()?;
    Some((key.try_into().ok()?, statement))
}

/// Whom enough of the others convict.
fn judge(bundle: &Bundle, roster: &BTreeMap<u64, Judge>, said: &[Said]) -> Result<(u64, [u8; 32]), String> {
    let first = said.first().ok_or("it holds no testimony")?;
    let one = |said: &Said| (said.subject, said.subject_key, said.electorate, said.isolates);
    if said.iter().any(|other| one(other) != one(first)) {
        return Err("its testimonies are not about one thing".into());
    }
    let (subject, key) = (first.subject, first.subject_key);
    if !first.isolates || subject != bundle.subject {
        return Err("its testimonies do not ask to isolate the node that it names".into());
    }
    if roster.get(&subject).is_none_or(|named| named.key != key) {
        return Err("the accused is not in its roster under that key".into());
    }
    let witnesses: BTreeSet<u64> = said.iter().map(|one| one.by).collect();
    if witnesses.len() != said.len() || witnesses.contains(&subject) {
        return Err("somebody testifies twice, or against himself".into());
    }
    let needed = needed(roster);
    if witnesses.len() < needed {
        return Err(format!("{} witnesses, where it takes {needed}", witnesses.len()));
    }
    if !at_one_time(said) {
        return Err("its testimonies are more than a minute apart".into());
    }
    match said.iter().find(|one| !suffices(&one.grounds)) {
        Some(one) => Err(format!("what node #{} found does not suffice to isolate anybody", one.by)),
        None => Ok((subject, key)),
    }
}

/// Within a minute by their clocks, or within a day by those and a minute's worth of the accused's reports.
fn at_one_time(said: &[Said]) -> bool {
    let apart = |numbers: &[u64]| match (numbers.iter().max(), numbers.iter().min()) {
        (Some(most), Some(least)) => most - least,
        _ => 0,
    };
    let clocks = apart(&said.iter().map(|one| one.unix_ms).collect::<Vec<_>>());
    let heard: Vec<(u64, u64)> = said.iter().filter_map(|one| one.heard).collect();
    let lives: BTreeSet<u64> = heard.iter().map(|(incarnation, _)| *incarnation).collect();
    let reports = apart(&heard.iter().map(|(_, number)| *number).collect::<Vec<_>>());
    let together = heard.len() == said.len() && lives.len() == 1 && reports <= SPREAD_REPORTS_MAX;
    clocks <= SPREAD_MS_MAX || (clocks <= CLOCKS_APART_MS_MAX && together)
}

/// A proof; or two different grounds, one of them a confession or a probe. Where it lives is a ground only beside a
/// confession.
fn suffices(grounds: &[Ground]) -> bool {
    let confessed = grounds.iter().any(|ground| matches!(ground, Ground::Confession(_)));
    let proven = grounds.iter().any(|ground| matches!(ground, Ground::Contradiction(..)));
    let hard = confessed || grounds.iter().any(|ground| matches!(ground, Ground::Probed(_)));
    let kind = |ground: &Ground| match ground {
        Ground::Contradiction(..) => Some(0),
        Ground::Confession(_) => Some(1),
        Ground::AtHome => confessed.then_some(2),
        Ground::Flooded => Some(3),
        Ground::Silence => Some(4),
        Ground::Probed(probe) => Some(10 + probe),
    };
    proven || (hard && grounds.iter().filter_map(kind).collect::<BTreeSet<u64>>().len() >= 2)
}

/// What the reports say that testimonies name, and how many of those are not in the file.
fn own_words(
    bundle: &Bundle,
    cluster: &[u8; 32],
    accused: [u8; 32],
    said: &[Said],
) -> Result<(Vec<String>, usize), String> {
    let mut reports = BTreeMap::new();
    for sealed in &bundle.reports {
        let (key, statement) = opened(sealed, REPORT, cluster)
            .ok_or("a report in it is forged or altered: its signature does not hold")?;
        if key != accused {
            return Err("a report in it is not the accused's".into());
        }
        let hash: [u8; 32] = digest(&SHA256, &statement).as_ref().try_into().map_err(|_| "no hash")?;
        let report: Report = codec::decode(&statement, REPORT_FRAME_BYTES_MAX)
            .map_err(|error| format!("a report in it cannot be read: {error}"))?;
        reports.insert(hash, report);
    }
    let (mut named, mut told) = (BTreeSet::new(), BTreeSet::new());
    for ground in said.iter().flat_map(|one| &one.grounds) {
        match ground {
            Ground::Confession(hash) => {
                named.insert(*hash);
                told.extend(reports.get(hash).map(confession).transpose()?);
            }
            Ground::Contradiction(one, other) => {
                named.extend([*one, *other]);
                if let (Some(first), Some(second)) = (reports.get(one), reports.get(other)) {
                    told.insert(contradiction((*one, first), (*other, second))?);
                }
            }
            Ground::AtHome | Ground::Probed(_) | Ground::Flooded | Ground::Silence => {}
        }
    }
    if reports.keys().any(|hash| !named.contains(hash)) {
        return Err("a report in it is none that a testimony names".into());
    }
    Ok((told.into_iter().collect(), named.len() - reports.len()))
}

/// How two reports cannot both be of one honest chain.
fn contradiction(one: ([u8; 32], &Report), other: ([u8; 32], &Report)) -> Result<String, String> {
    let ((_, first), (_, second)) = (one, other);
    let place = |report: &Report| format!("{}.{}", report.incarnation, report.sequence);
    if first.incarnation == second.incarnation && first.sequence == second.sequence && one.0 != other.0 {
        return Ok(format!("report {}, twice, and not the same", place(first)));
    }
    for ((hash, before), (_, after)) in [(one, other), (other, one)] {
        let next =
            before.incarnation == after.incarnation && after.sequence.checked_sub(1) == Some(before.sequence);
        if next && after.previous != hash {
            return Ok(format!(
                "report {}, and report {} that follows another one",
                place(before),
                place(after)
            ));
        }
    }
    Err("two reports in it do not contradict each other".into())
}

/// What a report says against its own node.
fn confession(report: &Report) -> Result<String, String> {
    let flood = report.traffic.flood.as_ref();
    let flood = flood.filter(|flood| flood.worst == Level::Convict && flood.ended_unix_ms.is_none());
    let flood = flood.ok_or("a report in it does not convict its own node")?;
    let detectors: Vec<&str> = flood.detectors.iter().map(|detector| detector.finds()).collect();
    let targets: Vec<String> = flood.targets.iter().map(ToString::to_string).collect();
    Ok(format!(
        "report {}.{}: {}; at most {} SYNs a second, {} in all, {} left the host{}",
        report.incarnation,
        report.sequence,
        detectors.join("; "),
        flood.peak,
        flood.sent,
        flood.escaped,
        if targets.is_empty() { String::new() } else { format!(", to {}", targets.join(", ")) }
    ))
}

fn words(ground: &Ground) -> String {
    match ground {
        Ground::Contradiction(one, other) => {
            let [one, other] = [one, other].map(|hash| super::hex(&hash[..4]));
            format!("its own reports {one}… and {other}… contradict each other")
        }
        Ground::Confession(hash) => format!("its own report {}… convicts it", super::hex(&hash[..4])),
        Ground::AtHome => "which came from an address of its own".into(),
        Ground::Probed(0) => "another SSH host key".into(),
        Ground::Probed(1) => "other open ports".into(),
        Ground::Probed(2) => "other content".into(),
        Ground::Probed(_) => "another TLS certificate".into(),
        Ground::Flooded => "a flood that arrived there".into(),
        Ground::Silence => "silence that it did not explain".into(),
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
