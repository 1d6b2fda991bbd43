//! JWT-SVIDs that were issued already: a bounded memory, given out again until half of their life
//! is over, and for the other half where the server is not within reach.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;

use assay_evidence::time::Time;

use crate::agent::identities::Slot;
use crate::spiffe::JwtSvid;

const MOST_KEPT: usize = 1_000;

/// Whose token, at which revision of the entry, for which audiences (sorted, each once).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenSlot {
    pub slot: Slot,
    pub revision: i64,
    pub audience: Vec<String>,
}

/// A token and how much of it is left.
#[derive(Debug, Clone)]
pub enum Kept {
    /// In the first half of its life.
    Fresh(JwtSvid),
    /// Still valid: better than nothing.
    Usable(JwtSvid),
}

#[derive(Default)]
pub struct Tokens(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    /// The number says when it was last asked for.
    tokens: BTreeMap<TokenSlot, (JwtSvid, u64)>,
    asked: u64,
}

impl Tokens {
    pub fn recall(&self, slot: &TokenSlot, now: Time) -> Option<Kept> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.asked += 1;
        let count = memory.asked;
        let (token, asked) = memory.tokens.get_mut(slot)?;
        *asked = count;
        let half = token.issued_at + token.expires_at.since(token.issued_at) / 2;
        match token {
            // A clock set back makes a token look younger than it is; its end still holds.
            token if now < half => Some(Kept::Fresh(token.clone())),
            token if now < token.expires_at => Some(Kept::Usable(token.clone())),
            _ => {
                memory.tokens.remove(slot);
                None
            }
        }
    }

    pub fn keep(&self, slot: TokenSlot, token: JwtSvid) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.tokens.len() >= MOST_KEPT && !memory.tokens.contains_key(&slot) {
            let oldest = memory.tokens.iter().min_by_key(|(_, (_, asked))| *asked);
            if let Some(oldest) = oldest.map(|(slot, _)| slot.clone()) {
                memory.tokens.remove(&oldest);
            }
        }
        let asked = memory.asked;
        memory.tokens.insert(slot, (token, asked));
    }

    /// Nothing issued so far is given out any more.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).tokens.clear();
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(..)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::identities::Whose;
    use crate::spiffe::EntryId;
    use crate::spiffe::SpiffeId;

    fn slot(audience: &str) -> TokenSlot {
        let entry = EntryId::parse("e").unwrap();
        let slot = Slot { entry, instance: Whose::Shared };
        TokenSlot { slot, revision: 1, audience: vec![audience.to_owned()] }
    }

    fn token() -> JwtSvid {
        JwtSvid {
            id: SpiffeId::parse("spiffe://example.org/web").unwrap(),
            token: "t".to_owned(),
            issued_at: Time::from_unix_s(1_000),
            expires_at: Time::from_unix_s(1_300),
            hint: String::new(),
        }
    }

    #[test]
    fn a_token_is_fresh_to_half_life_usable_to_its_end_and_then_gone() {
        let tokens = Tokens::default();
        tokens.keep(slot("a"), token());
        let at = |s| tokens.recall(&slot("a"), Time::from_unix_s(s));
        assert!(matches!(at(1_149), Some(Kept::Fresh(_))));
        assert!(matches!(at(1_150), Some(Kept::Usable(_))));
        assert!(matches!(at(1_299), Some(Kept::Usable(_))));
        assert!(at(1_300).is_none());
        assert!(at(1_000).is_none(), "it is not only hidden");
    }

    #[test]
    fn another_audience_is_another_token() {
        let tokens = Tokens::default();
        tokens.keep(slot("a"), token());
        assert!(tokens.recall(&slot("b"), Time::from_unix_s(1_000)).is_none());
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_asked_for() {
        let tokens = Tokens::default();
        let now = Time::from_unix_s(1_000);
        for n in 0..2 * MOST_KEPT {
            tokens.recall(&slot("0"), now);
            tokens.keep(slot(&n.to_string()), token());
        }
        assert_eq!(tokens.0.lock().unwrap().tokens.len(), MOST_KEPT);
        assert!(tokens.recall(&slot("0"), now).is_some());
        assert!(tokens.recall(&slot("1"), now).is_none());
    }
}
