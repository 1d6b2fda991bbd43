//! Endorsements by hand: fetched from stand-ins, carried in a signed file, imported, listed, and
//! verified with where there is no way out. The hardware is forged under roots of the tests' own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use assay::endorsement::Bundle;
use assay::endorsement::BundleError;
use assay::endorsement::Cache;
use assay::endorsement::Entry;
use assay::endorsement::Room;
use assay::endorsement::Roots;
use assay::endorsement::Subject;
use assay::endorsement::bundle::PAYLOAD_TYPE;
use assay::reference::signature;
use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_evidence::crypto::SoftwareKey;
use proptest::prelude::*;
use serde_json::Value;

#[path = "../attestors/snp/tests/support/forge.rs"]
mod snp_forge;
#[path = "support/vendor_stand_in.rs"]
mod stand_in;
#[path = "../attestors/tdx/tests/support/forge.rs"]
mod tdx_forge;

use program::assay;
use snp_forge::Machine;
use snp_forge::NOW;
use snp_forge::RevocationDraft;
use snp_forge::Shown;
use stand_in::Reply;
use stand_in::VendorStandIn;
use stand_in::intel_pages;

#[path = "support/program.rs"]
mod program;

const DAY: Duration = Duration::from_secs(86_400);

fn machine() -> Shown {
    Machine::milan().with(|m| m.crl = Some(RevocationDraft::empty())).show()
}

fn roots(shown: &Shown) -> Roots {
    Roots::with_operator_roots(vec![Certificate::parse(&shown.ark).unwrap()])
}

fn wanted(shown: &Shown) -> assay_snp::endorsement::Wanted {
    let report = assay_snp::Report::parse(&shown.report).unwrap();
    assay_snp::endorsement::wants(&report, None).unwrap()
}

/// The issuer, the certificate and the list of a machine, fetched at a time.
fn entries(shown: &Shown, at: Time) -> Vec<Arc<Entry>> {
    let wanted = wanted(shown);
    let (product, kind) = (wanted.product, wanted.kind);
    let chip = wanted.chip.unwrap();
    let roots = roots(shown);
    let issuer = shown.issuer.clone();
    [
        (Subject::SnpVcek { product, chip }, shown.vek.clone()),
        (Subject::SnpIssuer { product, kind }, issuer.clone()),
        (Subject::SnpCrl { product, kind }, shown.crl.clone().unwrap()),
    ]
    .into_iter()
    .map(|(subject, body)| {
        Arc::new(Entry::verify(subject, body, at, &roots, Some(&issuer)).unwrap())
    })
    .collect()
}

fn open_cache(folder: &Path, shown: &Shown) -> Cache {
    Cache::open(folder, Arc::new(roots(shown)), Room::default()).unwrap()
}

fn code(error: &BundleError) -> &'static str {
    error.findings().first().map_or("", |finding| finding.code.code())
}

#[test]
fn the_same_entries_at_the_same_time_are_the_same_payload() {
    let (shown, key) = (machine(), SoftwareKey::generate().unwrap());
    let made = entries(&shown, NOW);
    let bundle = Bundle::of(made.clone(), NOW).unwrap();
    let turned = Bundle::of(made.iter().rev().chain(&made).cloned().collect(), NOW).unwrap();
    assert_eq!(bundle.payload(), turned.payload());
    let text = bundle.sign(&key).unwrap();
    let opened = Bundle::open(text.as_bytes(), &[key.public_key()], &roots(&shown)).unwrap();
    assert_eq!(opened.bundle, bundle);
    assert_eq!(opened.signer, key.public_key().spki_sha256());
    assert_eq!(Bundle::open_unsigned(text.as_bytes(), &roots(&shown)).unwrap(), bundle);
    assert_eq!(bundle.entries().len(), 3);
}

