//! `[guard]`: how many connections its servers may open to strangers.

use super::super::document::{Table, Value};
use std::net::IpAddr;
use stead_proto::guard::{Allowed, GuardPolicy, LICENCE_MS_MAX, LICENCE_MS_MIN, Prefix, RATE_MAX, Rate};

const RATE_EXAMPLE: &str = "\"10/s\", or \"10/s burst 20\"";
const ALLOW_EXAMPLE: &str = "{ to = \"192.0.2.0/24\", port = 443, rate = \"100/s\" }";

/// What stands in for a rate that cannot be read: nothing is below it, so that one mistake does not look like two.
const LEAST: Rate = Rate { per_second: 1, burst: 1 };

/// Reads it; what is wrong with it is noted, and stood in for by something harmless.
pub(super) fn read(table: &Table<'_>) -> GuardPolicy {
    let mut policy = GuardPolicy::default();
    if let Some(value) = table.get("limit") {
        policy.limit = rate(&value, RATE_EXAMPLE).unwrap_or(LEAST);
    }
    if let Some(value) = table.get("ceiling") {
        policy.ceiling = ceiling(&value);
    }
    if let Some(value) = table.get("licence") {
        policy.licence_ms = value.ms(LICENCE_MS_MIN..=LICENCE_MS_MAX, "3s").unwrap_or(LICENCE_MS_MAX);
    }
    // A short licence is renewed more often without being asked to.
    policy.renew_every_ms = policy.renew_every_ms.min(policy.licence_ms / 3);
    if let Some(value) = table.get("renew")
        && let Some(ms) = value.ms(1..=LICENCE_MS_MAX / 3, "500ms")
    {
        policy.renew_every_ms = ms;
    }
    let entries = table.get("allow").and_then(|value| value.list(&format!("[{ALLOW_EXAMPLE}]")));
    policy.allowed = entries.iter().flatten().filter_map(allowed).collect();
    let friends = table.get("friends").and_then(|value| value.list("[\"203.0.113.7\", \"2001:db8::/32\"]"));
    policy.friends = friends.iter().flatten().filter_map(|value| prefix(value, "\"203.0.113.7\"")).collect();
    table.finish();
    policy
}

fn ceiling(value: &Value<'_>) -> Option<Rate> {
    if value.text()? == "none" {
        return None;
    }
    rate(value, "\"2000/s burst 2000\", or \"none\"")
}

fn allowed(value: &Value<'_>) -> Option<Allowed> {
    let table = value.table()?;
    let to = table.require("to", "\"192.0.2.0/24\"").and_then(|value| prefix(&value, "\"192.0.2.0/24\""));
    let port = table.get("port").map(|value| value.number(1..=u16::MAX));
    let rate = table.require("rate", "\"100/s\"").and_then(|value| rate(&value, "\"100/s burst 200\""));
    table.finish();
    Some(Allowed { to: to?, port: port.flatten(), rate: rate? })
}

/// `10/s` or `10/s burst 20`; without a burst it is what one second may have.
fn rate(value: &Value<'_>, write: &str) -> Option<Rate> {
    let text = value.text()?;
    let Some((per_second, burst)) = parts(text) else {
        value.complain(format!("{text:?} is no rate; write for example {write}"));
        return None;
    };
    let within = |number: u64| u32::try_from(number).ok().filter(|number| (1..=RATE_MAX).contains(number));
    let rate = within(per_second).zip(within(burst));
    if rate.is_none() {
        value.complain(format!("{text:?} is out of range; write a rate and a burst from 1 to {RATE_MAX}"));
    }
    rate.map(|(per_second, burst)| Rate { per_second, burst })
}

fn parts(text: &str) -> Option<(u64, u64)> {
    let (rate, burst) = text.split_once("burst").map_or((text, None), |(rate, burst)| (rate, Some(burst)));
    let per_second = digits(rate.trim().strip_suffix("/s")?)?;
    Some((per_second, burst.map_or(Some(per_second), digits)?))
}

/// A number without a sign, and what is too large for any rate as a large one.
fn digits(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// `192.0.2.0/24`, or an address alone.
fn prefix(value: &Value<'_>, write: &str) -> Option<Prefix> {
    let text = value.text()?;
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let (Ok(address), Some(bits)) =
        (address.parse::<IpAddr>(), bits.map_or(Some(None), |b| digits(b).map(Some)))
    else {
        value.complain(format!("{text:?} is neither an address nor a prefix; write for example {write}"));
        return None;
    };
    let whole = Prefix::host(address);
    let Some(bits) = bits else { return Some(whole) };
    let Some(bits) = u8::try_from(bits).ok().filter(|bits| (1..=whole.bits).contains(bits)) else {
        value.complain(format!("{text:?} is out of range; write a prefix from /1 to /{}", whole.bits));
        return None;
    };
    let prefix = Prefix { address: first(address, bits), bits };
    if prefix.address != address {
        let meant = prefix_text(prefix);
        value.complain(format!(
            "{text:?} has bits behind its prefix; write {meant:?}, or {:?}",
            address.to_string()
        ));
        return None;
    }
    Some(prefix)
}

/// The first address of the prefix of so many bits that `address` lies in.
fn first(address: IpAddr, bits: u8) -> IpAddr {
    let mask = |width: u32| u128::MAX.checked_shl(width.saturating_sub(bits.into())).unwrap_or_default();
    match address {
        IpAddr::V4(address) => {
            let kept = u128::from(address.to_bits()) & mask(32);
            u32::try_from(kept).map_or(address.into(), |bits| IpAddr::V4(bits.into()))
        }
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & mask(128)).into()),
    }
}

