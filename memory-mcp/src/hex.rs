//! Bytes as people write them.

/// 32 bytes of 64 hexadecimal digits; `None` of anything else.
pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Two digits a byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_64_digits_are_32_bytes() {
        assert_eq!(from_hex(&"0f".repeat(32)), Some([15; 32]));
        assert_eq!(to_hex(&[15; 32]), "0f".repeat(32));
        for text in ["", "0f", &"0g".repeat(32), &"+1".repeat(32), &"é".repeat(32), &"0f".repeat(33)] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
