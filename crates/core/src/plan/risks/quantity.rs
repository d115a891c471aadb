//! Kubernetes quantities, exactly.

use serde_json::Value;

/// A quantity in units of 10⁻⁹, rounded up as Kubernetes does. Nothing where it is none, or beyond
/// everything that exists.
pub fn parse(text: &str) -> Option<i128> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // A fraction this long is nobody's, and more digits than that do not fit.
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 {
        return None;
    }
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (numerator, denominator) = scale(suffix)?;
    let product = digits.checked_mul(numerator)?.checked_mul(sign)?;
    let divisor = divisor.checked_mul(denominator)?;
    // Away from zero, never to less than was asked.
    let away = if product % divisor == 0 { 0 } else { sign };
    (product / divisor).checked_add(away)
}

/// A suffix as a fraction of units of 10⁻⁹.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let nano = 1_000_000_000_i128;
    let binary = |power: u32| Some((1024_i128.checked_pow(power)?.checked_mul(nano)?, 1));
    let decimal = |power: i32| {
        let by = 10_i128.checked_pow(power.unsigned_abs())?;
        if power < 0 {
            Some((nano, by))
        } else {
            Some((nano.checked_mul(by)?, 1))
        }
    };
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        other => decimal(other.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

/// A quantity as JSON has it: text, or a number that somebody left unquoted.
pub fn of(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A quantity as people write it: `1500m`, `512Mi`, `3`.
pub fn human(amount: i128, bytes: bool) -> String {
    let nano = 1_000_000_000_i128;
    if amount % nano != 0 {
        return if amount % 1_000_000 == 0 {
            format!("{}m", amount / 1_000_000)
        } else {
            format!("{amount}n")
        };
    }
    let whole = amount / nano;
    if bytes && whole != 0 {
        for (power, suffix) in [(30, "Gi"), (20, "Mi"), (10, "Ki")] {
            if whole % (1_i128 << power) == 0 {
                return format!("{}{suffix}", whole >> power);
            }
        }
    }
    whole.to_string()
}
