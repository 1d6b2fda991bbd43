//! One thread per device, and the bounded queue before it.
//!
//! A device does one thing at a time and may need half a second for it. So requests wait in order
//! of their urgency, each until its own deadline; one that could not be served in time is refused
//! when it comes, with the time after which to ask again. Nothing is ever signed elsewhere because
//! the device is slow.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::keys::KeyName;
use crate::keys::KeysError;
use crate::keys::capacity::Capacity;

/// What holds the keys. Two kinds: a TPM, and the memory of this process.
pub trait Signer: Send + 'static {
    /// ECDSA over SHA-256 of `message`, in DER.
    fn sign(&mut self, key: KeyName, message: &[u8]) -> Result<Vec<u8>, KeysError>;
}

/// What is signed first. Later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// An identity that nobody has yet.
    New,
    /// One that is about to end.
    Renewal,
    /// What keeps the authority itself alive, or takes trust away.
    Authority,
}

pub struct Queue {
    shared: Arc<Shared>,
    owner: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    capacity: Capacity,
}

struct State {
    waiting: BinaryHeap<Job>,
    arrivals: u64,
    open: bool,
}

struct Job {
    urgency: Urgency,
    arrival: u64,
    deadline: Instant,
    key: KeyName,
    message: Vec<u8>,
    answer: oneshot::Sender<Result<Vec<u8>, KeysError>>,
}

impl Queue {
    /// Starts the thread that owns `signer`; it ends with the queue.
    pub fn start(mut signer: impl Signer, capacity: Capacity) -> Result<Self, KeysError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { waiting: BinaryHeap::new(), arrivals: 0, open: true }),
            wake: Condvar::new(),
            capacity,
        });
        let own = Arc::clone(&shared);
        let owner = thread::Builder::new()
            .name("issuing-keys".to_owned())
            .spawn(move || {
                while let Some(job) = own.next() {
                    if job.answer.is_closed() {
                        continue;
                    }
                    let result = if Instant::now() < job.deadline {
                        signer.sign(job.key, &job.message)
                    } else {
                        Err(KeysError::Late)
                    };
                    // A caller that left meanwhile needs no answer.
                    let _ = job.answer.send(result);
                }
            })
            .map_err(KeysError::Thread)?;
        Ok(Self { shared, owner: Some(owner) })
    }

    pub fn capacity(&self) -> Capacity {
        self.shared.capacity
    }

    /// Waits for one signature, at most `within`.
    pub async fn sign(
        &self,
        key: KeyName,
        message: Vec<u8>,
        urgency: Urgency,
        within: Duration,
    ) -> Result<Vec<u8>, KeysError> {
        let (answer, waiting) = oneshot::channel();
        let deadline = Instant::now() + within;
        self.shared.join(Job { urgency, arrival: 0, deadline, key, message, answer }, within)?;
        match tokio::time::timeout(within, waiting).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(KeysError::Closed),
            Err(_) => Err(KeysError::Late),
        }
    }
}

