//! Profiles and sets as files: which folder the sets are in, which envelope belongs to which file.
//!
//! The one place of this room that reads files. What it finds is parsed and, where keys are
//! configured, verified before anything of it is used.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use assay_evidence::PublicKey;

use crate::reference::Profile;
use crate::reference::ProfileError;
use crate::reference::Set;
use crate::reference::Sets;
use crate::reference::fields::MAX_TEXT;
use crate::reference::signature;

/// A profile stands at `<vendor>/<platform>/profile.toml` beside `sets/` of the whole collection.
const LEVELS: usize = 3;
const MAX_SETS: usize = 4_096;

#[derive(Debug)]
pub struct Loaded {
    pub profile: Profile,
    pub text: String,
    /// The profile's own folder: paths of its evidence start here.
    pub folder: PathBuf,
    pub path: PathBuf,
    /// SHA-256 of the key that signed it, where keys are configured.
    pub signer: Option<[u8; 32]>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{}` is longer than {MAX_TEXT} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("`{}`: {fault}", path.display())]
    Refused { path: PathBuf, fault: ProfileError },
}

/// Reads a profile, a folder meaning its `profile.toml`, and the sets around it. With `keys`, the
/// profile and each set have to be signed by one of them.
pub fn load(path: &Path, keys: &[PublicKey]) -> Result<Loaded, LoadError> {
    let path = match path.is_dir() {
        true => path.join("profile.toml"),
        false => path.to_path_buf(),
    };
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let text = read(&path)?;
    let mut library = Sets::default();
    let mut above = Some(folder.as_path());
    for _ in 0..LEVELS {
        let Some(folder) = above else { break };
        let sets = folder.join("sets");
        if sets.is_dir() {
            read_sets(&sets, keys, &mut library)?;
            break;
        }
        above = folder.parent();
    }
    let refused = |fault| LoadError::Refused { path: path.clone(), fault };
    let profile = Profile::parse_with(&text, &library).map_err(refused)?;
    let signer = match keys {
        [] => None,
        keys => Some(verify(&path, &profile.canonical, signature::PROFILE_TYPE, keys)?),
    };
    Ok(Loaded { profile, text, folder, path, signer })
}

fn read_sets(folder: &Path, keys: &[PublicKey], library: &mut Sets) -> Result<(), LoadError> {
    let failed = |source| LoadError::Read { path: folder.to_path_buf(), source };
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .take(MAX_SETS)
        .collect();
    paths.sort();
    for path in paths {
        let refused = |fault| LoadError::Refused { path: path.clone(), fault };
        let set = Set::parse(&read(&path)?).map_err(refused)?;
        if !keys.is_empty() {
            verify(&path, &set.canonical, signature::SET_TYPE, keys)?;
        }
        library.insert(set).map_err(refused)?;
    }
    Ok(())
}

/// `profile.toml.dsse` beside `profile.toml`.
pub fn envelope_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".dsse");
    PathBuf::from(name)
}

fn verify(
    path: &Path,
    canonical: &[u8],
    kind: &str,
    keys: &[PublicKey],
) -> Result<[u8; 32], LoadError> {
    let envelope = envelope_path(path);
    let refused = |fault| LoadError::Refused { path: path.to_path_buf(), fault };
    let text = read(&envelope).map_err(|_| {
        refused(ProfileError::Signature {
            what: path.display().to_string(),
            fault: format!("there is no `{}`", envelope.display()),
        })
    })?;
    signature::verify(&path.display().to_string(), kind, canonical, &text, keys).map_err(refused)
}

fn read(path: &Path) -> Result<String, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_path_buf(), source };
    let mut text = String::new();
    let most = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    fs::File::open(path).map_err(failed)?.take(most).read_to_string(&mut text).map_err(failed)?;
    match text.len() > MAX_TEXT {
        true => Err(LoadError::TooLong { path: path.to_path_buf() }),
        false => Ok(text),
    }
}
