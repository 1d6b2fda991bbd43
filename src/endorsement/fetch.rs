//! Fetching what the cache lacks: once for each subject however many ask, at each service's pace,
//! and kept only if it verifies.
//!
//! A flight is one subject being fetched. It runs to its end though everybody who waits for it has
//! given up: what is asked for is wanted soon again. What failed is not asked for again for a
//! while. Flights are bounded in number, over all and for each source, because they are started on
//! the word of evidence that nobody has verified yet; whoever asks for more waits behind those who
//! ask for less. What there can be only few of (a product's list, a renewal) is bounded by that, and
//! goes first: nobody keeps a server from its revocation lists by making chips up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use assay_evidence::Time;
use hyper::HeaderMap;
use hyper::header::RETRY_AFTER;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::endorsement::Cache;
use crate::endorsement::CacheError;
use crate::endorsement::Config;
use crate::endorsement::Counts;
use crate::endorsement::Entry;
use crate::endorsement::Subject;
use crate::endorsement::Unavailable;
use crate::endorsement::https::Answer;
use crate::endorsement::https::CaError;
use crate::endorsement::https::Client;
use crate::endorsement::service::BaseUrl;
use crate::endorsement::service::Pace;
use crate::endorsement::service::Service;
use crate::endorsement::vendor;
use crate::endorsement::vendor::Ask;
use crate::endorsement::vendor::Vendor;

type Outcome = Result<Arc<Entry>, Unavailable>;

/// Everything that is online.
pub(super) struct Fetcher {
    desk: Arc<Desk>,
    patience: Duration,
    after_failure: Duration,
    board: Arc<Mutex<Board>>,
    /// The flights themselves; they fall with this.
    tasks: Mutex<JoinSet<()>>,
}

/// What a flight works with.
struct Desk {
    cache: Arc<Cache>,
    clock: Clock,
    client: Client,
    amd: Option<Post>,
    intel: Option<Post>,
    counted: Counted,
}

struct Post {
    url: BaseUrl,
    pace: Pace,
}

/// Who is under way, and what failed lately.
#[derive(Default)]
struct Board {
    flights: HashMap<Subject, Flight>,
    failed: HashMap<Subject, (Instant, Unavailable)>,
}

/// Why something is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing is kept of it.
    First,
    /// What is kept is to be replaced by a newer one.
    Renewal,
}

struct Flight {
    /// Nobody's, where it is not counted.
    source: Option<String>,
    outcome: watch::Receiver<Option<Outcome>>,
}

#[derive(Default)]
pub(super) struct Counted {
    pub asked: AtomicU64,
    pub kept: AtomicU64,
    requests: [AtomicU64; 2],
    too_many: AtomicU64,
    unfit: AtomicU64,
    failed: AtomicU64,
}

impl Fetcher {
    pub fn new(config: &Config, cache: Arc<Cache>, clock: Clock) -> Result<Fetcher, CaError> {
        let services = [&config.amd, &config.intel];
        let tls = services.into_iter().flatten().any(|service| service.url.tls);
        let client = Client::new(tls, config.ca.as_deref(), config.request_within)?;
        let post = |service: &Option<Service>| {
            service
                .as_ref()
                .map(|service| Post { url: service.url.clone(), pace: Pace::new(service) })
        };
        let desk = Desk {
            cache,
            clock,
            client,
            amd: post(&config.amd),
            intel: post(&config.intel),
            counted: Counted::default(),
        };
        Ok(Fetcher {
            desk: Arc::new(desk),
            patience: config.patience,
            after_failure: config.after_failure,
            board: Arc::default(),
            tasks: Mutex::default(),
        })
    }

    pub fn counted(&self) -> &Counted {
        &self.desk.counted
    }

    /// Waits for the subject to be fetched, as long as a caller waits.
    pub async fn fetch(&self, subject: &Subject, source: &str, need: Need) -> Outcome {
        let mut outcome = self.start(subject, source, need)?;
        let landed = async {
            match outcome.wait_for(Option::is_some).await {
                Ok(landed) => landed.clone(),
                Err(_) => None,
            }
        };
        let (subject, within) = (subject.clone(), self.patience);
        match timeout(within, landed).await {
            Ok(Some(outcome)) => outcome,
            // The flight was lost, or is still under way.
            Ok(None) => Err(Unavailable::Absent { subject }),
            Err(_) => Err(Unavailable::Pending { subject, within }),
        }
    }

