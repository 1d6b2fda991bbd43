//! Whose request is next: one at a time, by rank and then in the order of coming.
//!
//! The rank of a source's request is how many of its requests are before this one, so that whoever
//! asks for much waits behind everybody who asks for little.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::oneshot;

#[derive(Debug, Default)]
pub(super) struct Line(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    busy: bool,
    came: u64,
    by_rank: BTreeMap<(u32, u64), oneshot::Sender<Place>>,
}

/// The one place at the counter; the next in line has it when this one is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Mutex<Waiting>>);

impl Line {
    pub async fn place(&self, rank: u32) -> Place {
        loop {
            let heard = {
                let mut waiting = locked(&self.0);
                if !waiting.busy {
                    waiting.busy = true;
                    return Place(Arc::clone(&self.0));
                }
                let (tell, heard) = oneshot::channel();
                waiting.came = waiting.came.saturating_add(1);
                let came = waiting.came;
                waiting.by_rank.insert((rank, came), tell);
                heard
            };
            if let Ok(place) = heard.await {
                return place;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = {
            let mut waiting = locked(&self.0);
            let next = waiting.by_rank.pop_first();
            waiting.busy = next.is_some();
            next
        };
        // Whoever gave up gives the place back by dropping it, and so it goes on to the next.
        if let Some((_, tell)) = next {
            let _ = tell.send(Place(Arc::clone(&self.0)));
        }
    }
}

/// Each step leaves the line whole, so a panic elsewhere spoils nothing.
fn locked(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_lower_rank_is_next_and_within_it_who_came_first() {
        let line = Arc::new(Line::default());
        let first = line.place(9).await;
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for (rank, name) in [(2, "c"), (1, "a"), (3, "d"), (1, "b")] {
            let (own_line, own_served) = (line.clone(), served.clone());
            waiting.push(tokio::spawn(async move {
                let place = own_line.place(rank).await;
                own_served.lock().unwrap().push(name);
                drop(place);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*served.lock().unwrap(), ["a", "b", "c", "d"]);
    }

    #[tokio::test]
    async fn who_gave_up_is_passed_over() {
        let line = Arc::new(Line::default());
        let first = line.place(0).await;
        let own = line.clone();
        let gone = tokio::spawn(async move { own.place(0).await });
        let own = line.clone();
        let stays = tokio::spawn(async move { drop(own.place(1).await) });
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.is_err());
        drop(first);
        stays.await.unwrap();
        drop(line.place(0).await);
    }
}
