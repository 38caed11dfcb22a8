//! The tribunal: how a mesh convicts one of its own without a leader (DESIGN §8).
//!
//! ```text
//! what a node finds by itself ─▶ Testimony ─▶ every peer, which looks for itself ─▶ Testimony …
//!                                                 A of them, in any order ─▶ Certificate ─▶ every peer acts
//! ```
//!
//! A = ⌊n/2⌋ + 1 of the electorate that the operators signed; the accused is among the n and never among the A. Nothing
//! here is ordered and nothing goes through Raft, so a hostile leader cannot hold up its own conviction.
//!
//! **Invariant.** Pure and deterministic: a certificate that one honest node believes, every honest node with the
//! same electorate and the same earlier certificates believes.
//!
//! Deliberately absent for now: the course of a case (who looks when, rebuttals, strikes), and acting on a certificate.

pub mod certificate;
pub mod rules;
pub mod testimony;

pub use certificate::{Certificate, Court, Disbelief, Electorate, Verdict};
pub use rules::Rules;
pub use testimony::{Ground, Probe, Sanction, Subject, Testimony};
