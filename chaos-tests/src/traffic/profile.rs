//! Eight honest servers, by the connections that they open.
//!
//! **Invariant.** None of them opens raw sockets. Rates, bursts and shares of dead hosts are upper ends of what the
//! software behind the names does, not averages.

/// What one kind of server opens towards the internet.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Its name in tables.
    pub name: &'static str,
    /// All the time.
    pub base: Load,
    /// And from time to time, instead.
    pub burst: Option<Burst>,
}

/// Connections at a steady rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Connections in a thousand seconds.
    pub per_1000_s: u64,
    /// How many of a million hosts never answer.
    pub dead_ppm: u64,
}

/// A load that comes back.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// From start to start, in seconds.
    pub every_s: u64,
    /// Its length in seconds.
    pub lasts_s: u64,
    /// What it opens.
    pub load: Load,
}

/// The eight of them.
pub const PROFILES: [Profile; 8] = [
    Profile { name: "blog", base: load(200, 10_000), burst: None },
    Profile { name: "shop API", base: load(3_000, 5_000), burst: None },
    Profile { name: "webhook bursts", base: load(500, 10_000), burst: burst(600, 5, load(100_000, 20_000)) },
    Profile {
        name: "fediverse fan-out",
        base: load(1_000, 50_000),
        burst: burst(2_160, 20, load(100_000, 150_000)),
    },
    Profile { name: "newsletter", base: load(200, 10_000), burst: burst(86_400, 600, load(50_000, 30_000)) },
    Profile { name: "crawler", base: load(100_000, 80_000), burst: None },
    Profile {
        name: "database outage",
        base: load(5_000, 5_000),
        burst: burst(43_200, 120, load(50_000, 980_000)),
    },
    Profile { name: "uptime monitor", base: load(200, 10_000), burst: burst(60, 2, load(250_000, 20_000)) },
];

const fn load(per_1000_s: u64, dead_ppm: u64) -> Load {
    Load { per_1000_s, dead_ppm }
}

const fn burst(every_s: u64, lasts_s: u64, load: Load) -> Option<Burst> {
    Some(Burst { every_s, lasts_s, load })
}

impl Profile {
    /// What it opens at a time, in seconds after its first burst began.
    #[must_use]
    pub const fn at(&self, second: u64) -> Load {
        match self.burst {
            Some(Burst { every_s, lasts_s, load }) if every_s > 0 && second % every_s < lasts_s => load,
            Some(_) | None => self.base,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_replaces_the_base_for_its_time() {
        let monitor = PROFILES[7];
        assert_eq!(monitor.at(1).per_1000_s, 250_000);
        assert_eq!(monitor.at(2), monitor.base);
        assert_eq!(monitor.at(60).per_1000_s, 250_000);
    }
}
