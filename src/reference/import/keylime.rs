//! Keylime: the measured-boot reference state, the runtime policy, and the older allow list.
//!
//! The reference state has no order of events, so the rules of the draft are the shortest that an
//! honest boot of such a machine has; `assay profile explain` shows what to add. Excludes and
//! command lines are regular expressions, which no profile has: they are listed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use assay_evidence::crypto;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use serde_json::Map;
use serde_json::Value;

use crate::reference::import::Component;
use crate::reference::import::DECIDING;
use crate::reference::import::ImportError;
use crate::reference::import::Imported;
use crate::reference::import::Variant;
use crate::reference::import::json;
use crate::reference::profile::Root;
use crate::reference::set::DigestSet;
use crate::reference::set::Row;

/// Files of a large host.
const MAX_FILES: usize = 1_000_000;
const MAX_VARIANTS: usize = 256;

/// Whatever of the three it is.
pub fn import(bytes: &[u8]) -> Result<Imported, ImportError> {
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return allow_list(bytes);
    }
    let Value::Object(object) = json::parse(bytes)? else {
        return Err(ImportError::Json("no object".to_owned()));
    };
    match object.contains_key("digests") {
        true => runtime_policy(object),
        false => reference_state(object),
    }
}

// --- measured boot ----------------------------------------------------------------------------

fn reference_state(mut object: Map<String, Value>) -> Result<Imported, ImportError> {
    let origin = "imported: Keylime measured-boot reference state".to_owned();
    let mut imported = Imported::new(Root::Tpm2, origin);
    imported.banks = vec![HashAlgorithm::Sha256];
    firmware(&mut object, &mut imported)?;
    boot_chain(&mut object, &mut imported)?;
    secure_boot(&mut object, &mut imported)?;
    owner_keys(&mut object, &mut imported)?;
    for (key, value) in object {
        imported.not_imported.push(format!("`{key}`: {}", json::kind(Some(&value))));
    }
    if imported.components.is_empty() {
        return Err(ImportError::Nothing { told: imported.not_imported });
    }
    Ok(imported)
}

/// `scrtm_and_bios`: register 0, each entry a firmware version.
fn firmware(object: &mut Map<String, Value>, imported: &mut Imported) -> Result<(), ImportError> {
    let mut variants = Vec::new();
    let mut any_blob = false;
    for (at, entry) in list(object, "scrtm_and_bios")?.into_iter().enumerate() {
        let (Some(crtm), blobs) = (entry.get("scrtm"), entry.get("platform_firmware")) else {
            return Err(value("scrtm", entry.get("scrtm"), "digests by algorithm"));
        };
        let blobs = match blobs {
            Some(Value::Array(blobs)) => blobs.as_slice(),
            None => &[],
            other => return Err(value("platform_firmware", other, "a list")),
        };
        unknown(&entry, &["scrtm", "platform_firmware"], "scrtm_and_bios", imported);
        any_blob |= !blobs.is_empty();
        let rows = blobs.iter().map(sha256_of).collect::<Result<Vec<_>, _>>()?;
        let sets = BTreeMap::from([
            ((0, "crtm".to_owned()), ordered(vec![sha256_of(crtm)?])),
            ((0, "fw_blob".to_owned()), ordered(rows)),
        ]);
        let name = format!("firmware-{}", at + 1);
        variants.push(Variant { name, sets, ..Variant::default() });
    }
    if variants.is_empty() {
        return Ok(());
    }
    bounded(&variants)?;
    if !any_blob {
        for variant in &mut variants {
            variant.sets.retain(|(_, class), _| class != "fw_blob");
        }
    }
    let blobs = if any_blob { "fw_blob* " } else { "" };
    imported.components.push(Component {
        name: "firmware".to_owned(),
        on: vec![0],
        rules: BTreeMap::from([(0, format!("locality? crtm {blobs}separator"))]),
        variants,
        ..Component::default()
    });
    Ok(())
}

