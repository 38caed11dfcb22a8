//! `apply`: the only way in which the state changes.
//!
//! **Invariant.** Total and deterministic: whatever bytes the log holds, every node comes to the same
//! state and the same outcome, and a command that is refused changes nothing but the digest (and, where
//! an operator's order was refused, the record of that).

use super::State;
use crate::codec;
use crate::command::{Command, Outcome, Refusal};
use crate::incident::Matter;
use crate::limits::COMMAND_FRAME_BYTES_MAX;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};

impl State {
    /// Applies the entry at `index`: an encoded [`Command`], or nothing for an entry of Raft's own.
    pub fn apply(&mut self, index: u64, command: &[u8]) -> Outcome {
        let outcome = match codec::decode::<Command>(command, COMMAND_FRAME_BYTES_MAX) {
            Ok(command) => self.carry_out(index, command).unwrap_or_else(Outcome::Refused),
            Err(_) => Outcome::Refused(Refusal::Unreadable),
        };
        self.applied = index;
        self.digest = self.fold(index, command, &outcome);
        outcome
    }

    fn carry_out(&mut self, index: u64, command: Command) -> Result<Outcome, Refusal> {
        match command {
            Command::Order(signed) => self.order(index, &signed),
            Command::Plan { endpoint, parent, seats, ground, unix_ms } => {
                self.plan(index, &endpoint, parent, seats, &ground, unix_ms)
            }
            Command::Voters { change, reports, reason, unix_ms } => {
                self.voters(index, change, &reports, &reason, unix_ms)
            }
            Command::Note { matter, text, closes, unix_ms } => {
                self.note(index, &matter, &text, closes, unix_ms);
                Ok(Outcome::Done)
            }
            Command::Fence { node, reports, unix_ms } => self.order_fencing(index, node, &reports, unix_ms),
            Command::Fenced { node, report, unix_ms } => self.record_fencing(index, node, &report, unix_ms),
            Command::EndProbation { node, reports, unix_ms } => {
                self.end_probation(index, node, &reports, unix_ms)
            }
            Command::HostKey { node, key, reports } => self.learn_host_key(node, key, &reports),
            Command::Isolate { certificate, unix_ms } => self.isolate_convicted(index, certificate, unix_ms),
            Command::Probe => Ok(Outcome::Done),
        }
    }

    fn note(&mut self, index: u64, matter: &Matter, text: &str, closes: bool, unix_ms: u64) {
        if closes {
            self.incidents.close(matter, unix_ms, text);
        } else {
            self.incidents.note(index, matter, unix_ms, text);
        }
    }

    fn fold(&self, index: u64, command: &[u8], outcome: &Outcome) -> [u8; 32] {
        let outcome: Vec<u8> = codec::encode_for_hash(outcome, COMMAND_FRAME_BYTES_MAX).unwrap_or_default();
        Sha256::new()
            .chain_update(self.digest)
            .chain_update(index.to_le_bytes())
            .chain_update(Sha256::digest(command))
            .chain_update(Sha256::digest(&outcome))
            .finalize()
            .into()
    }
}
