//! Which of the lease's rules are in force: all of them, except in a test that proves that each matters.
//!
//! **Invariant.** Without the crate feature `weaken` there is exactly one value, [`Rules::SOUND`].

/// The rules in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// P1: two-voter mode starts late and ends early.
    pub(crate) pair: bool,
    /// P2: agreements carry a configuration, and configurations follow each other slowly.
    pub(crate) membership: bool,
    /// P7: a voter that forgot stays silent, and what it may have agreed to is burned.
    pub(crate) silence: bool,
    /// P8: a released or lapsed epoch is never asked for again.
    pub(crate) burning: bool,
    /// P8: a promise is recorded before it is given.
    pub(crate) recording: bool,
}

impl Rules {
    /// Every rule in force.
    pub const SOUND: Self =
        Self { pair: true, membership: true, silence: true, burning: true, recording: true };
}

/// A rule of DESIGN §11 that a test may switch off.
#[cfg(feature = "weaken")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Two-voter mode.
    P1,
    /// Lease and membership.
    P2,
    /// Silence after a restart without a record.
    P7,
    /// Released and lapsed epochs are burned.
    P8,
    /// The other half of P8: promises are recorded first.
    P8Record,
}

#[cfg(feature = "weaken")]
impl Rules {
    /// The same rules without `rule`. For tests only.
    #[must_use]
    pub const fn without(self, rule: Rule) -> Self {
        match rule {
            Rule::P1 => Self { pair: false, ..self },
            Rule::P2 => Self { membership: false, ..self },
            Rule::P7 => Self { silence: false, ..self },
            Rule::P8 => Self { burning: false, ..self },
            Rule::P8Record => Self { recording: false, ..self },
        }
    }
}