/// `kernels` or `uki_digest`: register 4, each entry a chain of images.
fn boot_chain(object: &mut Map<String, Value>, imported: &mut Imported) -> Result<(), ImportError> {
    let mut variants = Vec::new();
    let mut files = BTreeSet::new();
    for (at, entry) in list(object, "kernels")?.into_iter().enumerate() {
        let Value::Object(mut entry) = entry else {
            return Err(value("kernels", Some(&entry), "a list of objects"));
        };
        let name = format!("kernel-{}", at + 1);
        let mut images = Vec::new();
        for image in ["shim", "grub", "kernel"] {
            if let Some(found) = entry.remove(&format!("{image}_authcode_sha256")) {
                images.push(row(digest(&found)?));
            }
        }
        for file in ["kernel_plain_sha256", "vmlinuz_plain_sha256", "initrd_plain_sha256"] {
            if let Some(found) = entry.remove(file) {
                files.insert(digest(&found)?);
            }
        }
        for (key, left) in entry {
            imported.not_imported.push(format!("`{key}` of {name}: {}", json::kind(Some(&left))));
        }
        if images.is_empty() {
            imported.not_imported.push(format!("{name}: it names no image of register 4"));
            continue;
        }
        let sets = BTreeMap::from([((4, "boot_app".to_owned()), ordered(images))]);
        variants.push(Variant { name, sets, ..Variant::default() });
    }
    if let Some(uki) = object.remove("uki_digest") {
        let sets = BTreeMap::from([((4, "boot_app".to_owned()), ordered(vec![sha256_of(&uki)?]))]);
        variants.push(Variant { name: "uki".to_owned(), sets, ..Variant::default() });
    }
    if !files.is_empty() {
        let set = DigestSet { ordered: false, rows: files.into_iter().map(row).collect() };
        imported.digests.insert("keylime-boot-files".to_owned(), set);
        imported.not_imported.push(
            "kernel and initrd files: they are in the set `keylime-boot-files`, and no rule of \
             register 9 names it yet"
                .to_owned(),
        );
    }
    bounded(&variants)?;
    if !variants.is_empty() {
        imported.components.push(Component {
            name: "boot-chain".to_owned(),
            on: vec![4],
            rules: BTreeMap::from([(4, "action? separator boot_app+".to_owned())]),
            variants,
            ..Component::default()
        });
    }
    Ok(())
}

/// `pk`, `kek`, `db`, `dbx`: tests on what register 7 binds.
fn secure_boot(
    object: &mut Map<String, Value>,
    imported: &mut Imported,
) -> Result<(), ImportError> {
    let mut require = Vec::new();
    let mut any = object.contains_key("has_secureboot");
    match object.remove("has_secureboot") {
        None | Some(Value::Bool(true)) => {
            require.push("{ claim = \"sb.enabled\", is = true }".to_owned());
        }
        Some(Value::Bool(false)) => {
            imported.not_imported.push("`has_secureboot`: false asks for nothing".to_owned());
        }
        other => return Err(value("has_secureboot", other.as_ref(), "true or false")),
    }
    for (name, test) in [("pk", "within"), ("kek", "within"), ("db", "within"), ("dbx", "includes")]
    {
        let written = object.contains_key(name);
        any |= written;
        let words = list(object, name)?
            .iter()
            .map(|key| word(name, key))
            .collect::<Result<BTreeSet<_>, _>>()?;
        // Nothing that has to be revoked is no test; an empty list of keys admits no key.
        if !written || (words.is_empty() && test == "includes") {
            continue;
        }
        let set = format!("keylime-{name}");
        require.push(format!("{{ claim = \"sb.{name}\", {test} = \"@set:{set}\" }}"));
        imported.words.insert(set, words);
    }
    if any && !require.is_empty() {
        imported.components.push(Component {
            name: "secure-boot".to_owned(),
            on: vec![7],
            require,
            ..Component::default()
        });
    }
    Ok(())
}