#[test]
fn another_key_another_kind_and_another_root_are_refused() {
    let (shown, key) = (machine(), SoftwareKey::generate().unwrap());
    let other = SoftwareKey::generate().unwrap();
    let bundle = Bundle::of(entries(&shown, NOW), NOW).unwrap();
    let text = bundle.sign(&key).unwrap();
    let open = |text: &str, key: &SoftwareKey, roots: &Roots| {
        Bundle::open(text.as_bytes(), &[key.public_key()], roots).unwrap_err()
    };
    assert_eq!(code(&open(&text, &other, &roots(&shown))), "bundle-signature-invalid");
    let profile = signature::sign(signature::PROFILE_TYPE, &bundle.payload(), &key).unwrap();
    assert_eq!(code(&open(&profile, &key, &roots(&shown))), "bundle-malformed");
    assert_eq!(code(&open("{}", &key, &roots(&shown))), "bundle-malformed");
    // Under the vendors' roots alone the forged machine is nobody's.
    let error = open(&text, &key, &Roots::vendors());
    assert!(matches!(error, BundleError::Unfit { .. }), "{error}");
    assert_ne!(code(&error), "");
}

#[test]
fn a_bundle_with_any_bit_changed_is_refused() {
    let (shown, key) = (machine(), SoftwareKey::generate().unwrap());
    let text = Bundle::of(entries(&shown, NOW), NOW).unwrap().sign(&key).unwrap();
    let (keys, roots) = ([key.public_key()], roots(&shown));
    let text = text.trim_end();
    let hint = text.find("\"keyid\":\"").unwrap() + 9;
    let (mut refused, mut hints) = (0, 0);
    for at in 0..text.len() {
        let mut changed = text.as_bytes().to_vec();
        changed[at] ^= 1 << (at % 7);
        match Bundle::open(&changed, &keys, &roots) {
            // Which key it says to be of is a hint that decides nothing.
            Ok(_) if (hint..hint + 64).contains(&at) => hints += 1,
            Ok(_) => panic!("accepted with byte {at} changed"),
            Err(_) => refused += 1,
        }
    }
    for end in (0..text.len()).step_by(11) {
        assert!(Bundle::open(&text.as_bytes()[..end], &keys, &roots).is_err(), "{end}");
    }
    for tail in ["x", "{}", "\0", text] {
        assert!(Bundle::open(format!("{text}{tail}").as_bytes(), &keys, &roots).is_err());
    }
    println!("{refused} changed bundles refused; {hints} changes of the key's hint change nothing");
    assert!(refused > 6_000 && hints <= 64);
}

/// What a signer could write by mistake or by malice: each byte of the payload, signed again.
#[test]
fn a_payload_that_is_not_what_the_vendors_signed_is_refused_under_any_signature() {
    let (shown, key) = (machine(), SoftwareKey::generate().unwrap());
    let payload = Bundle::of(entries(&shown, NOW), NOW + DAY).unwrap().payload();
    let (keys, roots) = ([key.public_key()], roots(&shown));
    // The times of fetching and of making are the signer's own word.
    let text = String::from_utf8(payload.clone()).unwrap();
    let free: Vec<_> = ["\"fetched_at\":\"", "\"made_at\":\""]
        .iter()
        .flat_map(|name| text.match_indices(name).map(|(at, name)| at + name.len()))
        .map(|at| at..at + 24)
        .collect();
    let (mut refused, mut own_word) = (0, 0);
    for at in 0..payload.len() {
        // Long stretches are bodies in base64, each byte of which is under one hash.
        if at % 5 != 0 && !free.iter().any(|span| span.contains(&at)) {
            continue;
        }
        let mut changed = payload.clone();
        changed[at] ^= 1 << (at % 7);
        let envelope = signature::sign(PAYLOAD_TYPE, &changed, &key).unwrap();
        match Bundle::open(envelope.as_bytes(), &keys, &roots) {
            Ok(_) if free.iter().any(|span| span.contains(&at)) => own_word += 1,
            Ok(_) => panic!("accepted with byte {at} changed: {}", &text[at - 9..at + 9]),
            Err(_) => refused += 1,
        }
    }
    println!(
        "{refused} changed payloads refused; {own_word} changed a time that the signer states"
    );
    assert!(refused > 900);
}

