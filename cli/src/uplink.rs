//! Which interface this machine reaches the world through.

/// The longest name that the kernel gives an interface (`IFNAMSIZ` - 1).
pub(crate) const NAME_BYTES_MAX: usize = 15;

/// The interface of the default route with the lowest metric, of IPv4 first.
#[must_use]
pub(crate) fn of_default_route() -> Option<String> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    ipv4(&read("/proc/net/route")).or_else(|| ipv6(&read("/proc/net/ipv6_route")))
}

/// From `/proc/net/route`: interface, destination, gateway, flags, use counts, metric, mask.
fn ipv4(table: &str) -> Option<String> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (name, destination) = (*fields.first()?, *fields.get(1)?);
        let (metric, mask) = (fields.get(6)?.parse::<u64>().ok()?, *fields.get(7)?);
        (destination == "00000000" && mask == "00000000").then(|| (metric, name.to_string()))
    });
    routes.min().map(|(_, name)| name)
}

/// From `/proc/net/ipv6_route`: destination and its length, source, next hop, metric, …, interface.
fn ipv6(table: &str) -> Option<String> {
    let routes = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let metric = u64::from_str_radix(fields.get(5)?, 16).ok()?;
        let name = fields.get(9)?.to_string();
        (*fields.get(1)? == "00" && name != "lo").then_some((metric, name))
    });
    routes.min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_with_the_lowest_metric_counts() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                     eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     eth1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(ipv4(table).as_deref(), Some("eth0"));
        assert_eq!(ipv4(""), None);
    }

    #[test]
    fn a_machine_with_ipv6_only_has_an_uplink_too() {
        let zero = "0".repeat(32);
        let table = format!(
            "{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n\
             {zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000002 00000000 00000003 ens3\n"
        );
        assert_eq!(ipv6(&table).as_deref(), Some("ens3"));
    }
}