/// `mokdig`, `mokxdig`: register 14.
fn owner_keys(object: &mut Map<String, Value>, imported: &mut Imported) -> Result<(), ImportError> {
    let mut rows = Vec::new();
    for name in ["mokdig", "mokxdig"] {
        for one in list(object, name)? {
            rows.push(sha256_of(&one)?);
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let set = DigestSet { ordered: false, rows };
    let sets = BTreeMap::from([((14, "mok".to_owned()), set)]);
    imported.components.push(Component {
        name: "machine-owner-keys".to_owned(),
        on: vec![14],
        rules: BTreeMap::from([(14, "mok*".to_owned())]),
        variants: vec![Variant { name: "listed".to_owned(), sets, ..Variant::default() }],
        ..Component::default()
    });
    Ok(())
}

/// A key or hash of a signature database, as our words have it.
fn word(name: &str, key: &Value) -> Result<String, ImportError> {
    let data = key.get("SignatureData");
    let bytes = data.and_then(Value::as_str).and_then(hex0x);
    let expected = "a certificate in DER or SHA-256 of an image, in hex";
    match bytes {
        Some(bytes) if bytes.len() == 32 => Ok(format!("sha256:{}", hex::encode(bytes))),
        // SEQUENCE with a length of two bytes: no certificate is shorter.
        Some(bytes) if bytes.starts_with(&[0x30, 0x82]) => {
            Ok(format!("x509:{}", hex::encode(crypto::sha256(&bytes))))
        }
        _ => Err(value(&format!("{name}.SignatureData"), data, expected)),
    }
}

// --- files ------------------------------------------------------------------------------------

/// Paths and digests; a name proves no place, so the digests alone are taken.
fn runtime_policy(mut object: Map<String, Value>) -> Result<Imported, ImportError> {
    let mut imported = Imported::new(Root::Tpm2, "imported: Keylime runtime policy".to_owned());
    let Some(Value::Object(digests)) = object.remove("digests") else {
        return Err(value("digests", None, "an object of paths"));
    };
    let mut found = Files::default();
    for (path, list) in digests {
        let Value::Array(list) = list else {
            return Err(value(&path, Some(&list), "a list of digests"));
        };
        for one in list {
            let text = one.as_str().ok_or_else(|| value(&path, Some(&one), "a digest in hex"))?;
            found.insert(&path, text)?;
        }
    }
    for key in ["meta", "release", "timestamp"] {
        object.remove(key);
    }
    for (key, left) in object {
        let empty = match &left {
            Value::Null => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(object) => object.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if !empty {
            imported.not_imported.push(format!("`{key}`: {}", json::kind(Some(&left))));
        }
    }
    found.into_sets(imported)
}

/// `HEX  PATH` on each line.
fn allow_list(bytes: &[u8]) -> Result<Imported, ImportError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| ImportError::Json("neither JSON nor an allow list".to_owned()))?;
    let mut found = Files::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((digest, path)) = line.split_once(char::is_whitespace) else {
            return Err(ImportError::Json("neither JSON nor lines of digest and path".to_owned()));
        };
        found.insert(path.trim(), digest)?;
    }
    found.into_sets(Imported::new(Root::Tpm2, "imported: Keylime allow list".to_owned()))
}

#[derive(Default)]
struct Files {
    by_bank: BTreeMap<HashAlgorithm, BTreeSet<Digest>>,
    weak: usize,
}

impl Files {
    fn insert(&mut self, path: &str, text: &str) -> Result<(), ImportError> {
        let bytes = hex::decode(text.strip_prefix("0x").unwrap_or(text)).unwrap_or_default();
        let bank = DECIDING.into_iter().find(|bank| bank.size() == bytes.len());
        match bank.and_then(|bank| Digest::new(bank, &bytes)) {
            Some(digest) => {
                self.by_bank.entry(digest.algorithm()).or_default().insert(digest);
            }
            None if bytes.len() == HashAlgorithm::Sha1.size() => {
                self.weak = self.weak.saturating_add(1);
            }
            None => {
                let found = format!("`{}`", text.chars().take(80).collect::<String>());
                let expected = "a digest in hex";
                return Err(ImportError::Value { at: path.to_owned(), found, expected });
            }
        }
        let count: usize = self.by_bank.values().map(BTreeSet::len).sum();
        match count > MAX_FILES {
            true => Err(ImportError::TooMany { what: "files", found: count, max: MAX_FILES }),
            false => Ok(()),
        }
    }

