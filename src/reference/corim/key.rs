//! How a measurement of ours is named: component, variant, register, class and place, in one text.
//!
//! `component/variant`, then `/register/class#place` for a row of an ordered set and `~place` for
//! one of a set without order. In names `%`, `/`, `#` and `~` stand as `%xx`.

/// What a text key says, where it is one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// Register values of a variant.
    Registers { component: String, variant: String },
    /// The rule of a register of a component.
    Rule { component: String, register: u32 },
    /// A quirk that the profile lives with.
    Quirk { name: String },
    /// One row.
    Row { component: String, variant: String, register: u32, class: String, ordered: bool, at: u32 },
}

impl Key {
    pub fn parse(text: &str) -> Option<Key> {
        let parts: Vec<&str> = text.split('/').collect();
        Some(match parts.as_slice() {
            [component, variant] => {
                Key::Registers { component: plain(component)?, variant: plain(variant)? }
            }
            ["", "", "quirk", name] => Key::Quirk { name: plain(name)? },
            [component, "", "rule", register] => {
                Key::Rule { component: plain(component)?, register: register.parse().ok()? }
            }
            [component, variant, register, row] => {
                let ordered = row.contains('#');
                let (class, at) = row.split_once(if ordered { '#' } else { '~' })?;
                Key::Row {
                    component: plain(component)?,
                    variant: plain(variant)?,
                    register: register.parse().ok()?,
                    class: plain(class)?,
                    ordered,
                    at: at.parse().ok()?,
                }
            }
            _ => return None,
        })
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Registers { component, variant } => {
                write!(f, "{}/{}", escaped(component), escaped(variant))
            }
            Key::Rule { component, register } => {
                write!(f, "{}//rule/{register}", escaped(component))
            }
            Key::Quirk { name } => write!(f, "//quirk/{}", escaped(name)),
            Key::Row { component, variant, register, class, ordered, at } => {
                let mark = if *ordered { '#' } else { '~' };
                let (component, variant) = (escaped(component), escaped(variant));
                write!(f, "{component}/{variant}/{register}/{}{mark}{at}", escaped(class))
            }
        }
    }
}

fn escaped(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '%' => out.push_str("%25"),
            '/' => out.push_str("%2f"),
            '#' => out.push_str("%23"),
            '~' => out.push_str("%7e"),
            c => out.push(c),
        }
    }
    out
}

/// Nothing for a name that [`escaped`] does not write.
fn plain(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        out.push(match after.get(..2)? {
            "25" => '%',
            "2f" => '/',
            "23" => '#',
            "7e" => '~',
            _ => return None,
        });
        rest = after.get(2..)?;
    }
    out.push_str(rest);
    (!out.is_empty() && escaped(&out) == text).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written_whatever_the_names() {
        let name = || "a/b%c#d~e é".to_owned();
        for key in [
            Key::Registers { component: name(), variant: name() },
            Key::Rule { component: name(), register: 4 },
            Key::Quirk { name: name() },
            Key::Row {
                component: name(),
                variant: name(),
                register: 23,
                class: name(),
                ordered: true,
                at: 7,
            },
            Key::Row {
                component: name(),
                variant: name(),
                register: 0,
                class: name(),
                ordered: false,
                at: 0,
            },
        ] {
            assert_eq!(Key::parse(&key.to_string()), Some(key.clone()), "{key}");
        }
        for other in
            ["", "a", "a/", "/b", "a/b/c", "a/b/4/x", "a/b%2F", "a/b%", "a/b/c/d#1", "a/b/1/d#x"]
        {
            assert_eq!(Key::parse(other), None, "{other}");
        }
    }
}
