//! The packs that ship, file by file: `firmware-profiles/ek-roots/`.

/// The text of one shipped file.
macro_rules! shipped {
    ($($pack:literal: $($file:literal)*;)*) => {
        &[$(($pack, &[$((
            concat!($pack, "/", $file, ".toml"),
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/firmware-profiles/ek-roots/", $pack, "/", $file, ".toml",
            )),
        )),*])),*]
    };
}

/// (pack, its files as (name, text)).
pub(super) const PACKS: &[(&str, &[(&str, &str)])] = shipped! {
    "vendors": "amd" "ifx" "intc" "msft" "nsg" "ntc" "ntz" "stm";
    "legacy-sha1": "ifx" "ntc";
    "cloud-gce": "goog";
    "cloud-azure": "msft";
    "cloud-alibaba": "alibaba";
};