    fn into_sets(self, mut imported: Imported) -> Result<Imported, ImportError> {
        if self.weak > 0 {
            let told = format!("{} digests of sha1, which never decides", self.weak);
            imported.not_imported.push(told);
        }
        for (bank, digests) in self.by_bank {
            let name = format!("files-{bank}");
            let set = DigestSet { ordered: false, rows: digests.into_iter().map(row).collect() };
            imported.digests.insert(name.clone(), set);
            imported.files.push(name);
            imported.banks.push(bank);
        }
        if imported.digests.is_empty() {
            return Err(ImportError::Nothing { told: imported.not_imported });
        }
        Ok(imported)
    }
}

// --- pieces -----------------------------------------------------------------------------------

/// As many as a component of a profile may have.
fn bounded(variants: &[Variant]) -> Result<(), ImportError> {
    match variants.len() > MAX_VARIANTS {
        true => {
            Err(ImportError::TooMany { what: "variants", found: variants.len(), max: MAX_VARIANTS })
        }
        false => Ok(()),
    }
}

/// An absent list is an empty one.
fn list(object: &mut Map<String, Value>, key: &str) -> Result<Vec<Value>, ImportError> {
    match object.remove(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        other => Err(value(key, other.as_ref(), "a list")),
    }
}

fn unknown(entry: &Value, known: &[&str], at: &str, imported: &mut Imported) {
    let keys = entry.as_object().into_iter().flat_map(Map::keys);
    let others = keys.filter(|key| !known.contains(&key.as_str()));
    imported.not_imported.extend(others.map(|key| format!("`{key}` of {at}")));
}

/// `{ "sha256": "0x…" }`; a digest of sha1 beside it decides nothing.
fn sha256_of(digests: &Value) -> Result<Row, ImportError> {
    match digests.get("sha256") {
        Some(hex) => digest(hex).map(row),
        None => Err(value("digests", Some(digests), "one of sha256")),
    }
}

fn digest(hex: &Value) -> Result<Digest, ImportError> {
    let bytes = hex.as_str().and_then(hex0x);
    bytes
        .and_then(|bytes| Digest::new(HashAlgorithm::Sha256, &bytes))
        .ok_or_else(|| value("sha256", Some(hex), "`0x` and 64 hex digits"))
}

fn hex0x(text: &str) -> Option<Vec<u8>> {
    hex::decode(text.strip_prefix("0x")?).ok()
}

fn row(digest: Digest) -> Row {
    Row { digests: BTreeMap::from([(digest.algorithm(), digest)]), text_sha256: None }
}

const fn ordered(rows: Vec<Row>) -> DigestSet {
    DigestSet { ordered: true, rows }
}

