//! Colour, where there is any.

/// How a word of state is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Not a word of state.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
}

/// Whether words of state are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// With ANSI colours.
    Colour,
    /// Without.
    Plain,
}

impl Paint {
    /// A word in its tone.
    pub(super) fn word(self, tone: Tone, text: &str) -> String {
        let code = match (self, tone) {
            (Self::Plain, _) | (_, Tone::Plain) => return text.into(),
            (Self::Colour, Tone::Good) => "32",
            (Self::Colour, Tone::Warn) => "33",
            (Self::Colour, Tone::Bad) => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The tone of a word of state.
pub(super) fn tone(word: &str) -> Tone {
    match word {
        "ok" | "agrees" | "free" | "best" | "up" | "served" | "healthy" | "holds" | "next" | "able"
        | "active" | "yes" => Tone::Good,
        "degraded" | "behind" | "cut" | "ailing" | "unknown" | "holding page" | "unsure" | "drained"
        | "probation" | "open" | "throttled" | "lower" | "suspects" | "accused" | "flooded" | "shielded"
        | "blind" => Tone::Warn,
        "no quorum" | "differs" | "silent" | "lost" | "down" | "vacant" | "contested" | "unable"
        | "no limit" | "cut off" | "missing" | "convicts" => Tone::Bad,
        _ => Tone::Plain,
    }
}
