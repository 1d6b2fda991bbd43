//! When two distinguished names are one name.
//!
//! STMicroelectronics signs intermediates whose issuer is written as UTF8String below a root that
//! writes the same name as PrintableString, and Nuvoton writes sets that are not in the order of
//! DER, which another encoder would sort. RFC 5280 §7.1 has such names match. So two names are one
//! when they differ in nothing but the kind of string that a value is written in and the order
//! within a relative name. Case and blanks are not folded: no genuine chain needs it.
//!
//! A name only proposes an issuer; whether that key signed is another question.

use crate::der;

/// `one` and `two` are Names in DER, tag and length included.
pub fn same_name(one: &[u8], two: &[u8]) -> bool {
    one == two || (one.len() == two.len() && same_elements(one, two, DEPTH))
}

fn same_elements(mut one: &[u8], mut two: &[u8], depth: u32) -> bool {
    while !one.is_empty() && !two.is_empty() {
        let (Some(left), Some(right)) = (der::take(&mut one), der::take(&mut two)) else {
            return false;
        };
        let constructed = left.tag & CONSTRUCTED != 0;
        let same = if left.tag == SET && right.tag == SET && depth > 0 {
            same_members(left.contents, right.contents, depth - 1)
        } else if constructed && depth > 0 {
            left.tag == right.tag && same_elements(left.contents, right.contents, depth - 1)
        } else {
            let kind = |tag: u8| if tag == PRINTABLE_STRING { UTF8_STRING } else { tag };
            kind(left.tag) == kind(right.tag) && left.contents == right.contents
        };
        if !same {
            return false;
        }
    }
    one.is_empty() && two.is_empty()
}

/// Each of the one has its own counterpart in the other, wherever it stands. Sets of more members
/// than any name has are compared in the order they came.
fn same_members(one: &[u8], two: &[u8], depth: u32) -> bool {
    let (Some(one_by_one), Some(mut left_over)) = (members(one), members(two)) else {
        return same_elements(one, two, depth);
    };
    let all_found = one_by_one.iter().all(|member| {
        let place = left_over.iter().position(|other| same_elements(member, other, depth));
        place.map(|place| left_over.swap_remove(place)).is_some()
    });
    all_found && left_over.is_empty()
}

fn members(mut set: &[u8]) -> Option<Vec<&[u8]>> {
    let mut all = Vec::new();
    while !set.is_empty() {
        if all.len() >= MAX_MEMBERS {
            return None;
        }
        all.push(der::take(&mut set)?.whole);
    }
    Some(all)
}

const MAX_MEMBERS: usize = 8;
/// Name, relative name, attribute; its type and value are no deeper.
const DEPTH: u32 = 3;
const CONSTRUCTED: u8 = 0x20;
const SET: u8 = 0x31;
/// X.680 §8.4. Every text of a PrintableString is the same bytes in UTF-8.
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der::element;

    fn name(kind: u8, text: &str) -> Vec<u8> {
        let common_name = element(0x06, &[0x55, 0x04, 0x03]);
        let value = element(kind, text.as_bytes());
        let attribute = element(0x30, &[common_name, value].concat());
        element(0x30, &element(0x31, &attribute))
    }

    #[test]
    fn the_kind_of_string_makes_no_other_name() {
        assert!(same_name(&name(0x13, "Root 01"), &name(0x0c, "Root 01")));
        assert!(same_name(&name(0x0c, "Root 01"), &name(0x0c, "Root 01")));
    }

    #[test]
    fn the_order_within_a_relative_name_makes_no_other_name() {
        let attribute = |last: u8, text: &str| {
            let kind = element(0x06, &[0x55, 0x04, last]);
            element(0x30, &[kind, element(0x0c, text.as_bytes())].concat())
        };
        let (country, organisation) = (attribute(6, "TW"), attribute(10, "N"));
        let relative = |parts: &[&[u8]]| element(0x31, &parts.concat());
        let name = |parts: &[Vec<u8>]| element(0x30, &parts.concat());
        let ordered = name(&[relative(&[&country, &organisation])]);
        assert!(same_name(&ordered, &name(&[relative(&[&organisation, &country])])));
        // Twice the one and never the other; one after the other; another text.
        assert!(!same_name(
            &name(&[relative(&[&country, &country, &organisation])]),
            &name(&[relative(&[&country, &organisation, &organisation])])
        ));
        let two = |first: &[u8], second: &[u8]| name(&[relative(&[first]), relative(&[second])]);
        assert!(!same_name(&two(&country, &organisation), &two(&organisation, &country)));
        let other = attribute(10, "M");
        assert!(!same_name(&ordered, &name(&[relative(&[&other, &country])])));
    }

    #[test]
    fn any_other_difference_does() {
        let root = name(0x13, "Root 01");
        assert!(!same_name(&root, &name(0x13, "Root 02")));
        assert!(!same_name(&root, &name(0x0c, "root 01")));
        // IA5String and OCTET STRING are no such strings.
        assert!(!same_name(&root, &name(0x16, "Root 01")));
        assert!(!same_name(&root, &name(0x04, "Root 01")));
        assert!(!same_name(&root, &name(0x13, "Root 0")));
        for index in 0..root.len() {
            for bit in 0..8 {
                let mut other = name(0x0c, "Root 01");
                other[index] ^= 1 << bit;
                // 0x0c and 0x13 differ in more than one bit, so no flip gives the name again.
                assert!(!same_name(&root, &other), "byte {index}, bit {bit}");
            }
        }
    }

    #[test]
    fn rubbish_is_no_name_but_its_own() {
        assert!(same_name(&[0x30], &[0x30]));
        assert!(!same_name(&[0x30, 5, 1], &[0x30, 5, 2]));
        assert!(!same_name(&[], &[0x30]));
        let deep = |text: u8| (0..64).fold(vec![text], |inner, _| element(0x30, &inner));
        assert!(!same_name(&deep(1), &deep(2)));
    }
}
