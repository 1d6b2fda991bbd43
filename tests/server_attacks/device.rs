//! TPMs that are genuine and not good enough: bad firmware, a kind that the policy does not allow,
//! a virtual one that nothing ties to a machine; each beside the policy that bears it.

use std::fs;
use std::time::Duration;

use crate::host::channel;
use crate::house::House;

const POLICY: &str = "refresh_every = \"5s\"\nmax_age = \"30s\"\n";

/// Every firmware of the maker that swtpm names.
const ADVISORIES: &str = "as_of = \"2026-11-24\"\n[[advisory]]\nid = \"TEST-1\"\n\
    date = \"2026-01-01\"\nmanufacturer = \"id:00001014\"\nseverity = \"high\"\n\
    source = \"https://example.org/test-1\"\n";

async fn under(house: &mut House, policy: &str) {
    let path = |name: &str| house.folder.path().join(name);
    fs::write(path("policy.toml"), format!("{POLICY}{policy}\n")).unwrap();
    fs::write(path("known.toml"), ADVISORIES).unwrap();
    house.restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firmware_with_a_known_fault_is_refused_and_borne_only_until_a_date() {
    let mut house = House::with_its_own_clock().await;
    let host = house.admitted("host").await;
    host.attest(&house).await.unwrap();

    let known = "tpm_class = [\"software\"]\nadvisories = \"known.toml\"\n";
    under(&mut house, known).await;
    let refused = host.attest(&house).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code, "tpm-firmware-vulnerable");
    assert_eq!(refused.claims, ["tpm.firmware_version"]);
    let explained = house.explain(&refused.correlation_id).await;
    assert_eq!(explained.code, "tpm-firmware-vulnerable");

    let until = house.clock.now() + Duration::from_secs(60);
    let exception = format!(
        "{known}accept_advisories = [{{ id = \"TEST-1\", until = \"{until}\", because = \"swap\" }}]"
    );
    under(&mut house, &exception).await;
    let attested = host.attest(&house).await.unwrap();
    let connection = channel(&house, &attested).await;
    let outcome = host.refresh(&connection).await.unwrap();
    let warned: Vec<_> = outcome.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert!(warned.contains(&"tpm-firmware-vulnerable"), "{warned:?}");

    // The facts of the device are the node's: a refresh brings no certificate and is judged too.
    house.clock.advance(Duration::from_secs(61));
    let refused = host.refresh(&connection).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code, "tpm-firmware-vulnerable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_tpm_that_the_policy_does_not_allow_is_refused() {
    let mut house = House::open().await;
    let host = house.admitted("host").await;
    under(&mut house, "").await;
    let refused = host.attest(&house).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code, "tpm-class-not-allowed");
    under(&mut house, "tpm_class = [\"software\"]").await;
    host.attest(&house).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_tpm_that_nothing_ties_to_a_machine_is_refused_unless_the_policy_bears_it() {
    let mut house = House::open().await;
    let host = house.admitted("host").await;
    let path = house.folder.path().join("server.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("class = \"software\"", "class = \"vtpm\"")).unwrap();
    under(&mut house, "tpm_class = [\"vtpm\"]").await;
    let refused = host.attest(&house).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code, "vtpm-unbound");
    under(&mut house, "tpm_class = [\"vtpm\"]\nrequire_tee_binding = false").await;
    host.attest(&house).await.unwrap();
}
