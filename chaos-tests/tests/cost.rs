//! What the sensors cost can be measured: a short run of `cargo run -p chaos-tests --bin sensors -- --cost`. Needs root.
//!
//! No figure is judged here: a build machine is no place to measure on.

use chaos_tests::cost::{Costs, Fitted, Plan};

#[test]
fn every_cost_can_be_measured() {
    assert!(
        rustix::process::geteuid().is_root(),
        "run this as root: it makes network namespaces and loads BPF"
    );
    let costs = Costs::measure(Plan::short()).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{costs}");
    for program in &costs.programs {
        let both = [Some(program.egress_ns), program.ingress_ns];
        let plausible = both.iter().flatten().all(|ns| ns.median > 0.0 && ns.median < 1e6);
        assert!(plausible, "{program:?}");
    }
    for forwarded in &costs.forwarded {
        let cut = forwarded.fitted == Fitted::Cut;
        assert!(
            forwarded.cpu_ns.median > 100.0 && (cut || forwarded.arrived_per_s.median > 1e3),
            "{forwarded:?}"
        );
    }
    assert!(
        costs
            .streamed
            .iter()
            .all(|stream| stream.mbit_per_s.median > 1.0 && stream.cpu_us_per_mb.median > 1.0)
    );
    assert!(
        costs
            .chores
            .iter()
            .all(|chore| chore.cpu_us.median > 0.0 && chore.took_us.p99 >= chore.took_us.median)
    );
    let counted = (costs.programs.len(), costs.forwarded.len(), costs.streamed.len(), costs.chores.len());
    assert_eq!(counted, (11, 10, 6, 4));
}