#[test]
fn an_older_bundle_is_refused_unless_told_and_never_brings_an_older_list_back() {
    let key = SoftwareKey::generate().unwrap();
    let dated = |this_update: &'static str| {
        let crl = RevocationDraft {
            this_update,
            next_update: "261001000000Z",
            ..RevocationDraft::empty()
        };
        Machine::milan().with(|m| m.crl = Some(crl)).show()
    };
    let (old, new) = (dated("260501000000Z"), dated("260531000000Z"));
    let made = |shown: &Shown, at: Time| {
        let text = Bundle::of(entries(shown, NOW), at).unwrap().sign(&key).unwrap();
        Bundle::open(text.as_bytes(), &[key.public_key()], &roots(shown)).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let cache = open_cache(folder.path(), &old);
    let (first, second) = (made(&old, NOW), made(&new, NOW + DAY));
    let now = NOW + DAY * 2;
    assert_eq!(first.import(&cache, now, false).unwrap().entries.len(), 3);
    assert_eq!(second.import(&cache, now, false).unwrap().older, vec![]);
    assert_eq!(second.import(&cache, now, false).unwrap().entries.len(), 3, "twice is once");
    let error = first.import(&cache, now, false).unwrap_err();
    assert_eq!(code(&error), "bundle-older");
    // By another key it is another line of bundles; the list in it stays older all the same.
    let told = first.import(&cache, now, true).unwrap();
    assert_eq!(told.older.len(), 1);
    let wanted = wanted(&new);
    let list = Subject::SnpCrl { product: wanted.product, kind: wanted.kind };
    assert_eq!(Some(cache.find(&list).unwrap().body().to_vec()), new.crl);
    // Neither does the switch make the old bundle the newest.
    assert!(first.import(&cache, now, false).is_err());
    let error = made(&new, NOW + DAY * 30).import(&cache, now, false).unwrap_err();
    assert!(matches!(error, BundleError::Future { .. }), "{error}");
    println!("an older bundle is refused, an older list kept out");
}

/// The files of the guide, of a forged machine; `ASSAY_BLESS=1` makes them anew. All but the
/// signature of the bundle is the same each time.
#[test]
fn the_files_of_the_guide_are_those_that_this_makes() {
    let shown = machine();
    let made = Bundle::of(entries(&shown, NOW), NOW).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/endorsements");
    if std::env::var_os("ASSAY_BLESS").is_some() {
        let key = SoftwareKey::generate().unwrap();
        fs::write(folder.join("site.bundle"), made.sign(&key).unwrap()).unwrap();
        fs::write(folder.join("site.pub"), key.public_key().to_spki()).unwrap();
        let other = SoftwareKey::generate().unwrap();
        fs::write(folder.join("other.pub"), other.public_key().to_spki()).unwrap();
        fs::write(folder.join("root.der"), &shown.ark).unwrap();
        fs::write(folder.join("report.bin"), &shown.report).unwrap();
    }
    let file = |name: &str| fs::read(folder.join(name)).unwrap();
    let key = assay_evidence::PublicKey::from_spki(&file("site.pub")).unwrap();
    let opened = Bundle::open(&file("site.bundle"), &[key], &roots(&shown)).unwrap();
    assert_eq!(opened.bundle.payload(), made.payload());
    assert_eq!(file("root.der"), shown.ark);
}