    /// Sees to it that the subject is under way.
    pub fn start(
        &self,
        subject: &Subject,
        source: &str,
        need: Need,
    ) -> Result<watch::Receiver<Option<Outcome>>, Unavailable> {
        let post = self.desk.post(subject)?;
        let mut board = board(&self.board);
        if let Some(flight) = board.flights.get(subject) {
            return Ok(flight.outcome.clone());
        }
        let now = Instant::now();
        board.failed.retain(|_, (until, _)| *until > now);
        if let Some((_, unavailable)) = board.failed.get(subject) {
            return Err(unavailable.clone());
        }
        let resting = post.pace.resting();
        if resting > self.patience {
            return Err(Unavailable::Resting { subject: subject.clone(), wait: resting });
        }
        let few = need == Need::Renewal || subject.is_of_a_product();
        let counted = || board.flights.values().filter_map(|flight| flight.source.as_deref());
        let (all, own) = (counted().count(), counted().filter(|other| *other == source).count());
        if !few && (all >= MAX_FLIGHTS || own >= MAX_OF_SOURCE) {
            return Err(Unavailable::Crowded { subject: subject.clone() });
        }
        let (rank, source) = match few {
            true => (0, None),
            false => {
                (u32::try_from(own).unwrap_or(u32::MAX).saturating_add(1), Some(source.to_owned()))
            }
        };
        let (telling, outcome) = watch::channel(None);
        let flight = Flight { source, outcome: outcome.clone() };
        board.flights.insert(subject.clone(), flight);
        drop(board);
        let (desk, flights, subject) =
            (Arc::clone(&self.desk), Arc::clone(&self.board), subject.clone());
        let after_failure = self.after_failure;
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let landed = desk.fly(&subject, rank).await;
            let mut board = self::board(&flights);
            board.flights.remove(&subject);
            if let Err(unavailable) = &landed
                && board.failed.len() < MAX_FAILED
                && let Some(until) = Instant::now().checked_add(after_failure)
            {
                board.failed.insert(subject, (until, unavailable.clone()));
            }
            drop(board);
            telling.send_replace(Some(landed));
        });
        Ok(outcome)
    }
}

impl Desk {
    fn post(&self, subject: &Subject) -> Result<&Post, Unavailable> {
        let post = match Vendor::of(subject) {
            Vendor::Amd => &self.amd,
            Vendor::Intel => &self.intel,
        };
        post.as_ref().ok_or_else(|| Unavailable::Absent { subject: subject.clone() })
    }

    /// From the first request to a file in the cache.
    async fn fly(self: &Arc<Self>, subject: &Subject, rank: u32) -> Outcome {
        let landed = self.land(subject, rank).await;
        let (vendor, counts) = (Vendor::of(subject).name(), self.counted.read());
        match &landed {
            Ok(entry) => tracing::info!(
                decision = "endorsement-fetched",
                vendor,
                %subject,
                until = %entry.dates().1,
                requests = counts.requests_amd + counts.requests_intel,
                per_1000 = counts.requests_per_1000(),
            ),
            Err(unavailable) => {
                match unavailable {
                    Unavailable::Unfit { .. } => self.counted.unfit.fetch_add(1, Ordering::Relaxed),
                    _ => self.counted.failed.fetch_add(1, Ordering::Relaxed),
                };
                tracing::warn!(
                    decision = "endorsement-unavailable",
                    vendor,
                    %subject,
                    fault = %unavailable,
                    requests = counts.requests_amd + counts.requests_intel,
                    per_1000 = counts.requests_per_1000(),
                );
            }
        }
        landed
    }

    async fn land(self: &Arc<Self>, subject: &Subject, rank: u32) -> Outcome {
        let mut answers = Vec::new();
        for ask in vendor::asks(subject) {
            answers.push(self.ask_patiently(subject, &ask, rank).await?);
        }
        let malformed = |fault| Unavailable::Malformed { subject: subject.clone(), fault };
        let body = vendor::body(subject, answers).map_err(malformed)?;
        let (desk, subject) = (Arc::clone(self), subject.clone());
        let keeping = tokio::task::spawn_blocking(move || desk.keep(subject, body));
        keeping.await.unwrap_or_else(|error| Err(Unavailable::Internal(error.to_string())))
    }