impl Drop for Queue {
    /// What waits is let go; the signature in the device is waited for.
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.open = false;
            state.waiting.clear();
        }
        self.shared.wake.notify_all();
        if let Some(owner) = self.owner.take() {
            // A panic of the owner has been printed; there is nobody left to tell.
            let _ = owner.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, mut job: Job, within: Duration) -> Result<(), KeysError> {
        let mut state = self.lock();
        if !state.open {
            return Err(KeysError::Closed);
        }
        // Those whose callers left do not count, and are dropped where room is needed.
        if state.waiting.len() >= MAX_WAITING {
            state.waiting.retain(|job| !job.answer.is_closed());
        }
        let ahead = state
            .waiting
            .iter()
            .filter(|other| other.urgency >= job.urgency && !other.answer.is_closed())
            .count();
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        let until_signed = self.capacity.p95().saturating_mul(ahead.saturating_add(1));
        if state.waiting.len() >= MAX_WAITING || until_signed > within {
            return Err(KeysError::Busy { retry_after: until_signed.max(MIN_RETRY) });
        }
        job.arrival = state.arrivals;
        state.arrivals += 1;
        state.waiting.push(job);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if !state.open {
                return None;
            }
            if let Some(job) = state.waiting.pop() {
                return Some(job);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The more urgent first, and among equals the earlier.
impl Ord for Job {
    fn cmp(&self, other: &Self) -> Ordering {
        self.urgency.cmp(&other.urgency).then(other.arrival.cmp(&self.arrival))
    }
}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Job {}

/// A promise of docs/reference/limits.md.
const MAX_WAITING: usize = 1_024;
const MIN_RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    /// A device that is as slow as a real one, or waits to be let go on.
    struct Slow {
        gate: mpsc::Receiver<()>,
        order: mpsc::Sender<Vec<u8>>,
    }

    impl Signer for Slow {
        fn sign(&mut self, _: KeyName, message: &[u8]) -> Result<Vec<u8>, KeysError> {
            self.gate.recv().map_err(|_| KeysError::Closed)?;
            self.order.send(message.to_vec()).unwrap();
            Ok(message.to_vec())
        }
    }

    fn slow(p95_ms: u64) -> (Arc<Queue>, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let (let_go, gate) = mpsc::channel();
        let (order, signed) = mpsc::channel();
        let text = format!(r#"{{"median_us":1,"p95_us":{}}}"#, p95_ms * 1_000);
        let capacity = serde_json::from_str(&text).unwrap();
        (Arc::new(Queue::start(Slow { gate, order }, capacity).unwrap()), let_go, signed)
    }

    fn ask(
        queue: &Arc<Queue>,
        name: u8,
        urgency: Urgency,
    ) -> tokio::task::JoinHandle<Result<Vec<u8>, KeysError>> {
        let queue = Arc::clone(queue);
        tokio::spawn(async move {
            queue.sign(KeyName::X509, vec![name], urgency, Duration::from_secs(20)).await
        })
    }

    #[tokio::test]
    async fn the_urgent_go_first_and_equals_in_order() {
        let (queue, let_go, signed) = slow(1);
        let mut asked = vec![ask(&queue, 0, Urgency::New)];
        while !queue.shared.lock().waiting.is_empty() || queue.shared.lock().arrivals == 0 {
            tokio::task::yield_now().await;
        }
        for (name, urgency) in [
            (1, Urgency::New),
            (2, Urgency::New),
            (3, Urgency::Renewal),
            (4, Urgency::Authority),
            (5, Urgency::Renewal),
        ] {
            asked.push(ask(&queue, name, urgency));
            while queue.shared.lock().arrivals <= u64::from(name) {
                tokio::task::yield_now().await;
            }
        }
        for _ in 0..6 {
            let_go.send(()).unwrap();
        }
        for one in asked {
            one.await.unwrap().unwrap();
        }
        let order: Vec<u8> = signed.try_iter().flatten().collect();
        assert_eq!(order, [0, 4, 3, 5, 1, 2]);
    }

    #[tokio::test]
    async fn what_could_not_be_served_in_time_is_refused_at_once() {
        let (queue, _let_go, _signed) = slow(400);
        let sign = |within| queue.sign(KeyName::X509, vec![0], Urgency::New, within);
        let refused = sign(Duration::from_millis(300)).await.unwrap_err();
        assert!(
            matches!(refused, KeysError::Busy { retry_after } if retry_after.as_millis() == 400)
        );
        let late = sign(Duration::from_millis(410)).await.unwrap_err();
        assert!(matches!(late, KeysError::Late));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_lets_go_of_callers_that_left() {
        let (queue, _let_go, _signed) = slow(0);
        let join = |queue: &Queue| {
            let (answer, waiting) = oneshot::channel();
            let within = Duration::from_secs(20);
            let job = Job {
                urgency: Urgency::New,
                arrival: 0,
                deadline: Instant::now() + within,
                key: KeyName::Jwt,
                message: Vec::new(),
                answer,
            };
            queue.shared.join(job, within).map(|()| waiting)
        };
        let mut waiting = Vec::new();
        let refused = loop {
            match join(&queue) {
                Ok(one) => waiting.push(one),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, KeysError::Busy { .. }));
        assert!((MAX_WAITING..=MAX_WAITING + 1).contains(&waiting.len()));
        waiting.truncate(10);
        assert!(join(&queue).is_ok());
    }

    #[tokio::test]
    async fn a_closed_queue_answers_those_who_wait() {
        let (queue, let_go, _signed) = slow(1);
        let asked = ask(&queue, 0, Urgency::New);
        while queue.shared.lock().arrivals == 0 {
            tokio::task::yield_now().await;
        }
        drop(let_go);
        assert!(matches!(asked.await.unwrap(), Err(KeysError::Closed)));
    }
}
