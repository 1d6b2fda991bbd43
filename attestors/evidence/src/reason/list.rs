//! The list itself: code, meaning, likely cause, remedy. A flat table; nothing else lives here.

macro_rules! reasons {
    ($($name:ident $code:literal
        means $meaning:literal cause $cause:literal remedy $remedy:literal;)*) => {
        /// See the list in this file, or `docs/reference/reasons.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Reason { $(#[doc = $meaning] $name,)* }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable code: lower-case words joined by hyphens.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)* }
            }

            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$name => $meaning,)* }
            }

            pub const fn cause(self) -> &'static str {
                match self { $(Reason::$name => $cause,)* }
            }

            pub const fn remedy(self) -> &'static str {
                match self { $(Reason::$name => $remedy,)* }
            }
        }
    };
}

reasons! {
    // --- shape of what was sent ---------------------------------------------------------------
    TpmMalformed "tpm-malformed"
        means "A TPM structure is cut, has bytes too many, or says lengths that do not fit"
        cause "a damaged file, the wrong file, or forged evidence"
        remedy "collect the evidence again; if it comes from an agent, look at that host";
    TrailingBytes "trailing-bytes"
        means "Something stands behind the end of the evidence"
        cause "two files joined, or bytes added to make another hash"
        remedy "collect the evidence again and pass exactly one object per file";
    MessageMalformed "message-malformed"
        means "A message of the exchange cannot be read, or comes when another one is due"
        cause "peers of different versions, or a peer that does not follow the protocol"
        remedy "run the same version on both sides; `explain` with the correlation id says \
                which field";
    EvidenceMissing "evidence-missing"
        means "A piece of evidence that was asked for is not there"
        cause "an agent that cannot or will not give it: a bank left out, no event log, no \
               certification"
        remedy "look at the agent's log; if the TPM really lacks it, say so at the node's \
                admission";
    EvidenceTooLarge "evidence-too-large"
        means "A message or an item of evidence is larger than its limit"
        cause "a very long log, or an attempt to exhaust the server"
        remedy "compare with docs/reference/limits.md; shorten what the host measures";
    UnsupportedEvidence "unsupported-evidence"
        means "Evidence of a kind or algorithm that this build does not know"
        cause "newer hardware than this version knows"
        remedy "update, or use another kind of evidence on this host";

    // --- freshness and binding ----------------------------------------------------------------
    NonceMismatch "nonce-mismatch"
        means "The evidence was made for another nonce than the one of this exchange"
        cause "old evidence played again, or the wrong nonce on the command line"
        remedy "collect evidence for this nonce";
    NonceConsumed "nonce-consumed"
        means "The nonce of this evidence has been used before"
        cause "an answer sent twice, or recorded evidence played again"
        remedy "start a new exchange; if it repeats, somebody replays this host's evidence";
    ChallengeUnknown "challenge-unknown"
        means "The evidence answers a challenge of another exchange"
        cause "crossed connections, or an answer lent by another host"
        remedy "start a new exchange";
    ChallengeExpired "challenge-expired"
        means "The answer to the challenge came too late"
        cause "a slow TPM, a slow network, or a host under load"
        remedy "the agent tries again by itself; look at the TPM's speed if it repeats";
    AttestPurpose "attest-purpose"
        means "The evidence was made for another purpose than it is used for"
        cause "evidence of a refresh offered for an attestation, or the reverse"
        remedy "start the exchange that is meant";
    TrustDomainMismatch "trust-domain-mismatch"
        means "The evidence was made for another trust domain"
        cause "an agent that is configured for another server"
        remedy "compare `trust_domain` in both configurations";
    FaceNotAllowed "face-not-allowed"
        means "The evidence came through a protocol that this node may not use"
        cause "a plugin where a native agent is expected, or a relay that claims to have no channel"
        remedy "allow the face for this node if it is meant: `assay node update --face`";
    ChannelBinding "channel-binding"
        means "The evidence does not belong to the connection that carries it"
        cause "a relay between host and server, or a proxy that ends TLS"
        remedy "connect the agent directly, without a proxy that opens the connection";
    AkMismatch "ak-mismatch"
        means "The evidence was made by another attestation key than the one announced"
        cause "an agent that changed its key during the exchange, or evidence of another host"
        remedy "start a new exchange";

    // --- attestation key ----------------------------------------------------------------------
    AkNotRestricted "ak-not-restricted"
        means "The attestation key is not restricted, so it can sign invented statements"
        cause "a key made for signing, or a forged quote"
        remedy "create the attestation key with the attribute `restricted`";
    AkNotFixed "ak-not-fixed"
        means "The attestation key could leave its TPM"
        cause "fixedTPM or fixedParent is clear"
        remedy "create the attestation key inside the TPM, with both attributes";
    AkExternalOrigin "ak-external-origin"
        means "The attestation key was not made by the TPM"
        cause "sensitiveDataOrigin is clear: the key was imported"
        remedy "create the attestation key inside the TPM";
    AkAttributes "ak-attributes"
        means "The attestation key has attributes that no attestation key may have"
        cause "decrypt is set, sign is clear, or reserved bits are set"
        remedy "create a restricted signing key and nothing else";
    AkScheme "ak-scheme"
        means "The attestation key has no signing scheme of its own, or one that is not accepted"
        cause "an RSA key with scheme NULL, or an unusual algorithm"
        remedy "create the key as ECDSA P-256 with SHA-256, or RSA-2048 with RSASSA or RSAPSS";
    AkHierarchy "ak-hierarchy"
        means "The attestation key does not live in the endorsement hierarchy"
        cause "a key below the storage root, for which the TPM hides counters and firmware version"
        remedy "create the attestation key in the endorsement hierarchy";
    AkNotCertified "ak-not-certified"
        means "No certificate says that this attestation key belongs to a TPM"
        cause "the certificate is for another key, or its chain ends at no given root"
        remedy "pass the certificate of this key and the roots of its issuer";
    AkUnknown "ak-unknown"
        means "The attestation key is not the one enrolled for this node"
        cause "an attempt to refresh with a new key"
        remedy "attest in full, so that the new key is activated";
    ActivationFailed "activation-failed"
        means "The TPM with this endorsement key does not hold this attestation key"
        cause "keys of two different TPMs, or a key outside of any TPM"
        remedy "restart the agent; if it repeats, the host claims another TPM's certificate";

    // --- endorsement key ----------------------------------------------------------------------
    EkCertMalformed "ek-cert-malformed"
        means "There is no certificate in what was given as endorsement certificate"
        cause "an empty or damaged NV index"
        remedy "read the certificate again, or fetch it from the vendor and pass it by \
                configuration";
    EkKeyCertMismatch "ek-key-cert-mismatch"
        means "The endorsement certificate is for another key than the one shown"
        cause "a persistent handle that holds another key, or a borrowed certificate"
        remedy "let the agent create the key from its template";
    EkTemplateUnknown "ek-template-unknown"
        means "The endorsement key does not follow a known template"
        cause "a public area made by the client, with other algorithms or another policy"
        remedy "use a TPM whose endorsement key follows the TCG profile";
    EkProfile "ek-profile"
        means "The certificate is genuine but not one of an endorsement key"
        cause "a certificate of another product of the same vendor"
        remedy "pass the endorsement certificate of the TPM";
    EkChainUntrusted "ek-chain-untrusted"
        means "The endorsement certificate leads to none of the pinned roots"
        cause "an intermediate is missing, or the vendor's root is not configured"
        remedy "add the intermediate to `intermediates`, or the root to `ek_root` if you trust it";
    EkChainInvalid "ek-chain-invalid"
        means "A certificate above the endorsement certificate breaks a rule of chains"
        cause "an issuer that is no CA, a path that is too long, or a signature that does not \
               verify"
        remedy "compare the chain with the vendor's published one";
    EkCriticalExt "ek-critical-ext"
        means "A certificate has a critical extension that is not understood here"
        cause "a new kind of certificate"
        remedy "report it with the certificate; it cannot be accepted before it is understood";
    EkNameConstraint "ek-name-constraint"
        means "A certificate names something that its issuer may not certify"
        cause "an issuer with name constraints"
        remedy "compare the chain with the vendor's published one";
    EkExpired "ek-expired"
        means "A certificate of the endorsement chain is outside of its dates"
        cause "an expired vendor intermediate, or a wrong clock"
        remedy "look at the server's clock; see the vendor's newer intermediate";
    EkRootsMalformed "ek-roots-malformed"
        means "A pack of EK roots cannot be read, or says what its certificates do not say"
        cause "a file edited by hand, or two files for one certificate"
        remedy "the place that is named tells what to put right; shipped packs are made anew by \
                `cargo run --example ek_roots`";
    EkRevoked "ek-revoked"
        means "A certificate of the endorsement chain is revoked"
        cause "the vendor withdrew it"
        remedy "ask the vendor; replace the TPM or the machine";
    CertSignatureWeak "cert-signature-weak"
        means "A certificate of the chain is signed over a weak hash"
        cause "an old vendor CA"
        remedy "a warning for SHA-1; MD5 is refused: ask the vendor for a newer certificate";
    KeyWeak "key-weak"
        means "A key is too short, has a bad exponent, or is no point of its curve"
        cause "an old or a forged key"
        remedy "use a key of RSA 2048 bits or more, or of a NIST curve";
    KeyRoca "key-roca"
        means "An RSA key was made by the library whose keys can be factored (CVE-2017-15361)"
        cause "an old Infineon TPM firmware"
        remedy "update the TPM's firmware and make new keys, or replace it";

    // --- signatures ---------------------------------------------------------------------------
    SigScheme "sig-scheme"
        means "The signature is of another scheme or hash than its key has"
        cause "the wrong key, or a signature that was altered"
        remedy "pass the public key that made the quote";
    SigInvalid "sig-invalid"
        means "The signature does not verify"
        cause "altered evidence, or the wrong key"
        remedy "collect the evidence again; pass the public key that made it";
    SignatureHashWeak "signature-hash-weak"
        means "The statement is signed over a hash that is weaker than asked for"
        cause "an attestation key with a SHA-1 scheme"
        remedy "create the attestation key with SHA-256, or lower `--min-hash` knowingly";
    AttestMagic "attest-magic"
        means "The signed statement was not made by a TPM"
        cause "an unrestricted key signed something that looks like a quote"
        remedy "treat the key as compromised";
    AttestType "attest-type"
        means "The TPM signed another kind of statement than the one expected"
        cause "a certification where a quote belongs, or the reverse"
        remedy "pass the right file for each option";

    // --- registers ----------------------------------------------------------------------------
    PcrSelection "pcr-selection"
        means "The quote covers other registers than asked for"
        cause "fewer or other registers selected, or a list that was relabelled"
        remedy "quote exactly the registers that are asked for";
    PcrNotSigned "pcr-not-signed"
        means "A register value stands beside the quote that the quote does not cover"
        cause "a file with more registers than were quoted"
        remedy "list only what was quoted";
    PcrDigestMismatch "pcr-digest-mismatch"
        means "The register values are not those that were signed"
        cause "a register was extended between reading and quoting, or the values were altered"
        remedy "collect the evidence again";
    PcrBankWeak "pcr-bank-weak"
        means "A register is covered only by banks that are too weak to decide"
        cause "a TPM with only its SHA-1 bank switched on"
        remedy "switch the SHA-256 bank on in the firmware setup";
    BanksInconsistent "banks-inconsistent"
        means "Two banks of one TPM tell different boots"
        cause "a bank that the firmware does not extend and that was filled afterwards"
        remedy "update the firmware, or switch the unused bank off";
    RegisterMismatch "register-mismatch"
        means "A register differs from what the profile expects"
        cause "other firmware, another setting, another boot loader or kernel than the profile \
               knows"
        remedy "if the change is wanted, admit it as a new variant in the profile; if not, look \
                at the host";
    ProfileMissing "profile-missing"
        means "No profile says how this machine should look"
        cause "a node without a profile and no default"
        remedy "learn a profile from a good machine and name it in `[nodes]` or at admission";
    VariantRevoked "variant-revoked"
        means "The machine fits a variant of its profile that was revoked"
        cause "firmware or a kernel that is known to be bad and was not updated"
        remedy "update the machine; a revoked variant wins over every other";

    // --- logs ---------------------------------------------------------------------------------
    LogAlg "log-alg"
        means "The event log uses another algorithm than its header says"
        cause "a log whose digests were relabelled"
        remedy "collect the log again";
    LogMalformed "log-malformed"
        means "The event log cannot be read"
        cause "a cut log, an unknown format, or a log made to exhaust the reader"
        remedy "collect the log again; send it with a bug report if it is genuine";
    LogReplayMismatch "log-replay-mismatch"
        means "The event log does not lead to the quoted registers"
        cause "an event was added, removed, moved or changed"
        remedy "collect log and quote together; if it repeats, do not trust the host";
    LogEventUnbound "log-event-unbound"
        means "An event says something that its digest does not bind"
        cause "text that was changed under an unchanged digest"
        remedy "do not trust what the log says; look at the host";
    ImaMalformed "ima-malformed"
        means "The IMA list cannot be read"
        cause "a cut list or an unknown template"
        remedy "collect the list again";
    ImaViolation "ima-violation"
        means "The IMA list has a violation: a file changed while it was measured"
        cause "a file open for writing while it was executed"
        remedy "find the file in the list; restart the host after fixing it";
    ImaTemplateUnknown "ima-template-unknown"
        means "An entry of the IMA list follows a template that is not known here"
        cause "a newer kernel, or a cut list"
        remedy "name the template in a report; use a built-in template or known fields until then";
    ImaBootAggregate "ima-boot-aggregate"
        means "The IMA list does not begin with the boot whose registers are quoted"
        cause "a list of another boot, a kernel without its TPM, or a kexec that was not measured"
        remedy "reboot the host; measure kexec by policy where it is used";
    ImaTemplateHashMismatch "ima-template-hash-mismatch"
        means "A digest column of the IMA list is not the hash of its entry"
        cause "a list whose unsigned column was altered"
        remedy "a warning: the replayed value counts, not the column";

    // --- counters, clock, firmware ------------------------------------------------------------
    ClockUnsafe "clock-unsafe"
        means "The TPM does not vouch that its clock never ran backwards"
        cause "the machine lost power without a shutdown"
        remedy "a warning; it clears by itself after a while";
    ClockRegression "clock-regression"
        means "The TPM's counters went back"
        cause "a TPM that was cleared or replaced, or an old state restored"
        remedy "if the TPM was cleared on purpose: `assay node reset-counters`";
    ClockBehind "clock-behind"
        means "The server's clock is behind what its own records say"
        cause "a clock that was set back while the server was down"
        remedy "set the clock; agents attest again by themselves";
    ResetUnexplained "reset-unexplained"
        means "The TPM was reset between two statements that belong together"
        cause "a restart during the exchange, or a reset of the TPM alone"
        remedy "start a new exchange; if it repeats, look at the hardware";
    CloneSuspected "clone-suspected"
        means "Two machines seem to speak with one TPM's identity"
        cause "two agents on one TPM, or a copied virtual TPM"
        remedy "find both, stop one, then `assay node release`";
    IdentityChanged "identity-changed"
        means "A node shows another hardware identity than before"
        cause "a replaced TPM or mainboard, or a copied state folder"
        remedy "admit the new identity if the hardware was replaced";
    TpmFirmwareVulnerable "tpm-firmware-vulnerable"
        means "The TPM runs firmware with a known fault"
        cause "an old TPM firmware"
        remedy "update it, or allow this version in the policy until a date";
    TpmClassNotAllowed "tpm-class-not-allowed"
        means "This kind of TPM is not allowed by the policy"
        cause "a software or virtual TPM where a hardware one is asked for"
        remedy "use hardware, or list the class in `tpm_class` knowingly";
    VtpmUnbound "vtpm-unbound"
        means "Nothing ties this virtual TPM to a confidential machine"
        cause "no TEE report that covers the attestation key"
        remedy "use the platform's report that names the key, or allow plain virtual TPMs";
    TeeUnlinked "tee-unlinked"
        means "The report of the processor does not name the TPM's key, so each may be of another \
               machine"
        cause "an agent that asks for a report without the key, or a report of another machine"
        remedy "let the agent of this machine collect both; `require_link = false` bears it as a \
                warning";

    // --- keys that are certified --------------------------------------------------------------
    SvidKeyNotCertified "svid-key-not-certified"
        means "The TPM did not certify the key that asks for the identity"
        cause "a key in software, or a certification of another key"
        remedy "let the agent keep its key in the TPM, or set `key_in_tpm = false` knowingly";
    SvidKeyHierarchy "svid-key-hierarchy"
        means "The certified key does not die with the boot"
        cause "a key outside of the null hierarchy"
        remedy "let the agent create its key under the null hierarchy";
    KeyNotFixed "key-not-fixed"
        means "The certified key could leave its TPM"
        cause "fixedTPM, fixedParent or sensitiveDataOrigin is clear"
        remedy "create the key inside the TPM, with these attributes";
    KeyAttributes "key-attributes"
        means "The certified key has other attributes or another scheme than asked for"
        cause "a restricted key, a decryption key, or a key without a scheme"
        remedy "create the key with the attributes of the reference";
    KeyNameMismatch "key-name-mismatch"
        means "The certification is of another key than the public area shown"
        cause "the wrong public file, or an altered public area"
        remedy "pass the public area of the key that was certified";
    DevidKeyMismatch "devid-key-mismatch"
        means "The device identity certificate is for another key than the TPM certified"
        cause "a software key with a borrowed certification"
        remedy "pass the certificate of the certified key";
    CustodyUnproved "custody-unproved"
        means "The server could not prove where its issuing keys live"
        cause "its own TPM refuses, or its endorsement chain is not configured"
        remedy "look at the first error of the server's log; configure `[custody]`";

    // --- confidential computing: chains, revocation, binding ---------------------------------
    ReportDataMismatch "report-data-mismatch"
        means "The report was made for other report data than expected"
        cause "an old report played again, a report of another exchange, or the wrong value given"
        remedy "collect a report for this binding";
    CertMalformed "cert-malformed"
        means "A certificate of the chain cannot be read, or lacks what such a certificate says"
        cause "a damaged file, the wrong file, or a certificate that was altered"
        remedy "fetch the certificate again from the vendor";
    CertSignatureAlgorithm "cert-signature-algorithm"
        means "A certificate is signed by another algorithm or other parameters than its vendor uses"
        cause "a certificate that was altered, or not made by this vendor"
        remedy "fetch the certificate again from the vendor";
    CertExpired "cert-expired"
        means "A certificate of the chain is outside of its dates"
        cause "old collateral, evidence judged later than it was made, or a wrong clock"
        remedy "judge old evidence at its own time (`--at`); fetch fresh certificates for new";
    CertRevoked "cert-revoked"
        means "A certificate of the chain is on its root's revocation list"
        cause "the vendor withdrew it"
        remedy "ask the vendor for a new certificate; do not trust the host meanwhile";
    CrlInvalid "crl-invalid"
        means "The revocation list is not signed by an issuer of this chain, or of a kind not read"
        cause "the list of another issuer, one that was altered, or one of changes only"
        remedy "fetch the full list of the issuer that stands in the certificate";
    CrlMalformed "crl-malformed"
        means "The revocation list is not one, or not in its one encoding"
        cause "a page of a proxy instead of the list, a download that broke off, or a crafted list"
        remedy "fetch the list again and look at what came";
    CrlStale "crl-stale"
        means "The revocation list is not in force at the time of judging"
        cause "a list that was not renewed, or one that is newer than the evidence is judged at"
        remedy "fetch the list of the issuer again; a newer one may revoke what this one does not";
    IssuerNotCa "issuer-not-ca"
        means "A certificate was issued by one that may not issue any"
        cause "an end certificate used as an issuer"
        remedy "pass the vendor's chain";
    ChainMissing "chain-missing"
        means "The certificate of an issuer is not there"
        cause "an incomplete chain"
        remedy "pass the vendor's chain";
    ChainBroken "chain-broken"
        means "A certificate between the key and the root is not signed by the one above it"
        cause "certificates of different chains mixed, or one that was altered"
        remedy "fetch the chain again from the vendor";
    RootNotTrusted "root-not-trusted"
        means "The chain ends at a root that is not pinned"
        cause "test hardware, or a root that somebody made"
        remedy "for test hardware pass the root by `--danger-extra-roots` knowingly";
    RootOperatorSupplied "root-operator-supplied"
        means "The evidence leads to a root that the operator supplied, not to the vendor's"
        cause "test hardware, given through `danger_extra_roots`"
        remedy "allow it in the policy of a test, never in production";

    // --- endorsements -------------------------------------------------------------------------
    EndorsementUnavailable "endorsement-unavailable"
        means "What a vendor says of this hardware cannot be had now, so the evidence cannot be \
               verified"
        cause "the vendor's service is off, out of reach or slow to answer; a bundle that was not \
               renewed; hardware that the vendor does not know"
        remedy "look at the server's log; fetch it by hand (`assay endorsement fetch`) or import a \
                bundle (`assay endorsement import`); docs/guides/endorsements.md";
    EndorsementEndsSoon "endorsement-ends-soon"
        means "A certificate, revocation list or collateral of a vendor ends within seven days"
        cause "a service that has been out of reach for long, or a bundle that is to be renewed"
        remedy "fetch it again, or import a newer bundle, before evidence is refused for it";
    BundleMalformed "bundle-malformed"
        means "The file is no bundle of endorsements, or not as one is written"
        cause "another file, one that was changed or cut, or one of another version"
        remedy "make the bundle again: `assay endorsement bundle`";
    BundleSignatureInvalid "bundle-signature-invalid"
        means "The bundle of endorsements was not signed by the key that was given"
        cause "the key of somebody else, or a bundle that was changed on its way"
        remedy "compare the key with the one that your site signs its bundles by";
    BundleOlder "bundle-older"
        means "The bundle was made before one of the same key that was imported already, or in the \
               future"
        cause "an old file played again, which would bring back what was revoked since; or a \
               wrong clock"
        remedy "import the newest bundle; `--danger-older` if it is the old one that is wanted";
    // --- snp ----------------------------------------------------------------------------------
    ReportLength "report-length"
        means "The report is not exactly as long as a report is"
        cause "a cut file, padding that was not stripped, or another kind of file"
        remedy "pass the 1184 bytes of the report and nothing else";
    ReportVersion "report-version"
        means "The report is of a version that is not known here"
        cause "newer firmware than this build knows, or not a report"
        remedy "update; an unknown version is never read as an older one";
    ReportSigAlgo "report-sig-algo"
        means "The report names a signature algorithm that is not known"
        cause "not a report, or one that was altered"
        remedy "collect the report again";
    ReportReservedBits "report-reserved-bits"
        means "Bits of the report are set that its version reserves"
        cause "a report that was altered, or firmware that this build does not know"
        remedy "collect the report again; report it if it is genuine";
    SnpGuestPolicyInvalid "snp-guest-policy-invalid"
        means "The report has a guest policy that no guest can be launched with"
        cause "a report that was altered"
        remedy "collect the report again";
    HostCertsMalformed "host-certs-malformed"
        means "The host's certificate table cannot be read"
        cause "a table that was cut, or that the host filled wrongly"
        remedy "look at what the host stores for its guests; or pass `--vek` and `--chain`";
    SigningKeyNone "signing-key-none"
        means "The report says that no key signed it"
        cause "a host that switched signing off"
        remedy "ask the host's operator; such a report proves nothing";
    ChipKeyMasked "chip-key-masked"
        means "The host withheld the chip's key, so the report is not signed"
        cause "MaskChipKey in the host's configuration"
        remedy "ask the host's operator to clear it, or to load a VLEK";
    VekMissing "vek-missing"
        means "There is no certificate of the key that signed the report"
        cause "no certificate in the host's table and none given"
        remedy "fetch it from the vendor for this chip and TCB: `assay endorsement fetch`";
    VekKindMismatch "vek-kind-mismatch"
        means "The report was signed by another kind of key than the certificate is of"
        cause "a VLEK certificate beside a report signed by a VCEK, or the reverse"
        remedy "pass the certificate of the key that the report names";
    VekWrongIssuer "vek-wrong-issuer"
        means "The certificate's issuer is not the one for its kind of key"
        cause "a VLEK below an ASK, or a VCEK below an ASVK"
        remedy "pass the chain that belongs to this kind of key";
    VekNotSignedByAmd "vek-not-signed-by-amd"
        means "The certificate of the key is not signed by the issuer that it names"
        cause "a certificate that somebody made, or one that was altered"
        remedy "fetch it from the vendor; do not trust the host that gave it";
    ProductMismatch "product-mismatch"
        means "Report, certificate and chain are not of one processor generation"
        cause "files of different machines, or the chain of another product"
        remedy "pass certificate and chain of the product that made the report";
    VekChipMismatch "vek-chip-mismatch"
        means "The certificate is of another chip than the report"
        cause "files of different machines"
        remedy "fetch the certificate for the chip id of the report";
    VekTcbMismatch "vek-tcb-mismatch"
        means "The certificate is for another TCB than the report states"
        cause "firmware was updated between the two, or files of different machines"
        remedy "fetch the certificate for the reported TCB";
    TcbOrder "tcb-order"
        means "The TCB versions of the report contradict each other"
        cause "a report that no firmware makes"
        remedy "collect the report again; report it if it is genuine";
    ReportSignatureInvalid "report-signature-invalid"
        means "The signature on the report does not verify"
        cause "a report that was altered, or the certificate of another chip"
        remedy "collect the report again; pass the certificate of this chip and TCB";
    SnpGuestPolicyDebug "snp-guest-policy-debug"
        means "The host may read and write the memory of this guest"
        cause "a guest launched with DEBUG in its policy"
        remedy "launch it without; debugging and secrets do not go together";
    SnpGuestPolicyMigrateMa "snp-guest-policy-migrate-ma"
        means "A migration agent may move this guest, with its memory, to another machine"
        cause "a guest launched with MIGRATE_MA in its policy"
        remedy "launch it without, or allow its migration agent in the policy";
    SnpGuestPolicyWeak "snp-guest-policy-weak"
        means "The guest's policy allows what the appraisal policy does not"
        cause "a guest launched with weaker demands: SMT, an old ABI, several sockets"
        remedy "launch it with the demands that the finding names";
    SnpPlatform "snp-platform"
        means "The platform has a setting that the policy does not want"
        cause "SMT on, an alias check that was not made, a protection that is off"
        remedy "change the host's firmware setup, or the policy line that the finding names";
    VmplNotAllowed "vmpl-not-allowed"
        means "The report was asked for at a privilege level that the policy does not allow"
        cause "a report that the host asked for, or a guest's less privileged part"
        remedy "ask for the report inside of the guest, at the level that the policy names";
    ChipIdMasked "chip-id-masked"
        means "The report hides which chip made it"
        cause "MaskChipId in the host's configuration"
        remedy "ask the host's operator to clear it, or allow it in the policy";
    SnpTcbBelowFloor "snp-tcb-below-floor"
        means "The platform's TCB is below what the policy asks for"
        cause "firmware or microcode that was not updated, or not committed"
        remedy "update the host to what the finding names, and commit it";
    SnpFirmwareBelowFloor "snp-firmware-below-floor"
        means "The platform's SNP firmware is older than the policy asks for"
        cause "firmware that was not updated, or not committed"
        remedy "update the host's SNP firmware, and commit it";
    SnpFirmwareProvisional "snp-firmware-provisional"
        means "The platform runs firmware that is not committed and may still be rolled back"
        cause "an update that is being tried out; common in the field"
        remedy "commit the firmware, or allow provisional firmware in the policy";
    SnpMitigationMissing "snp-mitigation-missing"
        means "The platform lacks a mitigation that the policy asks for"
        cause "firmware that was not updated, or a report too old to say"
        remedy "update the host's firmware";
    SnpMeasurementUnknown "snp-measurement-unknown"
        means "The guest was launched with another measurement than expected"
        cause "another firmware, kernel or command line than the reference"
        remedy "compare `assay profile predict snp` with what was launched";
    SnpIdentityUnknown "snp-identity-unknown"
        means "The guest carries another identity block, host data or chip than expected"
        cause "a guest of another owner, or another machine"
        remedy "look at who launched it; add the value to the policy if it is wanted";
    SnpGenerationTier "snp-generation-tier"
        means "This processor generation is trusted less than the policy asks for"
        cause "a generation whose keys are known to leak, or hardware of no vendor"
        remedy "use a newer generation, or name the chip in the policy's list";

    // --- tdx ----------------------------------------------------------------------------------
    QuoteMalformed "quote-malformed"
        means "The quote is cut, says sizes that do not fit, or is not a TDX quote by a P-256 key"
        cause "a damaged file, the wrong file, or forged evidence"
        remedy "collect the quote again";
    QuoteVersion "quote-version"
        means "The quote is of a version in which no trust domain speaks"
        cause "a quote of an SGX enclave, or hardware newer than this build knows"
        remedy "pass the quote of a trust domain, version 4 or 5; update for newer ones";
    QeReportSignatureInvalid "qe-report-signature-invalid"
        means "The quoting enclave's report is not signed by the platform's certified key"
        cause "a quote that was altered, or certificates of another platform"
        remedy "collect the quote again";
    QeBinding "qe-binding"
        means "The quoting enclave speaks of another attestation key than the one that signed"
        cause "a quote put together from two, or one that was altered"
        remedy "collect the quote again; if it repeats, do not trust the host";
    QeIdentityMismatch "qe-identity-mismatch"
        means "The enclave that made the quote is not the vendor's quoting enclave"
        cause "an enclave that somebody made, or collateral for another kind of quote"
        remedy "use the vendor's quoting enclave and its identity in the collateral";
    QuoteSignatureInvalid "quote-signature-invalid"
        means "The signature on the quote does not verify"
        cause "a quote that was altered"
        remedy "collect the quote again";
    CollateralMalformed "collateral-malformed"
        means "The collateral cannot be read, or says something twice"
        cause "a damaged file, another format, or a document that was altered"
        remedy "fetch the collateral again: `assay endorsement fetch`";
    CollateralMissing "collateral-missing"
        means "Without collateral nothing is known of the platform's TCB or of revocation"
        cause "no collateral given for this evidence"
        remedy "fetch it: `assay endorsement fetch`";
    CollateralSignatureInvalid "collateral-signature-invalid"
        means "A document of the collateral is not signed by the vendor's TCB signing key"
        cause "a document that was altered, or one of another source"
        remedy "fetch the collateral again from the vendor";
    CollateralExpired "collateral-expired"
        means "The collateral is older than it may be at the time of judging"
        cause "a bundle that was not renewed, old collateral played again, or a wrong clock"
        remedy "fetch it again; judge old evidence at its own time (`--at`)";
    CollateralNotYetValid "collateral-not-yet-valid"
        means "The collateral is of a later date than the time of judging"
        cause "a wrong clock, or evidence judged at a time before its collateral"
        remedy "compare the clock; judge with the collateral of that time";
    FmspcMismatch "fmspc-mismatch"
        means "The collateral is for another kind of processor"
        cause "files of different machines"
        remedy "fetch the collateral for the FMSPC that the finding names";
    PceidMismatch "pceid-mismatch"
        means "The collateral is for another provisioning enclave"
        cause "files of different machines"
        remedy "fetch the collateral for the platform of the quote";
    PckChainMismatch "pck-chain-mismatch"
        means "The collateral brings the certificates of another platform than the quote's"
        cause "a bundle that was fetched for another machine"
        remedy "use the bundle of this platform, or one without a PCK chain";
    TdxModuleMismatch "tdx-module-mismatch"
        means "The TDX module is not one that the vendor signed"
        cause "a module of another signer, or one newer than the collateral"
        remedy "fetch fresh collateral; do not trust the host if it stays";
    TcbStatusNotAllowed "tcb-status-not-allowed"
        means "The platform's TCB has a status or open advisories that the policy does not allow"
        cause "firmware or settings that the vendor warns of, or a TCB that was revoked"
        remedy "update and configure the host, or name what you accept in the policy";
    TcbOutOfDate "tcb-out-of-date"
        means "The platform's firmware, TDX module or quoting enclave is out of date"
        cause "an update that was not made yet"
        remedy "update the host; a grace period in the policy bridges the time";
    TcbLevelNotFound "tcb-level-not-found"
        means "The platform is below every TCB level that the vendor lists"
        cause "firmware too old to be listed"
        remedy "update the host";
    TdDebug "td-debug"
        means "The host may read and write the memory of this trust domain"
        cause "a trust domain launched with DEBUG"
        remedy "launch it without; debugging and secrets do not go together";
    SgxDebug "sgx-debug"
        means "The host may read and write the memory of this enclave"
        cause "an enclave signed or launched with the DEBUG attribute"
        remedy "build and launch it without";
    TdSeptVeDisableOff "td-sept-ve-disable-off"
        means "The host can make this trust domain run its exception handler at will"
        cause "a host of the early years, which launches without SEPT_VE_DISABLE"
        remedy "ask the host's operator to set it, or allow it by `tdx.sept_ve_enabled`";
    ServiceTd "service-td"
        means "Another trust domain stands behind this one and may act on it"
        cause "a migration service that is bound to it"
        remedy "launch it without, or allow service TDs in the policy";
    TdMigratable "td-migratable"
        means "This trust domain may be moved, with its memory, to another machine"
        cause "a trust domain launched with MIGRATABLE"
        remedy "launch it without, or allow it in the policy";
    TdAttributesUnknown "td-attributes-unknown"
        means "This trust domain has attributes that are not known here"
        cause "a processor newer than this build"
        remedy "update; what an unknown attribute opens cannot be judged";
    PlatformNotAllowed "platform-not-allowed"
        means "The platform is not on the list of those that may run this"
        cause "another machine, or one that was set up anew"
        remedy "add its PIID to the policy if the machine is yours";

    // --- nitro --------------------------------------------------------------------------------
    NotADocument "not-a-document"
        means "The bytes are not an attestation document"
        cause "another file, a tagged or wrapped document, or text"
        remedy "pass the bytes as the security module gave them";
    DocumentMalformed "document-malformed"
        means "The attestation document cannot be read"
        cause "a document that was cut, altered, or made by somebody else"
        remedy "collect the document again";
    DocumentLimits "document-limits"
        means "A part of the attestation document is larger than it may be, or empty"
        cause "a document made to exhaust the reader"
        remedy "compare with docs/reference/limits.md; collect the document again";
    CoseAlgorithm "cose-algorithm"
        means "The document's header names another algorithm than ES384"
        cause "a document that was altered, or not made by AWS"
        remedy "collect the document again";
    DocumentDigest "document-digest"
        means "The document's registers are digests by another algorithm than SHA-384"
        cause "a document that is not of a Nitro enclave as they are known"
        remedy "report it if it is genuine";
    DocumentSignatureInvalid "document-signature-invalid"
        means "The signature on the document does not verify"
        cause "a document that was altered"
        remedy "collect the document again";
    DocumentExpired "document-expired"
        means "The document or its chain is outside of its dates"
        cause "an old document; its key lives about three hours"
        remedy "collect a new one; judge an old one at its own time (`--at`)";
    NitroDebugMode "nitro-debug-mode"
        means "The enclave runs in debug mode and measures nothing"
        cause "an enclave started with `--debug-mode`"
        remedy "start it without";

    // --- azure --------------------------------------------------------------------------------
    HclMalformed "hcl-malformed"
        means "The HCL report of an Azure confidential VM cannot be read"
        cause "a cut file, the wrong NV index, or a report that was altered"
        remedy "read NV index 0x01400001 again and pass all of it";

    // --- admission and standing ---------------------------------------------------------------
    NotAdmitted "not-admitted"
        means "The machine proved itself, but nobody admitted it"
        cause "a new machine, or a replaced TPM"
        remedy "`assay node admit` with the id or the hash of its endorsement key";
    NotAttested "not-attested"
        means "Nothing is signed for somebody who has not attested"
        cause "a request that skips attestation"
        remedy "attest; the switches that allow it otherwise begin with `danger_`";
    StandingMissing "standing-missing"
        means "There is no affirming appraisal of this node"
        cause "it never attested, or its last appraisal was contraindicated"
        remedy "let the agent attest; `assay node explain` says what was wrong";
    StandingStale "standing-stale"
        means "The last appraisal of this node is too old to sign by"
        cause "an agent that stopped refreshing"
        remedy "look at the agent; it attests again by itself";
    AppraisalContraindicated "appraisal-contraindicated"
        means "The evidence is genuine, but the machine is not in an acceptable state"
        cause "see the findings beside this reason"
        remedy "`assay node explain` lists claim, found and expected";
    SerialReplaced "serial-replaced"
        means "The certificate of this connection has a successor in use"
        cause "an agent that goes on with an old certificate"
        remedy "restart the agent; if it repeats, two agents share one TPM";
    NoMatchingEntry "no-matching-entry"
        means "No registration entry allows this identity here"
        cause "no entry for these selectors, this node, or this name"
        remedy "compare `assay entry list` with the selectors of the node or workload";
    Denied "denied"
        means "A deny rule covers this subject"
        cause "an operator denied it"
        remedy "`assay quarantine list` says who and why";
    Quarantined "quarantined"
        means "The subject is in quarantine: nothing is signed for it"
        cause "an operator or a rule put it there"
        remedy "release it when the cause is gone: `assay quarantine release`";
    Banned "banned"
        means "The node is banned for good"
        cause "an operator banned it"
        remedy "delete the ban and let the node attest anew, if it was a mistake";
    JoinTokenInvalid "join-token-invalid"
        means "The join token is unknown, used, or too old"
        cause "a token used twice or after ten minutes"
        remedy "create a new one";
    DangerSwitchOff "danger-switch-off"
        means "What was asked for needs a switch that is off"
        cause "a convenience that weakens the trust domain"
        remedy "attest instead, or turn the named `danger_` switch on knowingly";
    AgentTooOld "agent-too-old"
        means "The agent says that it is older than the policy wants"
        cause "an agent that was not updated"
        remedy "update the agent";

    // --- requests and issuing -----------------------------------------------------------------
    CsrMalformed "csr-malformed"
        means "The certificate request cannot be read, or its own signature does not verify"
        cause "a request made by hand, or for another key"
        remedy "make the request with the key that it names";
    SvidInvalid "svid-invalid"
        means "The certificate that would be issued breaks a rule, so it was not signed"
        cause "a lifetime, name or extension that the profile does not allow"
        remedy "look at the entry; report it if the entry is right";
    AudienceInvalid "audience-invalid"
        means "The audience list is empty, too long, or has an empty member"
        cause "a request without a recipient"
        remedy "name the recipients of the token, at most sixteen";
    PeerUnexpected "peer-unexpected"
        means "The other side of the connection is not who it should be"
        cause "a wrong address, a wrong bundle, or somebody between"
        remedy "compare address and trust bundle; never trust a bundle that came unasked";
    OverLimit "over-limit"
        means "More is asked for than a limit allows"
        cause "too many attestations, workloads or requests at once"
        remedy "wait for the time that the answer names; raise the limit if the load is meant";
    DeviceUnavailable "device-unavailable"
        means "The TPM or HSM does not answer"
        cause "a locked out, busy or removed device, or missing rights on its file"
        remedy "see the code in the log: 0x921 is a lockout, 0x902 a leftover object";
    StoreUnavailable "store-unavailable"
        means "The store does not answer, so nothing is signed"
        cause "a full disk, a locked file, or a database that is down"
        remedy "bring the store back; nothing was issued meanwhile";
    AuthorityMissing "authority-missing"
        means "There is no issuing key that may sign this now"
        cause "a server that is not prepared yet, or an expired authority"
        remedy "`assay authority list`; prepare and activate a new one";
    NotSupported "not-supported"
        means "This build or this server does not do that"
        cause "a feature that is off or not built yet"
        remedy "see the release notes";
    Internal "internal"
        means "Something that should not happen happened"
        cause "a fault in the program"
        remedy "report it with the correlation id";

    // --- profiles -----------------------------------------------------------------------------
    EventUnexpected "event-unexpected"
        means "A register holds an event that the profile has no place for, or lacks one"
        cause "something more, or something else, was started or measured than the profile knows"
        remedy "`assay profile explain` shows the event, the rule and the stanza that would admit \
                it";
    EventTextUnknown "event-text-unknown"
        means "An event says something else than when it was learned, in text that nothing binds"
        cause "an address or a path that differs from boot to boot, or a log that was edited"
        remedy "a warning: the digest counts, not the text; learn from more boots to drop it";
    ClaimMismatch "claim-mismatch"
        means "What the boot log proves is not what the profile demands"
        cause "Secure Boot switched off, an unknown key in its databases, a missing revocation"
        remedy "change the setting on the host, or the named set if the change is wanted";
    CommandLine "command-line"
        means "The measured kernel command line breaks a rule of the profile, or cannot be read"
        cause "a word added or taken away, or an agent that did not send the text"
        remedy "compare `/proc/cmdline` with the profile's `tokens`";
    QuirkNotListed "quirk-not-listed"
        means "The log needs a quirk that the profile does not list"
        cause "firmware or a boot loader that measures against the rules in a known way"
        remedy "look the quirk up in firmware-profiles/quirks.toml and list it if it is this \
                machine's";
    ProfileMismatch "profile-mismatch"
        means "The profile is for other machines than this one"
        cause "a node enrolled with another model's profile"
        remedy "name the right profile at the node's admission";
    ProfileReviewDue "profile-review-due"
        means "A register is recorded and not decided, and the time to look at that again has come"
        cause "a profile whose `review_by` has passed"
        remedy "decide the register, or say anew why not and until when";
    ProfileSignature "profile-signature"
        means "The profile or a set is not signed by a key that is configured"
        cause "a file that was edited after signing, or signed by somebody else"
        remedy "sign it again: `assay profile sign`";
    ProfileRollback "profile-rollback"
        means "The profile is older than one that was in force before"
        cause "an old file put back"
        remedy "raise the serial of what should be in force";
    ImaFileUnknown "ima-file-unknown"
        means "The IMA list has a file that no set of the profile knows"
        cause "something was run or read that is not part of the host's software"
        remedy "find the file; if it is wanted, add its digest to the set that the finding names";
    ImaPolicyUnproven "ima-policy-unproven"
        means "Nothing proves that the IMA policy that the profile demands was in force"
        cause "a command line without `ima_policy`, or without its text; another policy file"
        remedy "boot with the policy and let the agent send the command line";
    ImaBlind "ima-blind"
        means "The IMA list holds nothing but its own beginning"
        cause "IMA switched off, or a root file system that the policy leaves out, such as tmpfs"
        remedy "boot with `ima_policy=tcb` on a root that is measured (`rootfstype=ramfs`)";
    ImaAgentUnknown "ima-agent-unknown"
        means "The agent that was measured is not one that the profile knows"
        cause "an agent that was updated or replaced, or that was never measured"
        remedy "add the digest of the agent to its set, if it is yours";
}
