//! So many in all, and a quarter of them for one user: who takes all he can get shuts out himself
//! and nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Places that are given out and come back.
#[derive(Debug)]
pub struct Places {
    most: usize,
    taken: Mutex<BTreeMap<u32, usize>>,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    uid: u32,
}

impl Places {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    pub fn take(places: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&uid).copied().unwrap_or(0);
        if all >= places.most || own >= places.most / 4 {
            return None;
        }
        taken.insert(uid, own + 1);
        Some(Place { places: Arc::clone(places), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_user_has_a_quarter_of_the_places_and_gives_them_back() {
        let places = Places::new(8);
        let first = Places::take(&places, 1).unwrap();
        let _second = Places::take(&places, 1).unwrap();
        assert!(Places::take(&places, 1).is_none());
        assert!(Places::take(&places, 2).is_some());
        drop(first);
        assert!(Places::take(&places, 1).is_some());
    }

    #[test]
    fn all_users_together_have_all_places() {
        let places = Places::new(4);
        let _taken: Vec<_> = (0..4).map(|uid| Places::take(&places, uid).unwrap()).collect();
        assert!(Places::take(&places, 4).is_none());
    }
}