/// Several processes, each with its own memory of one folder, and the lists in any order: the
/// newest stays, on disk and for everybody.
#[test]
fn whoever_writes_last_the_newest_list_stays() {
    let dates =
        ["260501000000Z", "260508000000Z", "260515000000Z", "260522000000Z", "260530000000Z"];
    let shown: Vec<Shown> = dates
        .into_iter()
        .map(|this_update| {
            let next_update = "261001000000Z";
            let crl = RevocationDraft { this_update, next_update, ..RevocationDraft::empty() };
            Machine::milan().with(|m| m.crl = Some(crl)).show()
        })
        .collect();
    let list = |shown: &Shown| -> Arc<Entry> {
        let is_list = |entry: &&Arc<Entry>| matches!(entry.subject(), Subject::SnpCrl { .. });
        entries(shown, NOW).iter().find(is_list).unwrap().clone()
    };
    let lists: Vec<Arc<Entry>> = shown.iter().map(list).collect();
    let folder = tempfile::tempdir().unwrap();
    let kept: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|turn| {
                let (lists, shown, folder) = (&lists, &shown, &folder);
                scope.spawn(move || {
                    let cache = open_cache(folder.path(), &shown[0]);
                    let order =
                        (0..lists.len() * 4).map(|at| (at * (turn + 2) + turn) % lists.len());
                    order.filter(|at| cache.keep(Entry::clone(&lists[*at])).is_ok()).count()
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let newest = lists.last().unwrap();
    let cache = open_cache(folder.path(), &shown[0]);
    assert_eq!(cache.find(newest.subject()).unwrap(), *newest);
    assert!((1..80).contains(&kept), "{kept}");
    println!("{kept} of 80 lists were kept, {} were older than what was there", 80 - kept);
}

/// The record of imports keeps old bundles out: one that is spoilt stops imports, and is not begun
/// anew in silence.
#[test]
fn a_spoilt_record_of_imports_stops_them() {
    let (shown, key) = (machine(), SoftwareKey::generate().unwrap());
    let text = Bundle::of(entries(&shown, NOW), NOW).unwrap().sign(&key).unwrap();
    let opened = Bundle::open(text.as_bytes(), &[key.public_key()], &roots(&shown)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cache = open_cache(folder.path(), &shown);
    opened.import(&cache, NOW, false).unwrap();
    let record = folder.path().join("signers.json");
    let whole = fs::read(&record).unwrap();
    for spoilt in [&b""[..], b"{", b"[]", &whole[..whole.len() / 2]] {
        fs::write(&record, spoilt).unwrap();
        let error = opened.import(&cache, NOW, false).unwrap_err();
        assert!(matches!(error, BundleError::Cache(_)), "{error}");
        assert_eq!(error.findings(), vec![]);
    }
    fs::write(&record, whole).unwrap();
    assert!(opened.import(&cache, NOW, false).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_bytes_make_a_bundle_by_chance(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let key = [SoftwareKey::generate().unwrap().public_key()];
        prop_assert!(Bundle::open(&bytes, &key, &Roots::vendors()).is_err());
        prop_assert!(Bundle::open_unsigned(&bytes, &Roots::vendors()).is_err());
    }

    #[test]
    fn no_json_makes_a_bundle_by_chance(text in "[\\[\\]{}:,\"a-z0-9]{0,200}") {
        let key = SoftwareKey::generate().unwrap();
        let envelope = signature::sign(PAYLOAD_TYPE, text.as_bytes(), &key).unwrap();
        let keys = [key.public_key()];
        prop_assert!(Bundle::open(envelope.as_bytes(), &keys, &Roots::vendors()).is_err());
    }
}

// --- the command ---

/// A folder with a machine's evidence, its root, a key to sign bundles by, and its vendor.
struct Desk {
    folder: tempfile::TempDir,
    vendor: VendorStandIn,
}

impl Desk {
    fn snp() -> Desk {
        let shown = machine();
        let wanted = wanted(&shown);
        let chain = [tdx_forge::pem(&shown.issuer), tdx_forge::pem(&shown.ark)].concat();
        let vendor = VendorStandIn::of(BTreeMap::from([
            (wanted.vek_path().unwrap(), Reply::ok(shown.vek.clone())),
            (wanted.chain_path(), Reply::ok(chain)),
            (wanted.crl_path(), Reply::ok(shown.crl.clone().unwrap())),
        ]));
        let desk = Desk { folder: tempfile::tempdir().unwrap(), vendor };
        desk.write("report.bin", &shown.report);
        desk.write("root.der", &shown.ark);
        desk.keys();
        desk
    }

    fn tdx() -> Desk {
        let evidence = tdx_forge::Recipe::new().build();
        let vendor = VendorStandIn::of(intel_pages(&evidence.collateral, "platform"));
        let desk = Desk { folder: tempfile::tempdir().unwrap(), vendor };
        desk.write("quote.bin", &evidence.quote);
        desk.write("root.der", evidence.root.der());
        desk.keys();
        desk
    }

    fn keys(&self) {
        let key = SoftwareKey::generate().unwrap();
        self.write("site.key", key.pkcs8_der());
        self.write("site.pub", &key.public_key().to_spki());
        self.write("other.pub", &SoftwareKey::generate().unwrap().public_key().to_spki());
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    fn run(&self, arguments: &str) -> (Value, i32) {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        assay(self.folder.path(), &arguments)
    }
}

const AT: &str = "--at 2026-06-01T00:00:00Z --danger-extra-roots root.der";

#[test]
fn a_report_is_verified_where_there_is_no_way_out() {
    let desk = Desk::snp();
    let url = desk.vendor.url();
    let fetch = format!("endorsement fetch --report report.bin --amd {url} --every 1s {AT}");
    let (answer, exit) = desk.run(&fetch);
    assert_eq!((exit, answer["verdict"].as_str()), (0, Some("fetched")), "{answer}");
    assert_eq!(answer["entries"].as_array().unwrap().len(), 3);
    assert_eq!(answer["not_checked"], Value::Array(vec![]));
    // The second time nothing is asked.
    assert!(desk.vendor.distances().iter().all(|distance| distance.as_millis() >= 700));
    assert_eq!((answer["requests"].as_u64(), desk.vendor.requests()), (Some(3), 3));
    let (answer, _) = desk.run(&fetch);
    assert_eq!((answer["requests"].as_u64(), desk.vendor.requests()), (Some(0), 3));

    let (answer, exit) =
        desk.run(&format!("endorsement bundle --key site.key --out site.bundle {AT}"));
    assert_eq!((exit, answer["verdict"].as_str()), (0, Some("bundled")), "{answer}");
    desk.vendor.stop();

    let import = format!("endorsement import site.bundle --cache far {AT} --key");
    let (answer, exit) = desk.run(&format!("{import} other.pub"));
    assert_eq!((exit, answer["reason"].as_str()), (1, Some("bundle-signature-invalid")));
    let (answer, exit) = desk.run(&format!("{import} site.pub"));
    assert_eq!((exit, answer["verdict"].as_str()), (0, Some("imported")), "{answer}");
    let (answer, exit) = desk.run(&format!("endorsement list --cache far {AT}"));
    assert_eq!((exit, answer["verdict"].as_str()), (0, Some("listed")), "{answer}");
    let entries = answer["entries"].as_array().unwrap();
    let kinds: Vec<_> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["snp-crl", "snp-issuer", "snp-vcek"]);
    assert_eq!(entries[0]["days_left"].as_u64(), Some(30));

    for source in ["far", "site.bundle"] {
        let verify = format!("verify snp --report report.bin --endorsements {source} {AT}");
        let (answer, exit) = desk.run(&verify);
        assert_eq!((exit, answer["verdict"].as_str()), (0, Some("genuine")), "{answer}");
    }
    // Without them it is not.
    let (answer, exit) = desk.run(&format!("verify snp --report report.bin {AT}"));
    assert_eq!((exit, answer["reason"].as_str()), (1, Some("vek-missing")), "{answer}");
    // What ends soon is told.
    let soon = AT.replace("2026-06-01", "2026-06-27");
    let (answer, _) = desk.run(&format!("endorsement list --cache far {soon}"));
    assert_eq!(answer["warnings"][0]["code"].as_str(), Some("endorsement-ends-soon"));
    let late = AT.replace("2026-06-01", "2046-01-01");
    let (answer, exit) =
        desk.run(&format!("endorsement bundle --key site.key --out none.bundle {late}"));
    assert_eq!((exit, answer["verdict"].as_str()), (2, Some("error")), "{answer}");
}

#[test]
fn a_quote_is_verified_where_there_is_no_way_out() {
    let desk = Desk::tdx();
    let at = AT.replace("2026-06-01", "2026-06-15");
    let url = desk.vendor.url();
    let (answer, exit) =
        desk.run(&format!("endorsement fetch --quote quote.bin --intel {url} {at}"));
    assert_eq!((exit, answer["verdict"].as_str()), (0, Some("fetched")), "{answer}");
    let (_, exit) = desk.run(&format!("endorsement bundle --key site.key --out site.bundle {at}"));
    assert_eq!(exit, 0);
    for source in ["endorsements", "site.bundle"] {
        let verify = format!("verify tdx --quote quote.bin --endorsements {source} {at}");
        let (answer, exit) = desk.run(&verify);
        assert_eq!((exit, answer["verdict"].as_str()), (0, Some("genuine")), "{answer}");
    }
    let (answer, exit) = desk.run(&format!("verify tdx --quote quote.bin {at}"));
    assert_eq!((exit, answer["verdict"].as_str()), (2, Some("error")), "{answer}");
    fs::create_dir(desk.folder.path().join("empty")).unwrap();
    let (answer, exit) =
        desk.run(&format!("verify tdx --quote quote.bin --endorsements empty {at}"));
    assert_eq!((exit, answer["verdict"].as_str()), (2, Some("error")), "{answer}");
}

#[test]
fn what_cannot_be_had_or_does_not_hold_is_told_by_its_exit() {
    let desk = Desk::snp();
    let url = desk.vendor.url();
    let other = Machine::milan().with(|m| m.vek.extension(&[4], vec![0xc2; 64])).show();
    let path = wanted(&machine()).vek_path().unwrap();
    let chain = [tdx_forge::pem(&other.issuer), tdx_forge::pem(&other.ark)].concat();
    desk.vendor.answer(move |asked, _| match asked {
        asked if asked == path => Reply::ok(other.vek.clone()),
        asked if asked.ends_with("cert_chain") => Reply::ok(chain.clone()),
        _ => Reply::status(404),
    });
    let fetch = format!("endorsement fetch --amd {url} --every 0s {AT}");
    let (answer, exit) = desk.run(&format!("{fetch} --report report.bin"));
    assert_eq!((exit, answer["reason"].as_str()), (1, Some("vek-chip-mismatch")), "{answer}");
    desk.write("cut.bin", &[0; 100]);
    let (answer, exit) = desk.run(&format!("{fetch} --report cut.bin"));
    assert_eq!((exit, answer["reason"].as_str()), (1, Some("report-length")), "{answer}");
    desk.vendor.answer(|_, _| Reply::status(404));
    let (answer, exit) = desk.run(&format!("{fetch} --report report.bin"));
    assert_eq!((exit, answer["verdict"].as_str()), (2, Some("error")), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("status 404"), "{answer}");
    for wrong in ["", "--report report.bin --quote quote.bin", "--report report.bin --amd http://a"]
    {
        let (answer, exit) = desk.run(&format!("endorsement fetch {wrong}"));
        assert_eq!((exit, answer["verdict"].as_str()), (2, Some("error")), "{wrong}: {answer}");
    }
    desk.write("no.bundle", b"{}");
    let (answer, exit) = desk.run("endorsement import no.bundle --key site.pub --cache far");
    assert_eq!((exit, answer["verdict"].as_str()), (1, Some("malformed")), "{answer}");
    let (answer, exit) = desk.run("endorsement list --cache nowhere");
    assert_eq!((exit, answer["verdict"].as_str()), (2, Some("error")), "{answer}");
}
