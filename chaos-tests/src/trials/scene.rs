//! What a trial is made of: who is hostile, who lies, and what goes wrong with honest nodes meanwhile.
//!
//! **Invariant.** Honest mistakes are disjoint in time, as [`Trouble`] says them: so many liars *and* one mistake is what
//! a mesh has to bear. A mistake of two kinds at once ([`Trouble::Coincidence`]) it has to bear only with one liar fewer.

use crate::lease_search::rng::Rng;
use stead_proto::tribunal::Probe;

/// How long a trial lasts, in ms.
pub const LASTS_MS: u64 = 300_000;

/// Something that happens to honest nodes, and is nobody's crime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// One observer sees one thing wrong with an honest node.
    Mistake {
        /// Who is mistaken.
        observer: u64,
        /// About whom.
        subject: u64,
        /// In what.
        probe: Probe,
    },
    /// One observer sees two things wrong with an honest node: once in years.
    Coincidence {
        /// Who is mistaken.
        observer: u64,
        /// About whom.
        subject: u64,
    },
    /// A node is starved, knows it, and sees two things wrong with another one.
    Unwell {
        /// Who is starved.
        observer: u64,
        /// About whom it is mistaken.
        subject: u64,
    },
    /// A node's reports stop and it answers when it is asked; one observer sees one more thing wrong with it.
    Slow {
        /// Who is slow.
        subject: u64,
        /// Who is mistaken.
        observer: u64,
    },
    /// A bad release: everybody sees two things wrong with everybody.
    BadSite,
}

/// A trouble and its time, in ms.
#[derive(Clone, Copy, Debug)]
pub struct Spell {
    /// When it begins.
    pub from: u64,
    /// When it ends.
    pub to: u64,
    /// What it is.
    pub trouble: Trouble,
}

/// What a liar does besides never telling the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    #[default]
    Mute,
    /// Swears against one honest node, again and again.
    Slander,
    /// Swears against everybody, as often as it can.
    Spam,
    /// Swears against whoever is in trouble, at that moment.
    Lurk,
    /// Tells each node something else.
    Equivocate,
}

/// One trial.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Nodes, all of them voters, numbered from 1.
    pub n: u64,
    /// Who lies, and how.
    pub liars: Vec<(u64, Lie)>,
    /// Which of them do something that others can see, and from when on.
    pub hostile: Vec<(u64, u64)>,
    /// Who leads.
    pub leader: u64,
    /// What goes wrong.
    pub spells: Vec<Spell>,
    /// Messages lost, in ppm.
    pub loss_ppm: u64,
}

impl Scene {
    /// The scene of a seed, with ⌊(n−1)/2⌋ liars.
    pub fn draw(rng: &mut Rng, n: u64) -> Self {
        let mut nodes: Vec<u64> = (1..=n).collect();
        rng.shuffle(&mut nodes);
        let f = usize::try_from((n - 1) / 2).unwrap_or(1);
        let (bad, honest) = nodes.split_at(f);
        let how = [Lie::Mute, Lie::Slander, Lie::Spam, Lie::Lurk, Lie::Lurk, Lie::Equivocate];
        let liars: Vec<(u64, Lie)> = bad.iter().map(|node| (*node, rng.pick(&how))).collect();
        let shown = if rng.chance(500_000) { f } else { 1 };
        let hostile: Vec<(u64, u64)> =
            bad.iter().take(shown).map(|node| (*node, rng.between(1_000, 120_000))).collect();
        // The last of the liars may be out by now; until then there is one liar too many for a coincidence.
        let spared = n > 3 && hostile.len() < f;
        let first = hostile.iter().map(|(_, from)| *from).max().unwrap_or_default();
        let mut spells = Vec::new();
        let mut at = rng.between(1_000, 20_000);
        let mut coincided = 0;
        while at < LASTS_MS - 60_000 {
            let lasts = rng.between(2_000, 15_000);
            let (observer, subject) = (rng.place(honest.len()), rng.place(honest.len() - 1));
            let subject = (observer + 1 + subject) % honest.len();
            let observer = honest.get(observer).copied().unwrap_or_default();
            let subject = honest.get(subject).copied().unwrap_or_default();
            let probe = rng.pick(&[0_u8, 1, 2]);
            let probe = match probe {
                0 => Probe::HostKey,
                1 => Probe::Ports,
                _ => Probe::Content,
            };
            // Two within a minute would be one mistake more than has to be borne.
            let coincides = spared && at > first + 40_000 && at > coincided + 61_000;
            let trouble = match rng.below(if coincides { 6 } else { 4 }) {
                0 => Trouble::Mistake { observer, subject, probe },
                1 => Trouble::Unwell { observer, subject },
                2 => Trouble::Slow { subject, observer },
                3 => Trouble::BadSite,
                _ => {
                    coincided = at + lasts;
                    Trouble::Coincidence { observer, subject }
                }
            };
            spells.push(Spell { from: at, to: at + lasts, trouble });
            at += lasts + rng.between(15_000, 80_000);
        }
        let leader = if rng.chance(500_000) { bad.first() } else { honest.first() };
        let loss_ppm = rng.pick(&[0, 0, 50_000, 300_000]);
        Self { n, liars, hostile, leader: leader.copied().unwrap_or(1), spells, loss_ppm }
    }

    /// What is wrong at a moment.
    #[must_use]
    pub fn trouble(&self, ms: u64) -> Option<Trouble> {
        let spell = self.spells.iter().find(|spell| (spell.from..spell.to).contains(&ms));
        spell.map(|spell| spell.trouble)
    }
}
