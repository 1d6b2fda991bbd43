//! What a test of a running server and agent stands on.

use std::path::Path;
use std::time::Duration;

/// Waits for what others bring about, and says what it waited for in vain.
pub async fn until<T>(
    patience: Duration,
    what: &str,
    mut found: impl AsyncFnMut() -> Option<T>,
) -> T {
    let search = async {
        loop {
            if let Some(found) = found().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(patience, search).await {
        Ok(found) => found,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Of a server with keys in software that lets every TPM of this maker in.
pub fn server_config(root: &Path, issuer: &Path, port: u16) -> String {
    format!(
        "trust_domain = \"example.org\"\ndata_dir = \"server\"\nlisten = \"127.0.0.1:{port}\"\n\
         [bootstrap]\nbundle = \"bundle.pem\"\n\
         [keys]\ncustody = \"software\"\ndanger_software_keys = true\n\
         [nodes]\nprofile = \"profile.toml\"\npolicy = \"policy.toml\"\nadmit = [\"root\"]\n\
         [[nodes.ek_root]]\npath = \"{}\"\nintermediates = \"{}\"\nclass = \"software\"\n\
         admit = true\n",
        root.display(),
        issuer.display()
    )
}
