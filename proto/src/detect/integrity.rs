//! D8, integrity: our kernel programs, our nft table or our own binary changed, and it was not us.
//!
//! | state | tick | then |
//! |---|---|---|
//! | Calm | nothing | Calm |
//! | Calm | changed without us | Suspect |
//! | Calm | 20 quiet seconds | Calm |
//! | Calm | no sensor | Blind |
//! | Suspect | nothing | Suspect |
//! | Suspect | changed without us | Suspect |
//! | Suspect | 20 quiet seconds | Calm |
//! | Suspect | no sensor | Suspect |
//! | Blind | nothing | Calm |
//! | Blind | changed without us | Suspect |
//! | Blind | 20 quiet seconds | Calm |
//! | Blind | no sensor | Blind |
//!
//! **Invariant.** It never convicts: an upgrade of the system or another administrator's tool does this too.

use super::level::{Level, Reading};

/// What the last comparison of our own parts with what we installed gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Everything is as we left it.
    Ours,
    /// Something changed without us.
    Changed,
}

pub(super) fn read(integrity: Option<Integrity>) -> Reading {
    let (level, sum) = match integrity {
        None => (Level::Blind, 0),
        Some(Integrity::Ours) => (Level::Calm, 0),
        Some(Integrity::Changed) => (Level::Suspect, 1),
    };
    Reading { level, rate: 0, sum, threshold: 1 }
}

#[cfg(test)]
mod tests {
    use super::super::Detector;
    use super::super::driven::{Drive, assert_table};

    #[test]
    fn the_table_in_the_docs_is_what_the_detector_does() {
        assert_table(
            include_str!("integrity.rs"),
            Detector::Integrity,
            &[
                Drive::quiet("nothing"),
                Drive::changed("changed without us"),
                Drive::calm("20 quiet seconds"),
                Drive::blind("no sensor"),
            ],
        );
    }
}
