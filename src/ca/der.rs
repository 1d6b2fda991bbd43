//! The little of DER that is written here by hand.

/// Tag, shortest length, contents (X.690 section 10.1). `tag` is one octet.
pub fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let short: Vec<u8> = length.into_iter().skip_while(|&byte| byte == 0).collect();
    let mut out = Vec::with_capacity(contents.len() + 10);
    out.push(tag);
    match short.as_slice() {
        [] => out.push(0),
        &[one] if one < 0x80 => out.push(one),
        long => {
            // A usize has at most 8 bytes.
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(contents);
    out
}

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OBJECT_IDENTIFIER: u8 = 0x06;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;
pub const SEQUENCE: u8 = 0x30;
/// AlgorithmIdentifier { ecdsa-with-SHA256 }, RFC 5758 section 3.2
pub const ECDSA_WITH_SHA256: &[u8] =
    &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_the_shortest() {
        let head = |length: usize| {
            let all = tlv(4, &vec![7; length]);
            hex::encode(all.get(..all.len() - length).unwrap_or_default())
        };
        assert_eq!(head(0), "0400");
        assert_eq!(head(127), "047f");
        assert_eq!(head(128), "048180");
        assert_eq!(head(255), "0481ff");
        assert_eq!(head(256), "04820100");
    }
}
