//! What the mesh's own record says of a flood, read the way an operator would.

use stead_proto::admin::Status;
use stead_proto::incident::{Incident, Matter};

/// The last line of a flood's incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Closing {
    /// SYNs in all: sent, or received.
    pub(super) syns: u64,
    /// The most in a second.
    pub(super) peak: u64,
    /// Of them, those that left the host, or met a full queue.
    pub(super) part: u64,
}

/// The last incident about a matter, opened after the one of number `after`.
pub(super) fn latest<'a>(status: &'a Status, matter: &Matter, after: u64) -> Option<&'a Incident> {
    status.state.incidents.iter().rev().find(|incident| incident.matter == *matter && incident.id > after)
}

/// The number of the last incident of all.
pub(super) fn last_id(status: &Status) -> u64 {
    status.state.incidents.iter().map(|incident| incident.id).max().unwrap_or_default()
}

/// The figures with which a flood's incident ended.
pub(super) fn closing(incident: &Incident) -> Option<Closing> {
    incident.closed_unix_ms?;
    incident.lines.iter().rev().find_map(|line| figures(&line.text))
}

fn figures(line: &str) -> Option<Closing> {
    let (_, told) = line.strip_prefix("over after ")?.split_once(": ")?;
    let mut numbers = told.split([' ', ';']).filter_map(|word| word.parse::<u64>().ok());
    Some(Closing { syns: numbers.next()?, peak: numbers.next()?, part: numbers.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_endings_are_read() {
        let out = "over after 5 s (proven): 4012 SYNs, at most 1009 a second; 61 left the host";
        assert_eq!(figures(out), Some(Closing { syns: 4_012, peak: 1_009, part: 61 }));
        let inbound = "over after 3 s: 900 SYNs, at most 310 a second; 700 of them met a full queue";
        assert_eq!(figures(inbound), Some(Closing { syns: 900, peak: 310, part: 700 }));
        assert_eq!(figures("its sensors see again"), None);
    }
}
