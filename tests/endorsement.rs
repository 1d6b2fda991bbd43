//! Vendors' endorsements: asked for once, at the service's pace, kept only if they hold. The
//! services are stand-ins on this machine; the hardware is forged under roots of the tests' own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use assay::clock::Clock;
use assay::endorsement::Cache;
use assay::endorsement::Config;
use assay::endorsement::Endorsements;
use assay::endorsement::Room;
use assay::endorsement::Roots;
use assay::endorsement::Service;
use assay::endorsement::Subject;
use assay::endorsement::Unavailable;
use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_snp::endorsement::Wanted;
use assay_snp::endorsement::wants;

#[path = "../attestors/snp/tests/support/forge.rs"]
mod snp_forge;
#[path = "support/vendor_stand_in.rs"]
mod stand_in;
#[path = "../attestors/tdx/tests/support/forge.rs"]
mod tdx_forge;

use evidence::corpus;
use snp_forge::Machine;
use snp_forge::RevocationDraft;
use snp_forge::Shown;
use stand_in::Reply;
use stand_in::VendorStandIn;
use stand_in::intel_pages;
use tdx_forge::Recipe;

#[path = "support/evidence.rs"]
mod evidence;

const DAY: Duration = Duration::from_secs(86_400);

/// One machine of each kind, its vendor, and a server that asks him.
struct House {
    folder: tempfile::TempDir,
    clock: Clock,
    shown: Shown,
}

impl House {
    fn milan() -> House {
        House::of(Machine::milan().with(|m| m.crl = Some(RevocationDraft::empty())))
    }

    fn of(machine: Machine) -> House {
        let folder = tempfile::tempdir().unwrap();
        House { folder, clock: Clock::manual(snp_forge::NOW), shown: machine.show() }
    }

    fn wanted(&self) -> Wanted {
        wants(&assay_snp::Report::parse(&self.shown.report).unwrap(), None).unwrap()
    }

    /// What AMD's service would say of this machine.
    fn pages(&self) -> BTreeMap<String, Reply> {
        let wanted = self.wanted();
        let crl = self.shown.crl.clone().map_or(Reply::status(404), Reply::ok);
        let mut chain = self.shown.issuer.clone();
        chain.extend(&self.shown.ark);
        let mut pages = BTreeMap::from([(wanted.crl_path(), crl)]);
        pages.insert(wanted.chain_path(), Reply::ok(pem(&[&self.shown.issuer, &self.shown.ark])));
        if let Some(path) = wanted.vek_path() {
            pages.insert(path, Reply::ok(self.shown.vek.clone()));
        }
        pages
    }

    fn vek_path(&self) -> String {
        self.wanted().vek_path().unwrap()
    }

    fn config(&self, amd: Option<&VendorStandIn>) -> Config {
        Config {
            operator_roots: vec![Certificate::parse(&self.shown.ark).unwrap()],
            amd: amd.map(quick),
            request_within: Duration::from_secs(2),
            patience: Duration::from_secs(20),
            after_failure: Duration::from_millis(300),
            ..Config::offline(self.folder.path())
        }
    }

    fn open(&self, amd: &VendorStandIn) -> Endorsements {
        Endorsements::open(self.config(Some(amd)), self.clock.clone()).unwrap()
    }

    fn files(&self) -> Vec<String> {
        files(self.folder.path())
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock")
        .collect();
    names.sort();
    names
}

/// The cases of a kind; none where there is no corpus.
fn cases(kind: &str) -> Vec<PathBuf> {
    let Some(folder) = corpus(kind) else { return Vec::new() };
    let mut cases: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|case| case.join("case.toml").is_file());
    cases.sort();
    cases
}

/// A service without the manners that a test would have to wait for.
fn quick(stand_in: &VendorStandIn) -> Service {
    let url = stand_in.url().parse().unwrap();
    Service { url, every: Duration::ZERO, rest: Duration::from_millis(20) }
}

fn pem(certificates: &[&[u8]]) -> String {
    certificates.iter().map(|der| tdx_forge::pem(der)).collect()
}

