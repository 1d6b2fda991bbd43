#![allow(clippy::unwrap_used)]
use super::*;

fn text(pcr8: &str, state: &str) -> String {
    let zero = "00".repeat(32);
    format!(
        r#"schema = "firmware-profile/1"
id = "demo/swtpm"
serial = 1
root = "tpm2"
banks = ["sha256"]
[[component]]
name = "firmware"
on = [8, 0]
[[component.variant]]
name = "1"
state = "{state}"
pcr = {{ sha256 = {{ "0" = "{zero}", {pcr8} }} }}
"#
    )
}

fn eight() -> String {
    format!("\"8\" = \"{}\"", "11".repeat(32))
}

#[test]
fn a_literal_profile_parses() {
    let profile = Profile::parse(&text(&eight(), "active")).unwrap();
    assert_eq!((profile.id.as_str(), profile.serial), ("demo/swtpm", 1));
    let component = profile.components.first().unwrap();
    assert_eq!(component.on, [0, 8]);
    let variant = component.variants.first().unwrap();
    assert_eq!(variant.state, State::Active);
    assert_eq!(variant.literals[&HashAlgorithm::Sha256].len(), 2);
    assert!((9..=12).contains(&variant.line), "{}", variant.line);
}

#[test]
fn a_decided_register_without_value_is_refused() {
    let error = Profile::parse(&text("", "active")).unwrap_err().to_string();
    assert!(error.contains("1 of 2 registers"), "{error}");
}

#[test]
fn ill_formed_profiles_are_refused_with_the_cause() {
    let refused = |text: String| Profile::parse(&text).unwrap_err().to_string();
    assert!(refused(text("\"9\" = \"00\"", "active")).contains("not one of `on`"));
    assert!(refused(text("\"8\" = \"00\"", "active")).contains("not a sha256 value"));
    assert!(refused(text(&eight(), "retiring")).contains("needs `until`"));
    assert!(refused(text(&eight(), "live")).contains("expected candidate"));
    let good = text(&eight(), "active");
    assert!(refused(good.replace("[\"sha256\"]", "[\"sha1\"]")).contains("sha1 never decides"));
    assert!(refused(good.replace("on = [8, 0]", "on = [8, 0, 8]")).contains("once"));
    assert!(refused(good.replace("on = [8, 0]", "on = [8, 24]")).contains("0 to 23"));
    assert!(refused(good.replace("serial = 1", "serial = 1\nseriall = 2")).contains("seriall"));
    assert!(refused(good.replace("profile/1", "profile/2")).contains("firmware-profile/1"));
}
