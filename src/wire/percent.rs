//! Percent-encoding of URLs (RFC 3986 2.1), both ways. No state.

/// How a byte was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Plain,
    Coded,
}

/// Decodes `text`. A percent sign without two hexadecimal digits stands for itself.
pub fn decoded(text: &[u8]) -> impl Iterator<Item = (u8, Written)> {
    let digit = |at: usize| text.get(at).and_then(|&byte| (byte as char).to_digit(16));
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *text.get(at)?;
        let code = if byte == b'%' { digit(at + 1).zip(digit(at + 2)) } else { None };
        Some(match code {
            Some((high, low)) => {
                at += 3;
                ((high * 16 + low) as u8, Written::Coded)
            }
            None => {
                at += 1;
                (byte, Written::Plain)
            }
        })
    })
}

/// The decoded bytes in a new buffer.
pub fn plain(text: &[u8]) -> Vec<u8> {
    decoded(text).map(|(byte, _)| byte).collect()
}

/// Appends `text`, encoded for use in a query: only unreserved characters (RFC 3986 2.3) stay as they are.
pub fn encode(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte);
        } else {
            let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_whole_codes_are_codes() {
        assert_eq!(plain(b"a%20b%2Fc%2f"), b"a b/c/");
        assert_eq!(plain(b"100%"), b"100%");
        assert_eq!(plain(b"%2%zz%%41"), b"%2%zz%A");
        assert_eq!(decoded(b"a%41").map(|(_, written)| written).collect::<Vec<_>>(), [Written::Plain, Written::Coded]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(text: Vec<u8>) {
            let mut code = Vec::new();
            encode(&mut code, &text);
            prop_assert!(code.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte)));
            prop_assert_eq!(plain(&code), text);
        }
    }
}
