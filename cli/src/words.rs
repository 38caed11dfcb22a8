//! Times as people say them.

/// A span: `40 ms`, `12 s`, `5 min`, `3 h`, `2 d`.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        ms if ms < 1_000 => format!("{ms} ms"),
        ms if ms < 120_000 => format!("{} s", ms / 1_000),
        ms if ms < 7_200_000 => format!("{} min", ms / 60_000),
        ms if ms < 172_800_000 => format!("{} h", ms / 3_600_000),
        ms => format!("{} d", ms / 86_400_000),
    }
}

/// How long ago something was. Clocks of different machines differ: the future is now.
pub(crate) fn ago(unix_ms: u64, now_unix_ms: u64) -> String {
    match now_unix_ms.saturating_sub(unix_ms) {
        ms if ms < 1_000 => "just now".into(),
        ms => format!("{} ago", span(ms)),
    }
}

/// The date and time in UTC: `2027-01-15 08:00:00Z` (days to dates after Hinnant, "chrono-compatible
/// low-level date algorithms").
pub(crate) fn date(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// A text that another machine chose, fit for a terminal: programs and files may be named by an attacker.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c }).collect()
}

/// Marks that turn the direction of a line, or hide in it (Unicode TR 36, TR 9).
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// This machine's wall clock, in milliseconds since 1970.
pub(crate) fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_s, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_800_000_000, "2027-01-15 08:00:00Z"),
            (4_107_542_399, "2100-02-28 23:59:59Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(date(unix_s * 1_000), text);
        }
    }

    #[test]
    fn no_name_of_a_program_reaches_the_terminal_as_more_than_a_name() {
        assert_eq!(harmless("sh\x1b[2J\n[1]\u{202e} é/ü"), "sh\u{fffd}[2J\u{fffd}[1]\u{fffd} é/ü");
    }

    #[test]
    fn spans_are_short() {
        let told: Vec<String> = [40, 12_000, 300_000, 10_800_000, 200_000_000].map(span).into();
        assert_eq!(told, ["40 ms", "12 s", "5 min", "3 h", "2 d"]);
        assert_eq!(ago(5_000, 4_000), "just now");
    }
}