fn value(at: &str, found: Option<&Value>, expected: &'static str) -> ImportError {
    ImportError::Value { at: at.to_owned(), found: json::kind(found), expected }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::reference::Profile;
    use crate::reference::Set;

    fn hexed(byte: u8) -> String {
        format!("0x{}", hex::encode([byte; 32]))
    }

    fn state() -> Value {
        let certificate = format!("0x3082{}", hex::encode([5; 64]));
        json!({
            "has_secureboot": true,
            "scrtm_and_bios": [{ "scrtm": { "sha256": hexed(1) },
                                 "platform_firmware": [{ "sha256": hexed(2) }] }],
            "pk": [{ "SignatureOwner": "x", "SignatureData": certificate }],
            "kek": [], "db": [{ "SignatureOwner": "x", "SignatureData": certificate }],
            "dbx": [{ "SignatureOwner": "x", "SignatureData": hexed(3) }],
            "vendor_db": [],
            "kernels": [{ "shim_authcode_sha256": hexed(4), "grub_authcode_sha256": hexed(5),
                          "kernel_authcode_sha256": hexed(6), "initrd_plain_sha256": hexed(7),
                          "kernel_cmdline": "root=.*" }],
            "mokdig": [{ "sha256": hexed(8) }], "mokxdig": []
        })
    }

    #[test]
    fn a_reference_state_is_a_profile_and_what_it_cannot_say_is_told() {
        let imported = import(state().to_string().as_bytes()).unwrap();
        let text = imported.profile("acme/old");
        let profile = Profile::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(profile.decided().into_iter().collect::<Vec<_>>(), [0, 4, 14]);
        let secure_boot = profile.components.iter().find(|c| c.name == "secure-boot").unwrap();
        assert_eq!(secure_boot.require.len(), 5);
        assert!(text.contains("# not imported: `kernel_cmdline` of kernel-1: `root=.*`"), "{text}");
        assert_eq!(imported.not_imported.len(), 3, "{:?}", imported.not_imported);
    }

    #[test]
    fn a_lone_switch_is_a_test_and_an_empty_list_admits_no_key() {
        let lone = import(br#"{"has_secureboot":true}"#).unwrap();
        assert_eq!(lone.components[0].require, ["{ claim = \"sb.enabled\", is = true }"]);
        let empty = import(br#"{"has_secureboot":true,"db":[],"dbx":[]}"#).unwrap();
        let profile = Profile::parse(&empty.profile("a/b")).unwrap();
        let require = &profile.components[0].require;
        assert_eq!(
            require.iter().map(|r| r.claim.as_str()).collect::<Vec<_>>(),
            ["sb.enabled", "sb.db"]
        );
        let one = crate::reference::requirement::Fact::Words(["x509:00".into()].into());
        assert!(require[1].differs(Some(&one)).is_some());
        assert!(import(br#"{"has_secureboot":false}"#).is_err());
    }

    #[test]
    fn kernels_have_an_end() {
        let mut state = state();
        let kernel = state["kernels"][0].clone();
        state["kernels"] = vec![kernel; 257].into();
        assert!(matches!(
            import(state.to_string().as_bytes()),
            Err(ImportError::TooMany { what: "variants", .. })
        ));
    }

    #[test]
    fn an_ill_formed_state_is_refused() {
        for (at, bad) in [
            ("/scrtm_and_bios/0/scrtm", json!({ "sha1": "0x00" })),
            ("/scrtm_and_bios/0/platform_firmware/0/sha256", json!("0x00")),
            ("/pk/0/SignatureData", json!("0x00")),
            ("/kernels/0", json!("x")),
            ("/kernels/0/shim_authcode_sha256", json!("00")),
            ("/has_secureboot", json!("yes")),
            ("/dbx", json!({})),
        ] {
            let mut state = state();
            *state.pointer_mut(at).unwrap() = bad;
            assert!(import(state.to_string().as_bytes()).is_err(), "{at}");
        }
        assert!(import(b"{}").is_err() && import(b"").is_err());
    }

    #[test]
    fn a_runtime_policy_and_an_allow_list_are_sets() {
        let policy = json!({
            "meta": { "version": 1 }, "release": 0,
            "digests": { "/bin/a": [hex::encode([1; 32]), hex::encode([1; 20])],
                         "/bin/b": [hex::encode([1; 32])] },
            "excludes": ["/tmp/.*"], "keyrings": {}, "ima": { "log_hash_alg": "sha1" },
            "verification-keys": "",
        });
        let imported = import(policy.to_string().as_bytes()).unwrap();
        let sets = imported.sets();
        assert_eq!(sets.len(), 1);
        Set::parse(&sets[0].1).unwrap();
        assert_eq!(imported.not_imported.len(), 3, "{:?}", imported.not_imported);
        let lines =
            format!("{}  /bin/a\n{} /bin/b c\n", hex::encode([1; 32]), hex::encode([2; 32]));
        assert_eq!(import(lines.as_bytes()).unwrap().digests["files-sha256"].rows.len(), 2);
        assert!(import(b"nothing of the kind").is_err());
        assert!(import(br#"{"digests":{"/a":["zz"]}}"#).is_err());
    }
}
