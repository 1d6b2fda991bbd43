//! A vendor's service: where it is, how often it may be asked, and how it is left alone when it
//! says that it was asked too often.
//!
//! One request at a time, never two within [`Service::every`]. After a 429, a 5xx or silence the
//! service rests: as long as it asks for (`Retry-After`), or twice as long as the last time, with
//! some chance in it so that many servers do not come back at once.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use assay_evidence::crypto::Random;
use assay_evidence::crypto::SystemRandom;
use tokio::time::Instant;
use tokio::time::sleep_until;

use crate::endorsement::line::Line;
use crate::endorsement::line::Place;

/// How a vendor's service is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub url: BaseUrl,
    /// The shortest time from one request to the next.
    pub every: Duration,
    /// The first rest after a refusal; it doubles up to [`LONGEST_REST`].
    pub rest: Duration,
}

impl Service {
    /// AMD's key distribution service. Clients that ask more often than every 10 s or so are sent
    /// away.
    pub fn amd() -> Service {
        let url = BaseUrl::https("kdsintf.amd.com");
        Service { url, every: Duration::from_secs(10), rest: Duration::from_secs(15) }
    }

    /// Intel's provisioning certification service.
    pub fn intel() -> Service {
        let url = BaseUrl::https("api.trustedservices.intel.com");
        Service { url, every: Duration::from_secs(1), rest: Duration::from_secs(5) }
    }
}

/// `https://host[:port][/path]`; `http` only to this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Without a slash at the end.
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("`{0}` is not `https://host[:port][/path]`")]
    Form(String),
    /// Whoever sits between could hold back newer revocation lists and give out old ones.
    #[error(
        "`{0}`: `http://` is for this machine alone (localhost, 127.0.0.1, [::1]); use `https`"
    )]
    Plain(String),
}

impl BaseUrl {
    fn https(host: &str) -> BaseUrl {
        BaseUrl { tls: true, host: host.to_owned(), port: 443, path: String::new() }
    }

    /// As a request names it.
    pub fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        match self.port == usual {
            true => self.host.clone(),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// As a resolver and a certificate name it: without the brackets of an IPv6 address.
    pub fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl FromStr for BaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<BaseUrl, UrlError> {
        let form = || UrlError::Form(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(form()),
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{}", path.trim_end_matches('/'))),
            None => (rest, String::new()),
        };
        let path = if path == "/" { String::new() } else { path };
        // The colons of an IPv6 address stand inside of its brackets.
        let at = authority.rfind(':').filter(|at| authority.rfind(']').is_none_or(|end| end < *at));
        let (host, port) = match at {
            Some(at) => {
                let (host, port) = authority.split_at(at);
                let port = port.trim_start_matches(':').parse().map_err(|_| form())?;
                (host, port)
            }
            None => (authority, if tls { 443 } else { 80 }),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        let path_ok = path.chars().all(|c| c.is_ascii_alphanumeric() || "-._~/".contains(c));
        if host.is_empty() || port == 0 || !host.chars().all(plain) || !path_ok {
            return Err(form());
        }
        if !tls && !["localhost", "127.0.0.1", "[::1]"].contains(&host) {
            return Err(UrlError::Plain(text.to_owned()));
        }
        Ok(BaseUrl { tls, host: host.to_owned(), port, path })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// One at a time, and not too often.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    rest: Duration,
    line: Line,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    /// Until when the service is left alone.
    resting: Option<Instant>,
    /// Refusals in a row.
    refusals: u32,
}

/// Held for the length of one request.
pub(super) struct Turn<'a> {
    pace: &'a Pace,
    _place: Place,
}

impl Pace {
    pub fn new(service: &Service) -> Pace {
        Pace {
            every: service.every,
            rest: service.rest,
            line: Line::default(),
            state: Mutex::default(),
        }
    }

    /// For how long the service is still left alone.
    pub fn resting(&self) -> Duration {
        let until = self.state().resting;
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Waits for the time when a request may be made; the lower rank is next.
    pub async fn turn(&self, rank: u32) -> Turn<'_> {
        let place = self.line.place(rank).await;
        let due = {
            let state = self.state();
            let paced = state.last.and_then(|last| last.checked_add(self.every));
            paced.max(state.resting)
        };
        if let Some(due) = due {
            sleep_until(due).await;
        }
        self.state().last = Some(Instant::now());
        Turn { pace: self, _place: place }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    pub fn went_well(self) {
        let mut state = self.pace.state();
        state.refusals = 0;
        state.resting = None;
    }

    /// The service rests: at least as long as it asked for.
    pub fn refused(self, asked: Option<Duration>) -> Duration {
        self.pace.state().refused(self.pace.rest, asked, Instant::now())
    }
}

impl State {
    fn refused(&mut self, rest: Duration, asked: Option<Duration>, now: Instant) -> Duration {
        let doubled = rest.saturating_mul(1 << self.refusals.min(10)).min(LONGEST_REST);
        self.refusals = self.refusals.saturating_add(1);
        let rest = asked.unwrap_or_default().max(doubled).min(LONGEST_ASKED);
        // Up to a quarter more, by chance.
        let rest = rest.saturating_add(rest / 1024 * u32::from(chance()));
        self.resting = now.checked_add(rest);
        rest
    }
}

fn chance() -> u8 {
    let mut byte = [0];
    match SystemRandom::new().fill(&mut byte) {
        Ok(()) => byte[0],
        Err(_) => 0,
    }
}

const LONGEST_REST: Duration = Duration::from_secs(600);
/// A promise of docs/reference/limits.md.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_read_and_written_the_same() {
        for text in [
            "https://kdsintf.amd.com",
            "https://pccs.example:8081",
            "https://cache.example/mirror/amd",
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
            "http://localhost",
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap().to_string(), text);
        }
        assert_eq!("https://a.example/".parse::<BaseUrl>().unwrap().path, "");
        assert_eq!("http://[::1]:9".parse::<BaseUrl>().unwrap().name(), "::1");
    }

