//! `[fence]`: the warrant to have servers that were cut off fenced.

use super::super::document::{Table, Value};
use crate::words::date;
use stead_proto::fence::FencePolicy;

const UNTIL_EXAMPLE: &str = "\"2027-03-01\"";

/// Reads it; nothing if something that it needs is missing, which is noted.
pub(super) fn read(table: &Table<'_>) -> Option<FencePolicy> {
    let command = table.require("exec", "[\"/usr/local/bin/fence\"]");
    let command = command.and_then(|value| value.texts("[\"/usr/local/bin/fence\"]"));
    let nodes_max = match table.get("nodes") {
        Some(value) => value.number(1..=u8::MAX),
        None => Some(1),
    };
    let until_unix_ms = table.require("until", UNTIL_EXAMPLE).and_then(|value| until(&value));
    table.finish();
    Some(FencePolicy { command: command?, nodes_max: nodes_max?, until_unix_ms: until_unix_ms? })
}

fn until(value: &Value<'_>) -> Option<u64> {
    let text = value.text()?;
    let unix_ms = day(text);
    if unix_ms.is_none() {
        value.complain(format!("{text:?} is no day from 1970 to 2999; write for example {UNTIL_EXAMPLE}"));
    }
    unix_ms
}

/// The first millisecond of a day in UTC (dates to days after Hinnant, "chrono-compatible low-level date algorithms").
fn day(text: &str) -> Option<u64> {
    let parts: Vec<u64> = text.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [year @ 1970..=2999, month @ 1..=12, day @ 1..=31] = parts[..] else { return None };
    // Years begin in March: the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    let unix_ms = days.checked_sub(719_468)? * 86_400_000;
    // Which refuses 31 April, and days with a digit too few.
    (day_text(unix_ms) == text).then_some(unix_ms)
}

/// The day as it is written.
pub(super) fn day_text(unix_ms: u64) -> String {
    date(unix_ms).split(' ').next().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_as_it_is_written() {
        assert_eq!(day("1970-01-01"), Some(0));
        assert_eq!(day("2000-02-29"), Some(951_782_400_000));
        assert_eq!(day("2027-03-01"), Some(1_803_859_200_000));
        for days in (0..376_000).step_by(13) {
            let unix_ms = days * 86_400_000;
            assert_eq!(day(&day_text(unix_ms)), Some(unix_ms));
        }
        for wrong in [
            "",
            "2027",
            "2027-3-1",
            "2027-02-29",
            "2027-04-31",
            "2027-13-01",
            "1969-12-31",
            "x-y-z",
            "2027-03-01-1",
        ] {
            assert_eq!(day(wrong), None, "{wrong}");
        }
    }
}
