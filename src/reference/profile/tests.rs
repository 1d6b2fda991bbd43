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

fn launch(head: &str, rest: &str) -> Result<Profile, ProfileError> {
    let value = "11".repeat(48);
    Profile::parse(&format!(
        "schema = \"firmware-profile/1\"\nid = \"a/b\"\nserial = 1\n{head}\n[[component]]\n\
         name = \"launch\"\non = [0]\n[[component.variant]]\nname = \"1\"\nstate = \"active\"\n\
         pcr = {{ sha384 = {{ \"0\" = \"{value}\" }} }}\n{rest}"
    ))
}

#[test]
fn a_launch_digest_has_no_events_and_one_bank() {
    let snp = "root = \"snp\"\nbanks = [\"sha384\"]";
    let profile = launch(snp, "[[floor]]\nproduct = \"Genoa\"\nsnp = 23\n").unwrap();
    assert_eq!(profile.floors.len(), 1);
    assert!(launch("root = \"tdx\"\nbanks = [\"sha384\"]", "").is_ok());
    for (head, rest) in [
        ("root = \"snp\"\nbanks = [\"sha384\", \"sha256\"]", ""),
        ("root = \"tdx\"\nbanks = [\"sha256\"]", ""),
        (snp, "[ima]\n"),
        (
            snp,
            "[[component]]\nname = \"x\"\non = [0]\nrequire = [{ claim = \"sb.enabled\", is = true }]\n",
        ),
        (snp, "[[floor]]\nproduct = \"Typo\"\n"),
        (snp, "[[floor]]\nproduct = \"Genoa\"\nsnpp = 23\n"),
        ("root = \"tdx\"\nbanks = [\"sha384\"]", "[[floor]]\nproduct = \"Genoa\"\n"),
    ] {
        assert!(launch(head, rest).is_err(), "{head} {rest}");
    }
}

#[test]
fn a_set_of_the_library_counts_however_its_name_is_quoted() {
    let set = |byte: &str| {
        let mut sets = Sets::default();
        let text = format!(
            "schema = \"reference-set/1\"\nname = \"files\"\nserial = 1\nsha256 = [\"{}\"]\n",
            byte.repeat(32)
        );
        sets.insert(Set::parse(&text).unwrap()).unwrap();
        sets
    };
    for quoted in
        ["\"@set:files\"", "'@set:files'", "\"\"\"@set:files\"\"\"", "\"\\u0040set:files\""]
    {
        let text = format!("{}[ima]\nallow = [{quoted}]\n", text(&eight(), "active"));
        let digest = |byte: &str| Profile::parse_with(&text, &set(byte)).unwrap().sha256;
        assert_ne!(digest("11"), digest("22"), "{quoted}");
    }
}