    #[test]
    fn what_is_no_address_or_not_private_is_refused() {
        for text in [
            "",
            "kdsintf.amd.com",
            "ftp://a",
            "https://",
            "https://a:0",
            "https://a:x",
            "https://a b",
            "https://user@a",
            "https://a/?q",
            "https://a/\r\nx",
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(UrlError::Form(text.to_owned())), "{text}");
        }
        for text in ["http://kdsintf.amd.com", "http://127.0.0.1.example", "http://10.0.0.1"] {
            assert_eq!(text.parse::<BaseUrl>(), Err(UrlError::Plain(text.to_owned())), "{text}");
        }
    }

    fn service() -> Service {
        let (every, rest) = (Duration::from_millis(30), Duration::from_secs(8));
        Service { every, rest, ..Service::amd() }
    }

    #[tokio::test]
    async fn requests_keep_their_distance_and_come_one_at_a_time() {
        let pace = Pace::new(&service());
        let start = Instant::now();
        let ask = || async { pace.turn(0).await.went_well() };
        tokio::join!(ask(), ask(), ask(), ask());
        assert!(start.elapsed() >= Duration::from_millis(90), "{:?}", start.elapsed());
    }

    #[test]
    fn a_refusal_is_a_rest_that_doubles_within_bounds() {
        let mut state = State::default();
        let mut refused = |asked: Option<u64>, least: u64| {
            let asked = asked.map(Duration::from_secs);
            let rest = state.refused(Duration::from_secs(8), asked, Instant::now());
            let least = Duration::from_secs(least);
            assert!(rest >= least && rest <= least * 5 / 4, "{rest:?} for {least:?}");
            assert!(state.resting.unwrap() > Instant::now());
        };
        refused(None, 8);
        refused(None, 16);
        // What the service asks for counts where it is longer, up to an hour.
        refused(Some(90), 90);
        refused(Some(1), 64);
        refused(Some(86_400), 3_600);
        // However often: never longer than ten minutes by itself.
        refused(None, 256);
        refused(None, 512);
        for _ in 0..40 {
            refused(None, 600);
        }
    }

    #[tokio::test]
    async fn an_answer_ends_the_rest() {
        let quick = Service { rest: Duration::from_millis(20), ..service() };
        let pace = Pace::new(&quick);
        pace.turn(0).await.refused(None);
        assert!(pace.resting() > Duration::ZERO);
        pace.turn(0).await.went_well();
        assert_eq!((pace.resting(), pace.state().refusals), (Duration::ZERO, 0));
    }
}