/// A prefix as it is written; an address alone without its bits.
pub(super) fn prefix_text(prefix: Prefix) -> String {
    if prefix == Prefix::host(prefix.address) {
        return prefix.address.to_string();
    }
    format!("{}/{}", prefix.address, prefix.bits)
}

/// A rate as it is written.
pub(super) fn rate_text(rate: Rate) -> String {
    format!("{}/s burst {}", rate.per_second, rate.burst)
}

#[cfg(test)]
mod tests {
    use super::super::SiteFile;
    use super::*;

    fn policy(lines: &str) -> GuardPolicy {
        SiteFile::parse("site.toml", &format!("[guard]\n{lines}\n")).unwrap().site.guard
    }

    fn problems(lines: &str) -> Vec<String> {
        let problems = SiteFile::parse("site.toml", &format!("[guard]\n{lines}\n")).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        assert_eq!(policy(""), GuardPolicy::default());
        let boundless = GuardPolicy { ceiling: None, ..GuardPolicy::default() };
        assert_eq!(policy("ceiling = \"none\""), boundless);
    }

    #[test]
    fn a_rate_allows_as_much_at_once_as_in_a_second_unless_it_says_more() {
        let rate = |text: &str| policy(&format!("limit = {text:?}")).limit;
        assert_eq!(rate("20/s"), Rate { per_second: 20, burst: 20 });
        for text in ["20/s burst 50", " 20/s  burst  50 ", "20/sburst50"] {
            assert_eq!(rate(text), Rate { per_second: 20, burst: 50 }, "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_told_once_whatever_else_it_would_contradict() {
        for text in ["", "10", "10/m", "/s", "-1/s", "10/s burst", "1.5/s", "10/s 20", "é/s"] {
            let told = problems(&format!("limit = {text:?}\nceiling = \"5/s\""));
            let expected =
                format!("site.toml:2: guard.limit: {text:?} is no rate; write for example {RATE_EXAMPLE}");
            assert_eq!(told, [expected], "{text}");
        }
        for text in ["0/s", "5/s burst 0", "100001/s", "99999999999999999999999/s"] {
            let told = problems(&format!("limit = {text:?}"));
            assert!(told.len() == 1 && told[0].contains("is out of range; write a rate"), "{told:?}");
        }
    }

    #[test]
    fn a_short_licence_is_renewed_often_enough_by_itself() {
        assert_eq!(
            (policy("licence = \"1s\"").renew_every_ms, policy("licence = \"9s\"").renew_every_ms),
            (333, 500)
        );
        let told = problems("licence = \"3s\"\nrenew = \"2s\"");
        assert_eq!(told, ["site.toml:3: guard.renew: write 1 to 1000 ms, a third of the licence"]);
    }

    #[test]
    fn prefixes_are_read_as_they_are_written() {
        let read = |text: &str| prefix_text(policy(&format!("friends = [{text:?}]")).friends[0]);
        for text in ["203.0.113.7", "192.0.2.0/24", "128.0.0.0/1", "2001:db8::/32", "2001:db8::7", "8000::/1"]
        {
            assert_eq!(read(text), text);
        }
        assert_eq!((&*read("192.0.2.1/32"), &*read("2001:db8::1/128")), ("192.0.2.1", "2001:db8::1"));
        for (text, hint) in [
            ("192.0.2.1/24", "write \"192.0.2.0/24\", or \"192.0.2.1\""),
            ("2001:db8::1/32", "write \"2001:db8::/32\", or \"2001:db8::1\""),
            ("192.0.2.0/33", "write a prefix from /1 to /32"),
            ("0.0.0.0/0", "write a prefix from /1 to /32"),
            ("::/129", "write a prefix from /1 to /128"),
            ("192.0.2.0/", "neither an address nor a prefix"),
            ("example.org", "neither an address nor a prefix"),
        ] {
            let told = problems(&format!("friends = [{text:?}]"));
            assert!(told.len() == 1 && told[0].contains(hint), "{told:?}");
            assert!(told[0].starts_with("site.toml:2: guard.friends[0]: "), "{told:?}");
        }
    }

    #[test]
    fn an_allow_list_may_be_written_as_tables_of_its_own() {
        let lines = "[[guard.allow]]\nto = \"192.0.2.0/24\"\nrate = \"100/s\"\n";
        assert_eq!(policy(lines).allowed.len(), 1);
        let many = "friends = [".to_string() + &"\"192.0.2.1\", ".repeat(129) + "]";
        assert_eq!(problems(&many), ["site.toml:2: guard.friends: 129 entries; at most 128"]);
    }
}
