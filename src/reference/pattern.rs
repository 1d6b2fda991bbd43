//! Globs over short texts: `*` any text, `?` any character, everything else itself.

/// Linear but for one remembered star, so no pattern is slow.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0_usize, 0_usize);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p = p.saturating_add(1);
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                (p, t) = (p.saturating_add(1), t.saturating_add(1));
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken.saturating_add(1)));
                (p, t) = (at.saturating_add(1), taken.saturating_add(1));
            }
        }
    }
    pattern.get(p..).unwrap_or(&[]).iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_texts_and_characters() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("init=*", "init=/x"),
            ("N3VET*", "N3VET59W"),
            ("a?c*e", "abcde"),
            ("**b*", "aab"),
            ("a*b*c", "aXbYbZc"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("init=*", "xinit=/x"),
            ("a?c", "ac"),
            ("a*b", "abc"),
            ("A", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(200), &"a".repeat(150)));
    }
}
