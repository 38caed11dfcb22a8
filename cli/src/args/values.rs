//! Arguments that are more than a word: times, nodes, operators.

use std::time::Duration;
use stead_proto::id::Name;
use stead_proto::roster::OperatorRole;

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let ms = crate::document::parse_ms(text).filter(|ms| (50..=3_600_000).contains(ms));
    ms.map(Duration::from_millis).ok_or_else(|| "write a time from 50ms to 1h, such as 3s".into())
}

pub(super) fn probation(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()).filter(|days| *days <= 90);
    let ms = match days {
        Some(days) => Some(days * 86_400_000),
        None => crate::document::parse_ms(text).filter(|ms| (60_000..=7_776_000_000).contains(ms)),
    };
    ms.map(Duration::from_millis).ok_or_else(|| "write a time from 1m to 90d, such as 24h or 7d".into())
}

pub(super) fn new_operator(text: &str) -> Result<(Name, OperatorRole), String> {
    let (name, role) = text.split_once('=').unwrap_or((text, "admin"));
    let roles = [OperatorRole::Admin, OperatorRole::Caretaker, OperatorRole::Viewer];
    let role = roles.into_iter().find(|known| known.as_str() == role);
    let role = role.ok_or("write admin, caretaker or viewer behind the =")?;
    Ok((name.parse::<Name>().map_err(|error| error.to_string())?, role))
}

pub(super) fn new_node(text: &str) -> Result<(Name, String), String> {
    let (name, address) = text.split_once('=').ok_or("write NAME=ADDRESS, such as a=10.0.0.1")?;
    let name = name.parse::<Name>().map_err(|error| error.to_string())?;
    let address = crate::init::with_port(address);
    let fits = crate::agent_file::is_host_and_port(&address);
    if fits {
        Ok((name, address))
    } else {
        Err(format!("{address:?} is no address; write for example 10.0.0.1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_their_port() {
        let parsed = |text| new_node(text).map(|(_, address)| address);
        assert_eq!(parsed("a=10.0.0.1").as_deref(), Ok("10.0.0.1:7832"));
        assert_eq!(parsed("a=fd00::1").as_deref(), Ok("[fd00::1]:7832"));
        assert_eq!(parsed("a=web1.example.org:99").as_deref(), Ok("web1.example.org:99"));
        assert!(parsed("a=two words").is_err() && parsed("10.0.0.1").is_err());
    }

    #[test]
    fn a_probation_lasts_from_a_minute_to_a_season() {
        let ms = |text| probation(text).map(|time| time.as_millis()).ok();
        assert_eq!((ms("24h"), ms("7d"), ms("1m")), (Some(86_400_000), Some(604_800_000), Some(60_000)));
        assert_eq!((ms("59s"), ms("91d"), ms("-1d"), ms("a while")), (None, None, None, None));
    }
}
