//! DER as it is written by hand: whatever contents a case asks for, right or wrong.

pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = contents.len().to_be_bytes();
    let start = length.iter().position(|&byte| byte != 0).unwrap_or(7);
    let digits = &length[start..];
    let head = match digits {
        [short] if *short < 0x80 => vec![tag, *short],
        long => [&[tag, 0x80 | u8::try_from(long.len()).unwrap()], long].concat(),
    };
    [head, contents].concat()
}

/// The same element with its length in a byte more than need be.
pub fn longer(element: &[u8]) -> Vec<u8> {
    let (tag, first, rest) = (element[0], element[1], &element[2..]);
    match first {
        0..=0x7f => [&[tag, 0x81, first], rest].concat(),
        long => [&[tag, long + 1, 0], rest].concat(),
    }
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

/// In the order given, which is not the order of DER.
pub fn set(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x31, parts)
}

/// Contents as they are.
pub fn integer(contents: &[u8]) -> Vec<u8> {
    tlv(2, &[contents])
}

/// A number of any size.
pub fn unsigned(number: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if number.first().is_some_and(|&byte| byte >= 0x80) { &[0] } else { &[] };
    tlv(2, &[sign, number])
}

pub fn boolean(value: bool) -> Vec<u8> {
    tlv(1, &[&[if value { 0xff } else { 0 }]])
}

pub fn bits(unused: u8, contents: &[u8]) -> Vec<u8> {
    tlv(3, &[&[unused], contents])
}

pub fn octets(contents: &[u8]) -> Vec<u8> {
    tlv(4, &[contents])
}

pub fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut contents = vec![u8::try_from(arcs[0] * 40 + arcs[1]).unwrap()];
    for &arc in &arcs[2..] {
        let digits = (0..10).map(|place| u8::try_from(arc >> (7 * place) & 0x7f).unwrap());
        let digits: Vec<u8> = digits.collect();
        let last = digits.iter().rposition(|&digit| digit != 0).unwrap_or(0);
        contents.extend(digits[1..=last].iter().rev().map(|digit| digit | 0x80));
        contents.push(digits[0]);
    }
    tlv(6, &[&contents])
}

pub fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, &[text.as_bytes()])
}

pub fn printable(text: &str) -> Vec<u8> {
    tlv(0x13, &[text.as_bytes()])
}

pub fn utc_time(text: &str) -> Vec<u8> {
    tlv(0x17, &[text.as_bytes()])
}

pub fn generalized_time(text: &str) -> Vec<u8> {
    tlv(0x18, &[text.as_bytes()])
}

/// Where the BIT STRING of a SubjectPublicKeyInfo of RSA says how many bits are unused.
pub fn place_of_unused_bits(spki: &[u8]) -> Option<usize> {
    // SEQUENCE with two bytes of length, the AlgorithmIdentifier, BIT STRING with two bytes.
    let algorithm = 4 + 2 + usize::from(*spki.get(5)?);
    (spki.get(algorithm) == Some(&3)).then_some(algorithm + 4)
}

pub fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}
