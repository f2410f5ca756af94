//! `Content-Length` without an allocation.

use http::HeaderValue;

const DIGITS: usize = 3;
const END: usize = 10_usize.pow(DIGITS as u32);

/// The decimal digits of each number, so that a short body's length is a borrowed `HeaderValue`. Making one
/// from a number takes two allocations.
static NUMBERS: [[u8; DIGITS]; END] = {
    let mut numbers = [[b'0'; DIGITS]; END];
    let mut number = 0;
    while number < END {
        let (mut rest, mut digit) = (number, DIGITS);
        while digit > 0 {
            digit -= 1;
            numbers[number][digit] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        number += 1;
    }
    numbers
};

pub(super) fn content_length(length: usize) -> HeaderValue {
    let zeros = match length {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    match NUMBERS
        .get(length)
        .map(|digits| str::from_utf8(&digits[zeros..]))
    {
        Some(Ok(digits)) => HeaderValue::from_static(digits),
        _ => HeaderValue::from(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_written_in_decimal() {
        for length in 0..2 * END {
            assert_eq!(content_length(length), length.to_string());
        }
    }
}
