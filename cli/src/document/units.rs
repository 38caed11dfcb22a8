//! Times with their units, as operators write them.

/// Reads `350ms`, `1.5 s`, `10m`, `2h` or `1d` as milliseconds.
#[must_use]
pub fn parse_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let unit_ms: u64 = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let whole_ms = whole.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    if part.is_empty() {
        return (!digits.ends_with('.')).then_some(whole_ms);
    }
    let scale = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    let part_ms = part.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    // Less than a millisecond cannot be said.
    (part_ms % scale == 0).then_some(())?;
    whole_ms.checked_add(part_ms / scale)
}

/// Milliseconds in the largest unit that says them exactly; the reverse of reading.
#[must_use]
pub fn ms_text(ms: u32) -> String {
    match ms {
        0 => "0s".into(),
        ms if ms % 86_400_000 == 0 => format!("{}d", ms / 86_400_000),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_number_and_a_unit() {
        for (text, ms) in [("350ms", 350), ("1.5 s", 1_500), ("10m", 600_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(parse_ms(text), Some(ms), "{text}");
        }
        for text in
            ["", "5", "ms", "5 parsecs", "-1s", "1.s", ".5s", "1..5s", "0.5ms", "99999999999999999d", "é"]
        {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for ms in [0, 1, 350, 1_000, 1_500, 60_000, 90_000, 3_600_000, 86_400_000, u32::MAX] {
            assert_eq!(parse_ms(&ms_text(ms)), Some(ms.into()), "{ms}");
        }
    }
}