    /// Verified first; what does not hold leaves no trace.
    fn keep(&self, subject: Subject, body: Vec<u8>) -> Outcome {
        let entry =
            self.cache.verify(subject.clone(), body, self.clock.now()).map_err(|unfit| {
                Unavailable::Unfit { subject: unfit.subject, findings: unfit.findings }
            })?;
        match self.cache.keep(entry) {
            Ok(entry) => Ok(entry),
            // A mirror that lags behind: what is kept is newer, and stays.
            Err(CacheError::Older { .. }) => {
                self.cache.find(&subject).ok_or(Unavailable::Absent { subject })
            }
            Err(error) => Err(Unavailable::Internal(error.to_string())),
        }
    }

    /// One answer with status 200; refusals and silence are borne a few times.
    async fn ask_patiently(
        &self,
        subject: &Subject,
        ask: &Ask,
        rank: u32,
    ) -> Result<Answer, Unavailable> {
        let post = self.post(subject)?;
        let unreachable = |fault| Unavailable::Unreachable { subject: subject.clone(), fault };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let turn = post.pace.turn(rank).await;
            self.counted.request(Vendor::of(subject));
            let (unavailable, asked) = match self.client.get(&post.url, &ask.path, ask.max).await {
                Ok(answer) if answer.status == 200 => {
                    turn.went_well();
                    return Ok(answer);
                }
                Ok(answer) if answer.status == 429 || answer.status >= 500 => {
                    if answer.status == 429 {
                        self.counted.too_many.fetch_add(1, Ordering::Relaxed);
                    }
                    let status = answer.status;
                    let refused = Unavailable::Answered { subject: subject.clone(), status };
                    (refused, retry_after(&answer.headers, self.clock.now()))
                }
                // It knows no such thing, and asking again makes no difference.
                Ok(answer) => {
                    turn.went_well();
                    let status = answer.status;
                    return Err(Unavailable::Answered { subject: subject.clone(), status });
                }
                Err(error) => (unreachable(error.to_string()), None),
            };
            let rest = turn.refused(asked);
            if attempts == ATTEMPTS || rest > MOST_PATIENT {
                return Err(unavailable);
            }
        }
    }
}

impl Counted {
    fn request(&self, vendor: Vendor) {
        let [amd, intel] = &self.requests;
        let counter = match vendor {
            Vendor::Amd => amd,
            Vendor::Intel => intel,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> Counts {
        let [amd, intel] = &self.requests;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            asked: read(&self.asked),
            kept: read(&self.kept),
            requests_amd: read(amd),
            requests_intel: read(intel),
            too_many: read(&self.too_many),
            unfit: read(&self.unfit),
            failed: read(&self.failed),
        }
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = time::PrimitiveDateTime::parse(text, HTTP_DATE).ok()?.assume_utc();
    Some(Time::from_unix_s(date.unix_timestamp()).since(now))
}

/// Entries are put in and taken out whole, so a panic elsewhere spoils nothing.
fn board(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Promises of docs/reference/limits.md.
const MAX_FLIGHTS: usize = 256;
const MAX_OF_SOURCE: usize = 4;
const MAX_FAILED: usize = 4_096;
const ATTEMPTS: u32 = 3;
/// A rest that is longer than this ends the flight.
const MOST_PATIENT: Duration = Duration::from_secs(120);
/// RFC 9110, 5.6.7: IMF-fixdate.
const HTTP_DATE: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_service_says_when_to_come_back_in_seconds_or_by_a_date() {
        let now: Time = "2026-06-01T00:00:00Z".parse().unwrap();
        let after = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(after("30"), Some(Duration::from_secs(30)));
        assert_eq!(after("Mon, 01 Jun 2026 00:02:00 GMT"), Some(Duration::from_secs(120)));
        assert_eq!(after("Sun, 31 May 2026 00:00:00 GMT"), Some(Duration::ZERO));
        for text in ["", "soon", "-1", "1.5", "99999999999999999999", "Mon, 01 Jun 2026 00:02"] {
            assert_eq!(after(text), None, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
