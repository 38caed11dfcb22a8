//! A member that repeats old reports, its own and others', and then tells each of its peers something else.
//!
//! The agent of one node is killed, and this program reports with its key: first the same again and again, which may
//! change nothing; then two chains of reports, each of them in order, one for every second peer.

use std::time::Duration;

use anyhow::Context as _;
use quinn::Connection;
use stead::demo::stage::Stage;
use stead_deploy::lab::now;
use stead_proto::codec;
use stead_proto::limits::REPORT_FRAME_BYTES_MAX;
use stead_proto::report::{self, Report};
use stead_proto::sign::Signed;
use stead_proto::time::Span;

use super::audience::Audience;
use super::member::{Liar, PATIENCE, unix_ms};

/// How often the same is repeated.
const REPEATS: u64 = 500;
/// An incarnation above any that the killed agent had.
const INCARNATION: u64 = 1_000;
const PAUSE: Duration = Duration::from_millis(5);
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Exposed {
    /// Repetitions sent to each peer.
    pub repeated: u64,
    /// Nodes that anybody cut off or demoted for those.
    pub believed: usize,
    /// From the first two-faced report until all others had cut it off.
    pub cut_off: Span,
    /// The longest time for which visitors were not served.
    pub outage: Span,
}

/// Plays it with the key of the node `bad`.
///
/// # Errors
/// What could not be played, or that it was not cut off, with the nodes' logs.
pub fn play(stage: &mut Stage, bad: usize) -> anyhow::Result<Exposed> {
    let own = stage.status(bad)?.own;
    stage.kill_agent(bad)?;
    let honest: Vec<usize> = (0..stage.players.len()).filter(|i| *i != bad).collect();
    stage.until("the honest ones serve", PATIENCE, |stage| stage.holder().filter(|i| honest.contains(i)))?;
    let audience = Audience::seated(stage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let liar = runtime.block_on(Liar::connect(stage, bad, &honest))?;
    let first = Report { incarnation: INCARNATION, sequence: 1, previous: [0; 32], ..own };
    runtime.block_on(repeat(&liar, &first))?;
    let believed = cast_out(stage, &honest)?;
    let begun = now();
    let faces = runtime.spawn(two_faces(liar, first));
    stage.until("everybody has cut it off", PATIENCE, |stage| {
        let id = stage.player(bad).ok()?.id;
        honest.iter().all(|i| stage.status(*i).is_ok_and(|s| s.own.isolated.contains(&id))).then_some(())
    })?;
    let cut_off = now().since(begun);
    faces.abort();
    Ok(Exposed { repeated: REPEATS, believed, cut_off, outage: audience.dismissed()? })
}

fn cast_out(stage: &Stage, honest: &[usize]) -> anyhow::Result<usize> {
    let mut count = 0;
    for i in honest {
        let status = stage.status(*i).context("an honest node answers")?;
        count += status.own.isolated.len() + status.cases.iter().filter(|case| case.demoted).count();
    }
    Ok(count)
}

/// The same report over and over, and on every other session the one before it, as if somebody showed it.
async fn repeat(liar: &Liar, report: &Report) -> anyhow::Result<()> {
    let earlier = Report { incarnation: INCARNATION - 1, ..report.clone() };
    let both = [report, &earlier].map(|report| liar.key.sign(liar.cluster, report));
    for _ in 0..REPEATS {
        for signed in &both {
            for connection in &liar.connections {
                send(connection, signed.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Two chains, each in order, until the task is ended.
async fn two_faces(liar: Liar, first: Report) -> anyhow::Result<()> {
    let signed = liar.key.sign(liar.cluster, &first)?;
    let mut previous = [report::link(&signed); 2];
    for sequence in 2.. {
        let mut both = Vec::new();
        for (face, previous) in (0..).zip(&mut previous) {
            let says = Report { sequence, previous: *previous, unix_ms: unix_ms() + face, ..first.clone() };
            let signed = liar.key.sign(liar.cluster, &says)?;
            *previous = report::link(&signed);
            both.push(signed);
        }
        for (connection, signed) in liar.connections.iter().zip(both.iter().cycle()) {
            send(connection, signed).await;
        }
        tokio::time::sleep(REPORT_EVERY).await;
    }
    Ok(())
}

/// A connection that was closed takes nothing more, which is what its peer closed it for.
async fn send(connection: &Connection, signed: &Signed<Report>) {
    let Ok(bytes) = codec::encode(signed, REPORT_FRAME_BYTES_MAX) else { return };
    if let Ok(mut stream) = connection.open_uni().await
        && stream.write_all(&bytes).await.is_ok()
    {
        let _ = stream.finish();
    }
}
