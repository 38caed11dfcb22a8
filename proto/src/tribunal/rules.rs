//! The rules against abuse, which a test may switch off one by one to see that each is needed.

/// Which rules are in force. Only tests have others than [`Rules::SOUND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A certificate takes more than half of the electorate.
    pub(crate) threshold: bool,
    /// One mistake of one kind carries nothing.
    pub(crate) conclusive: bool,
    /// The word of who is isolated does not count.
    pub(crate) void: bool,
    /// Testimonies of different times do not add up.
    pub(crate) spread: bool,
    /// So many stay that they can go on.
    pub(crate) budget: bool,
    /// Nobody speaks who has not looked for himself.
    pub(crate) look: bool,
    /// Who is unwell himself does not speak.
    pub(crate) abstain: bool,
    /// Who is charged with silence may answer.
    pub(crate) rebuttal: bool,
    /// Half of the mesh does not turn bad at once: it is the network, or the observer.
    pub(crate) group: bool,
    /// Who accuses in vain is not followed for a while.
    pub(crate) strikes: bool,
    /// One after the other, but for the leader (DESIGN §11 P10).
    pub(crate) one: bool,
}

impl Rules {
    /// Every rule in force.
    pub const SOUND: Self = Self {
        threshold: true,
        conclusive: true,
        void: true,
        spread: true,
        budget: true,
        look: true,
        abstain: true,
        rebuttal: true,
        group: true,
        strikes: true,
        one: true,
    };
}

/// A rule that a test may switch off.
#[cfg(feature = "weaken")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// More than half.
    Threshold,
    /// Two grounds, or a proof.
    Conclusive,
    /// The isolated do not judge.
    Void,
    /// Within a minute.
    Spread,
    /// Never too many.
    Budget,
    /// One's own eyes.
    Look,
    /// The unwell abstain.
    Abstain,
    /// Silence may be explained.
    Rebuttal,
    /// Not half of the mesh.
    Group,
    /// Accusations in vain.
    Strikes,
    /// One after the other.
    One,
}

#[cfg(feature = "weaken")]
impl Rules {
    /// The same rules without `rule`. For tests only.
    #[must_use]
    pub const fn without(self, rule: Rule) -> Self {
        match rule {
            Rule::Threshold => Self { threshold: false, ..self },
            Rule::Conclusive => Self { conclusive: false, ..self },
            Rule::Void => Self { void: false, ..self },
            Rule::Spread => Self { spread: false, ..self },
            Rule::Budget => Self { budget: false, ..self },
            Rule::Look => Self { look: false, ..self },
            Rule::Abstain => Self { abstain: false, ..self },
            Rule::Rebuttal => Self { rebuttal: false, ..self },
            Rule::Group => Self { group: false, ..self },
            Rule::Strikes => Self { strikes: false, ..self },
            Rule::One => Self { one: false, ..self },
        }
    }
}