fn unavailable<T>(result: Result<T, Unavailable>) -> String {
    match result {
        Ok(_) => panic!("it must not be had"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_was_fetched_verifies_a_report_and_is_not_asked_for_again() {
    let house = House::milan();
    let amd = VendorStandIn::of(house.pages());
    let room = house.open(&amd);
    let had = room.snp(&house.wanted(), "a").await.unwrap();
    assert_eq!(had.vek.as_ref(), Some(&house.shown.vek));
    assert_eq!(had.crl, house.shown.crl);
    assert_eq!((had.missing, had.warnings), (None, vec![]));
    let chain: Vec<&[u8]> = had.chain.iter().map(Vec::as_slice).collect();
    let evidence = assay_snp::Evidence {
        report: &house.shown.report,
        vek: had.vek.as_deref(),
        chain: &chain,
        host_certificates: None,
        crl: had.crl.as_deref(),
    };
    assay_snp::verify(&evidence, &house.shown.anchors(), None, snp_forge::NOW).unwrap();
    // Below an operator's root the issuer has to be asked for, too.
    assert_eq!(amd.requests(), 3, "{:?}", amd.paths());
    for _ in 0..1_000 {
        room.snp(&house.wanted(), "a").await.unwrap();
    }
    let counts = room.counts();
    assert_eq!((amd.requests(), counts.asked, counts.requests_amd), (3, 1_001, 3));
    println!("{} requests for 1000 reports of one chip", counts.requests_per_1000());
}

#[tokio::test]
async fn what_was_fetched_is_there_after_a_restart_without_the_service() {
    let house = House::milan();
    let amd = VendorStandIn::of(house.pages());
    house.open(&amd).snp(&house.wanted(), "a").await.unwrap();
    amd.stop();
    let room = house.open(&amd);
    let had = room.snp(&house.wanted(), "a").await.unwrap();
    assert_eq!(had.vek.as_ref(), Some(&house.shown.vek));
    let offline = Endorsements::open(house.config(None), house.clock.clone()).unwrap();
    assert_eq!(offline.snp(&house.wanted(), "a").await.unwrap(), had);
    assert_eq!(amd.requests(), 3);
    // A week before its end the list warns; behind its end it is missing, and says so.
    house.clock.advance(DAY * 25);
    let had = room.snp(&house.wanted(), "a").await.unwrap();
    let warning = had.warnings.first().unwrap();
    assert_eq!(warning.code.code(), "endorsement-ends-soon");
    assert!(warning.found.starts_with("expires in 5 days"), "{}", warning.found);
    house.clock.advance(DAY * 6);
    let had = room.snp(&house.wanted(), "a").await.unwrap();
    assert_eq!(had.crl, None);
    let told = had.missing.unwrap().to_string();
    assert!(told.contains("ended at 2026-07-01") && told.contains("out of reach"), "{told}");
    // The certificate itself ends in 2030.
    house.clock.advance(DAY * 365 * 4);
    let told = unavailable(room.snp(&house.wanted(), "a").await);
    assert!(told.contains("ended at 2030-01-01"), "{told}");
}

#[tokio::test]
async fn a_hundred_who_ask_at_once_are_one_request() {
    let house = House::milan();
    let pages = house.pages();
    let amd = VendorStandIn::start(move |path, _| Reply {
        delay: Duration::from_millis(200),
        ..pages.get(path).cloned().unwrap_or_else(|| Reply::status(404))
    });
    let room = house.open(&amd);
    let asking: Vec<_> = (0..100)
        .map(|source| {
            let (room, wanted) = (room.clone(), house.wanted());
            tokio::spawn(async move { room.snp(&wanted, &format!("source {source}")).await })
        })
        .collect();
    for asked in asking {
        let had = asked.await.unwrap().unwrap();
        assert_eq!((had.vek.as_ref(), &had.crl), (Some(&house.shown.vek), &house.shown.crl));
    }
    assert_eq!(amd.requests(), 3, "{:?}", amd.paths());
}

#[tokio::test]
async fn a_service_that_was_asked_too_often_is_left_alone_and_asked_again() {
    let house = House::milan();
    let (pages, path) = (house.pages(), house.vek_path());
    let amd = VendorStandIn::start(move |asked, before| match (asked == path, before) {
        (true, 0) => Reply::status(429).header("Retry-After", "1"),
        (true, 1) => Reply::status(503),
        _ => pages.get(asked).cloned().unwrap_or_else(|| Reply::status(404)),
    });
    let room = house.open(&amd);
    let had = room.snp(&house.wanted(), "a").await.unwrap();
    assert_eq!(had.vek.as_ref(), Some(&house.shown.vek));
    let distances = amd.distances();
    assert!(distances[1] >= Duration::from_secs(1), "Retry-After counts: {distances:?}");
    assert!(distances[2] >= Duration::from_millis(40), "the rest doubles: {distances:?}");
    assert_eq!(room.counts().too_many, 1);
}

#[tokio::test]
async fn a_long_rest_is_told_at_once_and_nobody_knocks_meanwhile() {
    let house = House::milan();
    let amd = VendorStandIn::start(|_, _| Reply::status(429).header("Retry-After", "600"));
    let room = house.open(&amd);
    let told = room.snp(&house.wanted(), "a").await.unwrap_err();
    assert!(told.may_pass(), "{told}");
    tokio::time::sleep(Duration::from_millis(400)).await;
    let told = room.snp(&house.wanted(), "a").await.unwrap_err();
    assert!(matches!(told, Unavailable::Resting { .. }) && told.may_pass(), "{told}");
    assert_eq!(told.finding().code.code(), "endorsement-unavailable");
    assert_eq!(amd.requests(), 1);
}

#[tokio::test]
async fn requests_keep_the_distance_that_is_configured() {
    let house = House::milan();
    let amd = VendorStandIn::of(house.pages());
    let mut config = house.config(Some(&amd));
    config.amd = Some(Service { every: Duration::from_millis(500), ..quick(&amd) });
    let room = Endorsements::open(config, house.clock.clone()).unwrap();
    room.snp(&house.wanted(), "a").await.unwrap();
    let distances = amd.distances();
    // As the service sees it: a busy machine hands one request over late, and the next in time.
    assert!(distances.iter().all(|distance| *distance >= Duration::from_millis(300)));
    assert_eq!(distances.len(), 2);
}

#[tokio::test]
async fn another_chips_certificate_is_refused_and_leaves_no_trace() {
    let house = House::milan();
    let other = |change: fn(&mut Machine)| Machine::milan().with(change).show().vek;
    let wrong = [
        // The chain above holds; what is below it is the fault.
        ("vek-chip-mismatch", other(|m| m.vek.extension(&[4], vec![0xc2; 64]))),
        ("vek-tcb-mismatch", other(|m| m.vek.extension(&[3, 3], snp_forge::integer(23)))),
        ("chain-broken", {
            let mut vek = house.shown.vek.clone();
            *vek.last_mut().unwrap() ^= 1;
            vek
        }),
        ("vek-not-signed-by-amd", other(|m| m.vek.signer = "other")),
        ("cert-expired", other(|m| m.vek.not_after = "250101000000Z")),
        ("product-mismatch", Machine::turin().show().vek),
        ("cert-malformed", b"<html>it works</html>".to_vec()),
    ];
    let mut refused = 0;
    for (code, vek) in wrong {
        let mut pages = house.pages();
        pages.insert(house.vek_path(), Reply::ok(vek));
        let amd = VendorStandIn::of(pages);
        let room = house.open(&amd);
        let error = room.snp(&house.wanted(), "a").await.unwrap_err();
        let Unavailable::Unfit { findings, .. } = &error else { panic!("{code}: {error}") };
        let found = findings.first().unwrap().code.code();
        // A broken last link has a name of its own.
        let same = found == code || (code == "chain-broken" && found == "vek-not-signed-by-amd");
        let foreign = code == "product-mismatch" && found != "internal";
        assert!(same || foreign, "{code}, found {found}");
        assert!(!house.files().iter().any(|name| name.contains("vcek-Milan-c1")), "{code}");
        assert_eq!(room.counts().unfit, 1);
        refused += 1;
    }
    println!("{refused} wrong certificates refused");
    // A good one, from the same service, a moment later.
    let amd = VendorStandIn::of(house.pages());
    assert!(house.open(&amd).snp(&house.wanted(), "a").await.is_ok());
}

#[tokio::test]
async fn a_list_that_the_root_did_not_sign_or_that_is_stale_is_refused() {
    let house = House::milan();
    let list = |change: fn(&mut RevocationDraft)| {
        let mut draft = RevocationDraft::empty();
        change(&mut draft);
        Machine::milan().with(|m| m.crl = Some(draft)).show().crl.unwrap()
    };
    let wrong = [
        ("crl-invalid", list(|crl| crl.signer = "other")),
        ("crl-invalid", list(|crl| crl.issuer = "SEV-Milan".into())),
        ("crl-stale", list(|crl| crl.next_update = "260520000000Z")),
        ("crl-stale", list(|crl| crl.this_update = "260620000000Z")),
        ("crl-invalid", b"no list".to_vec()),
    ];
    for (code, list) in wrong {
        let mut pages = house.pages();
        pages.insert(house.wanted().crl_path(), Reply::ok(list));
        let amd = VendorStandIn::of(pages);
        let had = house.open(&amd).snp(&house.wanted(), "a").await.unwrap();
        assert_eq!(had.crl, None, "{code}");
        match had.missing.unwrap() {
            Unavailable::Unfit { findings, .. } => assert_eq!(findings[0].code.code(), code),
            other => panic!("{code}: {other}"),
        }
        assert!(!house.files().iter().any(|name| name.contains("crl")), "{:?}", house.files());
    }
}

#[tokio::test]
async fn an_older_list_never_takes_the_place_of_a_newer_one() {
    let dated = |from: &'static str, until: &'static str| {
        let (this_update, next_update) = (from, until);
        let draft = RevocationDraft { this_update, next_update, ..RevocationDraft::empty() };
        Machine::milan().with(|m| m.crl = Some(draft)).show().crl.unwrap()
    };
    let house = House::milan();
    let (newer, older) =
        (dated("260530000000Z", "260901000000Z"), dated("260501000000Z", "260901000000Z"));
    let newest = dated("260602000000Z", "261001000000Z");
    let serving = |list: &[u8]| {
        let mut pages = house.pages();
        pages.insert(house.wanted().crl_path(), Reply::ok(list));
        pages
    };
    let amd = VendorStandIn::of(serving(&newer));
    let room = house.open(&amd);
    assert_eq!(room.snp(&house.wanted(), "a").await.unwrap().crl.as_ref(), Some(&newer));
    // A day later it is asked for again, while the one that is kept is handed out.
    for (list, expected) in [(&older, &newer), (&newest, &newest)] {
        house.clock.advance(DAY * 2);
        let pages = serving(list);
        amd.answer(move |path, _| pages.get(path).cloned().unwrap());
        let before = amd.requests();
        assert_eq!(room.snp(&house.wanted(), "a").await.unwrap().crl.as_ref(), Some(&newer));
        let until = Instant::now() + Duration::from_secs(10);
        let settled = || async { room.snp(&house.wanted(), "a").await.unwrap().crl };
        while amd.requests() == before || settled().await.as_ref() != Some(expected) {
            assert!(Instant::now() < until, "it was not renewed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn answers_that_are_cut_too_long_or_too_slow_are_no_answers() {
    let house = House::milan();
    let path = house.vek_path();
    let replies = [
        ("broke off", Reply { cut: true, ..Reply::ok(house.shown.vek.clone()) }),
        ("more than", Reply::ok(vec![0x30; 300_000])),
        ("no answer within", Reply { delay: Duration::from_secs(2), ..Reply::ok("late") }),
        ("status 302", Reply::status(302).header("Location", "http://127.0.0.1:1/")),
        ("status 404", Reply::status(404)),
        ("more than", Reply { headers: vec![], ..Reply::ok(vec![0; 70_000]) }),
        ("broke off", Reply::ok("x").header("X-Long", "y".repeat(200_000))),
    ];
    for (told, reply) in replies {
        let (mut pages, path) = (house.pages(), path.clone());
        pages.insert(path, reply);
        let amd = VendorStandIn::of(pages);
        let mut config = house.config(Some(&amd));
        config.request_within = Duration::from_millis(500);
        let room = Endorsements::open(config, house.clock.clone()).unwrap();
        let error = unavailable(room.snp(&house.wanted(), "a").await);
        assert!(error.contains(told), "{told}: {error}");
        assert!(!house.files().iter().any(|name| name.contains("vcek-Milan-c1")));
    }
}

#[tokio::test]
async fn what_failed_is_not_asked_for_again_for_a_while() {
    let house = House::milan();
    let amd = VendorStandIn::start(|_, _| Reply::status(404));
    let room = house.open(&amd);
    for _ in 0..10 {
        let told = unavailable(room.snp(&house.wanted(), "a").await);
        assert!(told.contains("status 404"), "{told}");
    }
    assert_eq!(amd.requests(), 2, "issuer and certificate, once each");
    tokio::time::sleep(Duration::from_millis(350)).await;
    let pages = house.pages();
    amd.answer(move |path, _| pages.get(path).cloned().unwrap());
    room.snp(&house.wanted(), "a").await.unwrap();
}

/// A hundred chips that nobody made, from one source, before one real machine asks.
#[tokio::test]
async fn one_source_of_made_up_chips_does_not_keep_others_from_theirs() {
    let house = House::milan();
    let amd = VendorStandIn::of(house.pages());
    let mut config = house.config(Some(&amd));
    config.amd = Some(Service { every: Duration::from_millis(200), ..quick(&amd) });
    let room = Endorsements::open(config, house.clock.clone()).unwrap();
    let made_up = |number: u8| {
        let machine = Machine::milan().with(|m| m.set(0x1a0, &[number; 64]));
        wants(&assay_snp::Report::parse(&machine.show().report).unwrap(), None).unwrap()
    };
    let asking: Vec<_> = (1..=100)
        .map(|number| {
            let (room, wanted) = (room.clone(), made_up(number));
            tokio::spawn(async move { room.snp(&wanted, "stranger").await })
        })
        .collect();
    // The issuer is had, and the stranger's chips are in line.
    while amd.requests() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(room.snp(&house.wanted(), "honest").await.is_ok());
    let paths = amd.paths();
    let honest = paths.iter().position(|path| *path == house.vek_path()).unwrap();
    // Behind the stranger's first, which was under way; not behind his other three.
    assert!(honest <= 3, "{paths:?}");
    let list = paths.iter().position(|path| path.ends_with("/crl")).unwrap();
    assert!(list <= honest + 2, "a list goes before any chip: {paths:?}");
    let mut crowded = 0;
    for asked in asking {
        crowded += usize::from(unavailable(asked.await.unwrap()).contains("too much"));
    }
    assert_eq!(crowded, 96);
    println!("{crowded} of 100 made-up chips were not asked for");
}

/// What another process puts into the folder counts at once, and a mirror that lags behind does
/// not undo it.
#[tokio::test]
async fn what_is_imported_counts_without_a_restart_and_is_not_undone() {
    let house = House::milan();
    let dated = |this_update: &'static str| {
        let next_update = "261001000000Z";
        let draft = RevocationDraft { this_update, next_update, ..RevocationDraft::empty() };
        Machine::milan().with(|m| m.crl = Some(draft)).show().crl.unwrap()
    };
    let (first, lagging, newest) =
        (dated("260501000000Z"), dated("260510000000Z"), dated("260530000000Z"));
    let serving = |list: &[u8]| {
        let mut pages = house.pages();
        pages.insert(house.wanted().crl_path(), Reply::ok(list));
        pages
    };
    let amd = VendorStandIn::of(serving(&first));
    let room = house.open(&amd);
    assert_eq!(room.snp(&house.wanted(), "a").await.unwrap().crl.as_ref(), Some(&first));

    let roots = Roots::with_operator_roots(vec![Certificate::parse(&house.shown.ark).unwrap()]);
    let other = Cache::open(house.folder.path(), Arc::new(roots), Room::default()).unwrap();
    let (product, kind) = (house.wanted().product, house.wanted().kind);
    let list = Subject::SnpCrl { product, kind };
    other.keep(other.verify(list, newest.clone(), snp_forge::NOW).unwrap()).unwrap();
    assert_eq!(room.snp(&house.wanted(), "a").await.unwrap().crl.as_ref(), Some(&newest));

    let pages = serving(&lagging);
    amd.answer(move |path, _| pages.get(path).cloned().unwrap());
    let before = amd.requests();
    house.clock.advance(DAY * 2);
    room.snp(&house.wanted(), "a").await.unwrap();
    while amd.requests() == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for room in [&room, &house.open(&amd)] {
        assert_eq!(room.snp(&house.wanted(), "a").await.unwrap().crl.as_ref(), Some(&newest));
    }
}

/// A file that is spoilt while the server runs takes nothing away that was read before.
#[tokio::test]
async fn a_file_that_is_spoilt_under_a_running_server_takes_nothing_away() {
    let house = House::milan();
    let amd = VendorStandIn::of(house.pages());
    let room = house.open(&amd);
    let had = room.snp(&house.wanted(), "a").await.unwrap();
    amd.stop();
    for name in house.files() {
        fs::write(house.folder.path().join(name), "spoilt").unwrap();
    }
    assert_eq!(room.snp(&house.wanted(), "a").await.unwrap(), had);
    let again = Endorsements::open(house.config(None), house.clock.clone()).unwrap();
    assert!(again.snp(&house.wanted(), "a").await.is_err());
}

/// The services' own names are held against the authorities that the operator names, and no other.
#[tokio::test]
async fn a_service_under_another_authority_is_not_believed_to_be_it() {
    let house = House::milan();
    let authority = |name: &str| {
        let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        (certificate.pem(), rcgen::Issuer::new(parameters, key))
    };
    let ((own, issuer), (foreign, _)) = (authority("own"), authority("foreign"));
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let amd = VendorStandIn::of(house.pages());
    let port = amd.behind_tls(leaf.der().to_vec(), key.serialize_der());

    for (ca, host, good) in
        [(&own, "localhost", true), (&own, "127.0.0.1", false), (&foreign, "localhost", false)]
    {
        let place = tempfile::tempdir().unwrap();
        let ca_file = place.path().join("ca.pem");
        fs::write(&ca_file, ca).unwrap();
        let url = format!("https://{host}:{port}").parse().unwrap();
        let config = Config {
            folder: place.path().join("cache"),
            amd: Some(Service { url, ..quick(&amd) }),
            ca: Some(ca_file),
            ..house.config(Some(&amd))
        };
        let room = Endorsements::open(config, house.clock.clone()).unwrap();
        match room.snp(&house.wanted(), "a").await {
            Ok(had) => assert!(good && had.vek.as_ref() == Some(&house.shown.vek), "{host}"),
            Err(error) => {
                assert!(!good, "{error}");
                assert!(matches!(error, Unavailable::Unreachable { .. }), "{error}");
            }
        }
    }
    // A named file that is not there, or has no certificate, is told at once.
    for text in [None, Some("nothing")] {
        let place = tempfile::tempdir().unwrap();
        let ca_file = place.path().join("ca.pem");
        if let Some(text) = text {
            fs::write(&ca_file, text).unwrap();
        }
        let amd = Some(Service::amd());
        let config = Config { amd, ca: Some(ca_file), ..Config::offline(place.path()) };
        let told = Endorsements::open(config, house.clock.clone()).unwrap_err().to_string();
        assert!(told.contains("ca.pem"), "{told}");
    }
}

#[tokio::test]
async fn a_file_with_any_bit_changed_counts_as_absent() {
    let house = House::milan();
    let amd = VendorStandIn::of(house.pages());
    house.open(&amd).snp(&house.wanted(), "a").await.unwrap();
    let files = house.files();
    assert_eq!(files.len(), 3, "{files:?}");
    let (mut absent, mut tried) = (0, 0);
    for name in files {
        let path = house.folder.path().join(&name);
        let whole = fs::read(&path).unwrap();
        let damages = (0..whole.len()).step_by(7).map(|at| {
            let mut text = whole.clone();
            text[at] ^= 1 << (at % 8);
            text
        });
        let cuts = (0..whole.len()).step_by(97).map(|at| whole[..at].to_vec());
        for text in damages.chain(cuts).chain([[&whole[..], b"\n"].concat()]) {
            fs::write(&path, text).unwrap();
            let room = Endorsements::open(house.config(None), house.clock.clone()).unwrap();
            let had = room.snp(&house.wanted(), "a").await;
            absent += usize::from(had.map_or(true, |had| had.missing.is_some()));
            tried += 1;
        }
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(absent, tried);
    println!("{absent} damaged files of {tried} were as if they were not there");
    // With the service there, a damaged file is replaced.
    let path = house.folder.path().join(&house.files()[0]);
    fs::write(&path, "damaged").unwrap();
    assert!(house.open(&amd).snp(&house.wanted(), "a").await.is_ok());
    assert!(fs::read(&path).unwrap().len() > 100);
}

#[tokio::test]
async fn a_file_under_another_name_is_not_what_it_is_called() {
    let house = House::milan();
    let amd = VendorStandIn::of(house.pages());
    house.open(&amd).snp(&house.wanted(), "a").await.unwrap();
    let name = house.files().into_iter().find(|name| name.contains("vcek-Milan-c1")).unwrap();
    let other = name.replace("c1c1", "c2c2");
    fs::rename(house.folder.path().join(&name), house.folder.path().join(&other)).unwrap();
    let room = Endorsements::open(house.config(None), house.clock.clone()).unwrap();
    let mut wanted = house.wanted();
    assert!(room.snp(&wanted, "a").await.is_err());
    wanted.chip.as_mut().unwrap().hardware_id = vec![0xc2; 64];
    assert!(room.snp(&wanted, "a").await.is_err());
}

#[tokio::test]
async fn what_was_not_used_longest_makes_room() {
    let house = House::milan();
    let machines: Vec<House> = (1..=4_u8)
        .map(|number| {
            House::of(Machine::milan().with(|m| {
                m.vek.extension(&[4], vec![number; 64]);
                m.set(0x1a0, &[number; 64]);
            }))
        })
        .collect();
    let pages: BTreeMap<String, Reply> =
        machines.iter().flat_map(|machine| machine.pages()).collect();
    let amd = VendorStandIn::of(pages);
    let mut config = house.config(Some(&amd));
    config.room = Room { entries: 4, bytes: 1 << 20 };
    let room = Endorsements::open(config, house.clock.clone()).unwrap();
    for machine in &machines {
        room.snp(&machine.wanted(), "a").await.unwrap();
        assert!(house.files().len() <= 4, "{:?}", house.files());
    }
    let before = amd.requests();
    room.snp(&machines[3].wanted(), "a").await.unwrap();
    assert_eq!(amd.requests(), before);
    room.snp(&machines[0].wanted(), "a").await.unwrap();
    assert_eq!(amd.requests(), before + 1);
}

#[tokio::test]
async fn a_vlek_is_its_owners_and_only_its_list_is_asked_for() {
    let house = House::of(Machine::milan_vlek().with(|m| m.crl = Some(RevocationDraft::empty())));
    let amd = VendorStandIn::of(house.pages());
    let had = house.open(&amd).snp(&house.wanted(), "a").await.unwrap();
    assert_eq!((had.vek, had.crl), (None, house.shown.crl.clone()));
    assert_eq!(amd.paths(), ["/vlek/v1/Milan/cert_chain", "/vlek/v1/Milan/crl"]);
}

/// AMD's own certificates of real chips, up to the roots that are built in.
#[tokio::test]
async fn amds_own_certificates_are_kept_and_handed_out() {
    let mut kept = 0;
    for folder in cases("snp") {
        let case = fs::read_to_string(folder.join("case.toml")).unwrap();
        let case: toml::Table = case.parse().unwrap();
        let file = |role: &str| {
            let files = case["file"].as_array()?;
            let of_role = |file: &&toml::Value| file["role"].as_str() == Some(role);
            fs::read(folder.join(files.iter().find(of_role)?["name"].as_str()?)).ok()
        };
        let (Some("genuine"), Some(report), Some(vek)) =
            (case["verdict"].as_str(), file("report"), file("vek"))
        else {
            continue;
        };
        let Ok(certificate) = Certificate::parse_set(&vek).map(|mut set| set.remove(0)) else {
            continue;
        };
        let Ok(read) = assay_snp::endorsement::Vek::read(certificate) else { continue };
        let report = assay_snp::Report::parse(&report).unwrap();
        let wanted = wants(&report, Some(read.product)).unwrap();
        let Some(path) = wanted.vek_path() else { continue };
        let amd = VendorStandIn::of(BTreeMap::from([(path, Reply::ok(vek.clone()))]));
        let place = tempfile::tempdir().unwrap();
        let config = Config { amd: Some(quick(&amd)), ..Config::offline(place.path()) };
        let at: Time = case["verify_at"].as_str().unwrap().parse().unwrap();
        let room = Endorsements::open(config, Clock::manual(at)).unwrap();
        let had = room.snp(&wanted, "a").await.unwrap();
        assert_eq!((had.vek, had.chain), (Some(vek), vec![]), "{}", folder.display());
        // The certificate and the list: issuers are built in.
        assert_eq!(amd.requests(), 2, "{:?}", amd.paths());
        kept += 1;
    }
    println!("{kept} certificates of real chips");
}

// --- Intel ---

fn tdx_house(recipe: &Recipe) -> (tempfile::TempDir, tdx_forge::Evidence, Clock) {
    (tempfile::tempdir().unwrap(), recipe.build(), Clock::manual(tdx_forge::now()))
}

fn tdx_room(
    folder: &Path,
    root: &Certificate,
    intel: Option<&VendorStandIn>,
    clock: &Clock,
) -> Endorsements {
    let config = Config {
        operator_roots: vec![root.clone()],
        intel: intel.map(quick),
        request_within: Duration::from_secs(2),
        after_failure: Duration::from_millis(100),
        ..Config::offline(folder)
    };
    Endorsements::open(config, clock.clone()).unwrap()
}

fn tdx_wanted(quote: &[u8]) -> assay_tdx::endorsement::Wanted {
    let quote = assay_tdx::Quote::parse(quote).unwrap();
    assay_tdx::endorsement::wants(&quote, Default::default()).unwrap()
}

#[tokio::test]
async fn collateral_is_put_together_from_four_answers_and_verifies_a_quote() {
    let (folder, evidence, clock) = tdx_house(&Recipe::new());
    let intel = VendorStandIn::of(intel_pages(&evidence.collateral, "platform"));
    let room = tdx_room(folder.path(), &evidence.root, Some(&intel), &clock);
    let wanted = tdx_wanted(&evidence.quote);
    assert_eq!(hex::encode(wanted.fmspc), "90c06f000000");
    let had = room.tdx(&wanted, "a", Duration::ZERO).await.unwrap();
    let roots = [evidence.root.clone()];
    let cache = assay_tdx::CollateralCache::default();
    let expected = assay_tdx::Expected::at(tdx_forge::now());
    assay_tdx::verify_with(&evidence.quote, &had.collateral, &roots, &expected, &cache).unwrap();
    assert_eq!(intel.requests(), 4);
    assert_eq!(room.tdx(&wanted, "a", Duration::ZERO).await.unwrap(), had);
    assert_eq!(intel.requests(), 4);

    // Offline, and then overdue: the policy's grace decides, and what is missing is said.
    intel.stop();
    let room = tdx_room(folder.path(), &evidence.root, None, &clock);
    clock.advance(DAY * 14);
    let had = room.tdx(&wanted, "a", Duration::ZERO).await.unwrap();
    assert_eq!(had.warnings[0].code.code(), "endorsement-ends-soon");
    clock.advance(DAY * 30);
    let told = unavailable(room.tdx(&wanted, "a", DAY).await);
    assert!(told.contains("ended at 2026-0"), "{told}");
    assert_eq!(room.tdx(&wanted, "a", DAY * 60).await.unwrap().collateral, had.collateral);
}

#[tokio::test]
async fn collateral_that_does_not_hold_is_refused_and_leaves_no_trace() {
    type Change = fn(&mut Recipe);
    let wrong: [(&str, Change); 7] = [
        ("collateral-signature-invalid", |r| r.tcb_info_signer = tdx_forge::Holder::Stranger),
        ("collateral-signature-invalid", |r| r.qe_identity_signer = tdx_forge::Holder::Pck),
        ("crl-invalid", |r| r.pck_crl.signer = tdx_forge::Holder::Stranger),
        ("cert-revoked", |r| r.root_crl.revoked = vec![3]),
        ("root-not-trusted", |r| {
            r.tcb_chain = vec![tdx_forge::tcb_signing(), tdx_forge::foreign_root()];
        }),
        ("collateral-expired", |r| {
            r.tcb_info["nextUpdate"] = "2026-06-10T00:00:00Z".into();
        }),
        ("collateral-malformed", |r| r.tcb_info["id"] = "SGX".into()),
    ];
    let genuine = Recipe::new().build();
    let wanted = tdx_wanted(&genuine.quote);
    for (code, change) in wrong {
        let (folder, evidence, clock) = tdx_house(&Recipe::with(change));
        let intel = VendorStandIn::of(intel_pages(&evidence.collateral, "platform"));
        let room = tdx_room(folder.path(), &evidence.root, Some(&intel), &clock);
        let error = room.tdx(&wanted, "a", Duration::ZERO).await.unwrap_err();
        let Unavailable::Unfit { findings, .. } = &error else { panic!("{code}: {error}") };
        assert_eq!(findings[0].code.code(), code, "{findings:?}");
        assert_eq!(files(folder.path()), Vec::<String>::new());
    }
    // Another platform's collateral, under this platform's address.
    let (folder, evidence, clock) =
        tdx_house(&Recipe::with(|r| r.tcb_info["fmspc"] = "00806f050000".into()));
    let mut pages = intel_pages(&evidence.collateral, "platform");
    let own = "/tdx/certification/v4/tcb?fmspc=90C06F000000&update=standard".to_owned();
    let other = pages.remove(&own.replace("90C06F000000", "00806F050000")).unwrap();
    pages.insert(own, other);
    let intel = VendorStandIn::of(pages);
    let room = tdx_room(folder.path(), &evidence.root, Some(&intel), &clock);
    let error = room.tdx(&wanted, "a", Duration::ZERO).await.unwrap_err();
    let Unavailable::Unfit { findings, .. } = &error else { panic!("{error}") };
    assert_eq!(findings[0].code.code(), "fmspc-mismatch");
    // The list of the other CA.
    let mut asked = wanted;
    asked.ca = assay_tdx::endorsement::PckCa::Processor;
    let intel = VendorStandIn::of(intel_pages(&genuine.collateral, "processor"));
    let room = tdx_room(folder.path(), &genuine.root, Some(&intel), &clock);
    let error = room.tdx(&asked, "a", Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("pck-chain-mismatch"), "{error}");
}

#[tokio::test]
async fn an_answer_without_its_chain_or_its_signature_is_told() {
    let (folder, evidence, clock) = tdx_house(&Recipe::new());
    let wanted = tdx_wanted(&evidence.quote);
    let pages = intel_pages(&evidence.collateral, "platform");
    for path in pages.keys() {
        for (what, reply) in [
            ("empty", Reply { body: Vec::new(), ..pages[path].clone() }),
            ("no headers", Reply { headers: Vec::new(), ..pages[path].clone() }),
            ("html", Reply { body: b"<html></html>".to_vec(), ..pages[path].clone() }),
        ] {
            if what == "no headers" && path.ends_with("rootcacrl") {
                continue;
            }
            let mut pages = pages.clone();
            pages.insert(path.clone(), reply);
            let intel = VendorStandIn::of(pages);
            let room = tdx_room(folder.path(), &evidence.root, Some(&intel), &clock);
            let error = room.tdx(&wanted, "a", Duration::ZERO).await.unwrap_err();
            let known = matches!(error, Unavailable::Malformed { .. } | Unavailable::Unfit { .. });
            assert!(known, "{path}, {what}: {error}");
            assert_eq!(files(folder.path()), Vec::<String>::new());
        }
    }
}

/// Intel's own documents under Intel's own root, as it published them.
#[tokio::test]
async fn intels_own_collateral_is_put_together_as_it_was_published() {
    let mut verified = 0;
    for folder in cases("tdx") {
        let (Ok(quote), Ok(collateral), Ok(case)) = (
            fs::read(folder.join("quote.bin")),
            fs::read(folder.join("collateral.json")),
            fs::read_to_string(folder.join("case.toml")),
        ) else {
            continue;
        };
        let case: toml::Table = case.parse().unwrap();
        if case["verdict"].as_str() != Some("genuine") {
            continue;
        }
        let name = folder.display();
        let at: Time = case["verify_at"].as_str().unwrap().parse().unwrap();
        let wanted = tdx_wanted(&quote);
        let intel = VendorStandIn::of(intel_pages(&collateral, wanted.ca.name()));
        let place = tempfile::tempdir().unwrap();
        let config = Config { intel: Some(quick(&intel)), ..Config::offline(place.path()) };
        let room = Endorsements::open(config, Clock::manual(at)).unwrap();
        let had = room.tdx(&wanted, "a", Duration::ZERO).await.unwrap();
        let cache = assay_tdx::CollateralCache::default();
        let expected = assay_tdx::Expected::at(at);
        let claims = assay_tdx::verify_with(&quote, &had.collateral, &[], &expected, &cache);
        assert!(claims.is_ok(), "{name}: {claims:?}");
        verified += 1;
    }
    println!("{verified} bundles of Intel's put together again");
}
