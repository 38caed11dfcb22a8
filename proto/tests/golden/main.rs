//! Golden bytes: one sample of each variant of each type that goes over the wire or onto a disk, compared with
//! what was committed. A difference here is a difference between versions: older nodes, disks and signatures
//! have the bytes of before.
//!
//! **Invariant.** No serialised type and no variant is left out: a variant without a sample does not compile
//! (`sample::every`), a type without one fails a test that reads the sources.
//!
//! Deliberately absent: consensus frames and the files of `node`, which are tested where they are made.
#![allow(missing_docs, clippy::as_conversions, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod canonical;
mod commands;
mod complete;
mod election;
mod frames;
mod generate;
mod identity;
mod largest;
mod messages;
mod parts;
mod reports;
mod sample;
mod sites;
mod traffic;
mod tribunal;
mod views;

use sample::{Sample, Samples};

pub(crate) fn samples() -> Vec<Sample> {
    all().all
}

pub(crate) fn all() -> Samples {
    let mut samples = Samples::default();
    parts::add(&mut samples);
    sites::add(&mut samples);
    reports::add(&mut samples);
    traffic::add(&mut samples);
    messages::add(&mut samples);
    commands::add(&mut samples);
    views::add(&mut samples);
    tribunal::add(&mut samples);
    election::add(&mut samples);
    samples
}

#[test]
fn the_bytes_stay_what_they_are() {
    let lines: Vec<String> = samples().iter().map(Sample::line).collect();
    insta::assert_snapshot!(lines.join("\n"));
}
