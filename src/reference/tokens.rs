//! Rules for the kernel's command line, word by word.
//!
//! The line counts only where its digest was measured into a register that replays to the quote:
//! the text comes as the log's own, where the digest binds it, or from the agent, where its hash
//! equals a measured digest. Nobody's word is taken for it.

use crate::reference::ProfileError;
use crate::reference::fields::Fields;
use crate::reference::pattern;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    pub line: usize,
    /// Words that must be there, as they are.
    pub require: Vec<String>,
    /// Globs that no word may match.
    pub forbid: Vec<String>,
    /// Keys whose value may be another on each host; it is recorded.
    pub per_host: Vec<String>,
    /// If given, words beside `require` and `per_host` must match one of these globs.
    pub allow: Option<Vec<String>>,
}

/// A word that breaks a rule, and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub found: String,
    pub expected: String,
}

impl Tokens {
    pub(super) fn from_fields(mut fields: Fields) -> Result<Self, ProfileError> {
        let tokens = Self {
            line: fields.line,
            require: fields.texts("require")?.unwrap_or_default(),
            forbid: fields.texts("forbid")?.unwrap_or_default(),
            per_host: fields.texts("per_host")?.unwrap_or_default(),
            allow: fields.texts("allow")?,
        };
        fields.finish()?;
        Ok(tokens)
    }

    /// All that is wrong with a command line.
    pub fn broken(&self, command_line: &str) -> Vec<Broken> {
        let words = words(command_line);
        let mut broken = Vec::new();
        for required in &self.require {
            if !words.iter().any(|word| word == required) {
                let expected = format!("`{required}` in the command line");
                broken.push(Broken { found: "absent".to_owned(), expected });
            }
        }
        for word in &words {
            let plain = plain(word);
            let hit = |glob: &&String| {
                pattern::matches(glob, word) || pattern::matches(&self::plain(glob), &plain)
            };
            if let Some(glob) = self.forbid.iter().find(hit) {
                let expected = format!("no word like `{glob}`");
                broken.push(Broken { found: word.clone(), expected });
            } else if let Some(allowed) = &self.allow {
                let known = self.require.contains(word)
                    || self.per_host.iter().any(|key| key == key_of(word))
                    || allowed.iter().any(|glob| pattern::matches(glob, word));
                if !known {
                    let expected = "a word that `require`, `per_host` or `allow` names".to_owned();
                    broken.push(Broken { found: word.clone(), expected });
                }
            }
        }
        broken
    }

    /// Key and value of the words that vary from host to host.
    pub fn recorded(&self, command_line: &str) -> Vec<(String, String)> {
        words(command_line)
            .iter()
            .filter_map(|word| word.split_once('='))
            .filter(|(key, _)| self.per_host.iter().any(|name| name == key))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

/// As the kernel cuts it: blanks outside of double quotes.
fn words(command_line: &str) -> Vec<String> {
    let mut quoted = false;
    let mut words = vec![String::new()];
    for c in command_line.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => {
                words.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// As the kernel compares: `-` and `_` in a key are the same to it, and quotes are dropped.
fn plain(word: &str) -> String {
    let bare: String = word.chars().filter(|c| *c != '"').collect();
    match bare.split_once('=') {
        Some((key, value)) => format!("{}={value}", key.replace('-', "_")),
        None => bare.replace('-', "_"),
    }
}

fn key_of(word: &str) -> &str {
    word.split_once('=').map_or(word, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tokens(text: &str) -> Tokens {
        Tokens::from_fields(Fields::parse(text).unwrap().0).unwrap()
    }

    #[test]
    fn required_words_are_whole_words() {
        let rules = tokens("require = [\"ima_policy=tcb\"]");
        assert!(rules.broken("quiet ima_policy=tcb").is_empty());
        assert_eq!(rules.broken("ima_policy=tcb|x").len(), 1);
        assert_eq!(rules.broken("a=\"x ima_policy=tcb\"").len(), 1, "inside of quotes");
        assert_eq!(rules.broken("").len(), 1);
    }

    #[test]
    fn forbidden_and_unlisted_words_are_named() {
        let rules = tokens("forbid = [\"init=*\"]\nper_host = [\"root\"]\nallow = [\"quiet\"]");
        assert!(rules.broken("root=UUID=1 quiet").is_empty());
        assert_eq!(rules.broken("init=/bin/sh").first().unwrap().found, "init=/bin/sh");
        assert_eq!(rules.broken("roots=1").len(), 1);
        assert_eq!(rules.recorded("root=UUID=1 quiet"), [("root".into(), "UUID=1".into())]);
        let rules = tokens("forbid = [\"ima_appraise=log\", \"lockdown=none\"]");
        for word in
            ["ima_appraise=log", "ima-appraise=log", "\"lockdown=none\"", "lockdown=\"none\""]
        {
            assert_eq!(rules.broken(word).len(), 1, "{word}");
        }
    }
}
