//! The figures as a person reads them: medians, in brackets the least and the largest.

use super::{Costs, Load};
use std::fmt;

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The sensor's programs by themselves, ns a packet\n")?;
        writeln!(f, "{:40}{:>24}{:>24}", "", "egress", "ingress")?;
        for cost in &self.programs {
            let ingress = cost.ingress_ns.map_or_else(String::new, |ns| ns.to_string());
            writeln!(f, "{:40}{:>24}{ingress:>24}", cost.frame, cost.egress_ns.to_string())?;
        }
        writeln!(f, "\nSmall packets through a router with these on its uplink\n")?;
        writeln!(
            f,
            "{:34}{:>30}{:>26}{:>24}",
            "", "arrived a second", "CPU ns a packet", "more than nothing"
        )?;
        for row in &self.forwarded {
            let load = match row.load {
                Load::Udp => "UDP",
                Load::Data => "TCP data",
                Load::Syn => "TCP SYN",
            };
            let added = row.added_ns.map_or_else(String::new, |ns| ns.to_string());
            let (arrived, cpu) = (row.arrived_per_s.to_string(), row.cpu_ns.to_string());
            writeln!(f, "{load:>8}: {:30}{arrived:>30}{cpu:>26}{added:>24}", row.fitted)?;
        }
        writeln!(f, "\nA TCP stream out of such an uplink\n")?;
        writeln!(f, "{:40}{:>30}{:>26}{:>24}", "", "Mbit/s", "CPU µs a MB", "more than nothing")?;
        for row in &self.streamed {
            let kind = if row.segment_by_segment { "segments" } else { "offloaded" };
            let (goodput, cpu) = (row.mbit_per_s.to_string(), row.cpu_us_per_mb.to_string());
            let added = row.added_us_per_mb.map_or_else(String::new, |us| us.to_string());
            writeln!(f, "{kind:>9}: {:29}{goodput:>30}{cpu:>26}{added:>24}", row.fitted)?;
        }
        writeln!(f, "\nThe agent's thread\n")?;
        writeln!(
            f,
            "{:20}{:>8}{:>8}{:>12}{:>10}{:>14}{:>12}",
            "", "a second", "of", "median µs", "p99 µs", "CPU, µs each", "% of a core"
        )?;
        for chore in &self.chores {
            writeln!(
                f,
                "{:20}{:>8}{:>8}{:>12.0}{:>10.0}{:>14.0}{:>12.3}",
                chore.what,
                chore.per_s,
                chore.took_us.of,
                chore.took_us.median,
                chore.took_us.p99,
                chore.cpu_us.median,
                chore.cpu_percent
            )?;
        }
        let all: f64 = self.chores.iter().map(|chore| chore.cpu_percent).sum();
        writeln!(f, "{:72}{all:>12.3}", "all of it")
    }
}
