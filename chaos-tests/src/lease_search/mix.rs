//! What one schedule is made of: every schedule draws its own mix of faults (swarm testing, Groce 2012), since
//! a schedule with everything hides what a schedule with a few things finds.

use super::rng::Rng;

/// Something that is done to the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Cut some links, one way or both.
    Cut,
    /// Mend all links.
    #[default]
    Heal,
    /// Kill an agent and start it again: its record is kept.
    Restart,
    /// Reboot a host: its record is lost.
    Reboot,
    /// Stop an agent for a while (SIGSTOP).
    Pause,
    /// Commit another plan.
    Plan,
    /// Commit another configuration, if the rules accept it.
    Config,
    /// A node's services become healthy or not.
    Readiness,
    /// The holder's application dies.
    HandOver,
}

const FAULTS: [Fault; 8] = [
    Fault::Cut,
    Fault::Restart,
    Fault::Reboot,
    Fault::Pause,
    Fault::Plan,
    Fault::Config,
    Fault::Readiness,
    Fault::HandOver,
];

/// The parameters of one schedule. Times in ns of true time.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Nodes that vote at first.
    pub voters: u64,
    /// Nodes that do not.
    pub learners: u64,
    /// The lease lengths that plans choose from, in ms.
    pub leases_ms: [u32; 2],
    /// The longest time that a gate may need to close, in ms; each node draws its own.
    pub slack_ms_max: u64,
    /// Clocks are at one of their two extremes rather than between.
    pub extreme_clocks: bool,
    /// Datagrams lost, in ppm.
    pub loss_ppm: u64,
    /// Datagrams doubled, in ppm.
    pub double_ppm: u64,
    /// Datagrams that come very late, in ppm.
    pub late_ppm: u64,
    /// Usual one-way delay at most.
    pub delay_max: u64,
    /// Delay of the late ones at most.
    pub late_max: u64,
    /// How much later than wanted a timer may fire.
    pub slip_max: u64,
    /// How much later than others a node may apply a log entry.
    pub lag_max: u64,
    /// Calls after which an agent stops or dies between two outputs, in ppm.
    pub torn_ppm: u64,
    /// The faults, to be drawn from.
    pub faults: Vec<Fault>,
    /// The mean time between two faults.
    pub fault_every: u64,
    /// When the faults end.
    pub horizon: u64,
}

const MS: u64 = 1_000_000;

impl Mix {
    /// The mix of a schedule.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut faults: Vec<Fault> = FAULTS.into_iter().filter(|_| rng.chance(500_000)).collect();
        if faults.contains(&Fault::Config) && rng.chance(500_000) {
            faults.extend([Fault::Config; 3]);
        }
        if faults.contains(&Fault::Cut) {
            faults.push(Fault::Heal);
        }
        let slow = faults.contains(&Fault::Config) || rng.chance(100_000);
        let lease_ms: u32 =
            if slow { rng.pick(&[1_000, 2_000, 3_000]) } else { rng.pick(&[60, 100, 300, 1_000]) };
        let other_ms = if rng.chance(300_000) { rng.pick(&[60, 250, 1_500, 3_000]) } else { lease_ms };
        let lease = u64::from(lease_ms) * MS;
        Self {
            voters: if rng.chance(250_000) { 2 } else { rng.between(2, 5) },
            learners: rng.pick(&[0, 0, 1, 2]),
            leases_ms: [lease_ms, other_ms],
            slack_ms_max: rng.pick(&[0, 0, 20, 500, 2_500]),
            extreme_clocks: rng.chance(700_000),
            loss_ppm: rng.pick(&[0, 0, 10_000, 100_000, 300_000]),
            double_ppm: rng.pick(&[0, 20_000, 200_000]),
            late_ppm: rng.pick(&[0, 0, 10_000, 100_000]),
            delay_max: rng.pick(&[MS / 5, 2 * MS, 20 * MS, lease / 6, lease / 3]),
            late_max: rng.pick(&[lease, lease * 4, lease * 8]),
            slip_max: rng.pick(&[0, MS / 10, 5 * MS, lease / 8]),
            lag_max: rng.pick(&[MS, 50 * MS, lease, lease * 4, 12_000 * MS]),
            torn_ppm: rng.pick(&[0, 0, 2_000, 20_000]),
            fault_every: rng.pick(&[lease / 8, lease / 3, lease, lease * 2]),
            horizon: if slow { rng.between(6, 30) * 1_000 * MS } else { rng.between(8, 30) * lease },
            faults,
        }
    }
}
