//! What happens to the machines: each case boots one and ends with verdicts of the server, read
//! from its records. Two machines run at a time; all share one good image and the profile that the
//! first boot of it teaches.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use assay_swtpm::LocalCa;
use assay_swtpm::SoftwareTpm;
use serde_json::Value;

use crate::house::House;
use crate::house::PROGRAM;
use crate::house::offline;
use crate::house::text;
use crate::image;
use crate::machine::Machine;
use crate::machine::Setup;
use crate::machine::until;
use crate::parts::Firmware;
use crate::parts::Kernel;
use crate::parts::Parts;

/// What the server says of a machine comes within this time.
const VERDICT: Duration = Duration::from_secs(90);
/// Between two looks at what has become of it.
const PAUSE: Duration = Duration::from_millis(300);
/// Machines that run at the same time.
const AT_A_TIME: usize = 2;

/// Everything that the cases share.
struct Stage<'p> {
    house: House,
    other_maker: LocalCa,
    parts: &'p Parts,
    folder: PathBuf,
    agent: Vec<u8>,
    libraries: Vec<PathBuf>,
    good: Image,
    /// Learned from the first boot; the other cases wait for it.
    profile: OnceLock<PathBuf>,
    /// A case failed, so nobody waits any more.
    failed: AtomicBool,
    table: Mutex<Vec<Row>>,
    /// Held while an image is made that two cases boot.
    making: Mutex<()>,
}

/// What is booted.
struct Image {
    uki: PathBuf,
    disk: PathBuf,
}

/// A line of the table at the end.
struct Row {
    case: &'static str,
    verdict: &'static str,
    reason: String,
    since: Duration,
}

/// Codes, each with how its claim begins; the first is the reason.
type Expected<'a> = &'a [(&'a str, &'a str)];
type Case = for<'a, 'p> fn(&'a Stage<'p>) -> Result<()>;

/// What an image that the profile does not know shows.
const CHAIN: Expected<'_> = &[("register-mismatch", "pcr.4."), ("register-mismatch", "pcr.11.")];
/// What IMA says of an agent that the profile does not know.
const ANOTHER_AGENT: Expected<'_> =
    &[("ima-file-unknown", "ima.entry."), ("ima-agent-unknown", "ima.agent")];

pub fn tell(parts: &Parts) -> Result<()> {
    let started = Instant::now();
    let mut stage = Stage::set(parts)?;
    let cases: [(&str, Case); 11] = [
        ("baseline", baseline),
        ("second machine", second_machine),
        ("command line", command_line),
        ("changed agent", changed_agent),
        ("blind IMA", blind_ima),
        ("no log", no_log),
        ("other firmware", other_firmware),
        ("other maker", other_maker),
        ("register 10", register_ten),
        ("signed chain", signed_chain),
        ("lost log", lost_log),
    ];
    // The first one teaches the others; of these one may want but one.
    let wanted = std::env::var("ASSAY_VM_CASE").ok();
    let mut cases = VecDeque::from(cases);
    cases.retain(|(name, _)| {
        *name == "baseline" || wanted.as_ref().is_none_or(|wanted| wanted.contains(name))
    });
    let queue: Mutex<VecDeque<(&str, Case)>> = Mutex::new(cases);
    let errors: Mutex<Vec<anyhow::Error>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((name, case)) = next else { break };
                    if let Err(error) = case(&stage) {
                        stage.failed.store(true, Ordering::SeqCst);
                        let error = error.context(format!("case `{name}`"));
                        errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
                    }
                }
            });
        }
    });
    let rows = stage.table.lock().unwrap_or_else(PoisonError::into_inner);
    println!("\n{:<44} {:<8} {:<28} seconds", "case", "verdict", "reason");
    for row in rows.iter() {
        let seconds = row.since.as_secs_f32();
        println!("{:<44} {:<8} {:<28} {seconds:.1}", row.case, row.verdict, row.reason);
    }
    println!("{} verdicts in {:.0} s", rows.len(), started.elapsed().as_secs_f32());
    drop(rows);
    let errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
    if errors.is_empty() {
        return Ok(());
    }
    stage.house.keep();
    let told: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
    bail!("{}", told.join("\n\n"))
}

/// From nothing to an identity: a boot that nobody knows is captured, learned, admitted, and gets
/// what it asks for, until it runs what nobody reviewed.
fn baseline(stage: &Stage<'_>) -> Result<()> {
    let mut guest = Guest::boot(stage, "baseline", &stage.good, Firmware::FourMegabytes)?;
    guest.start_agent()?;
    guest.refused("not admitted yet", &[("not-admitted", "node.admission")])?;

    let evidence = guest.capture()?;
    let uki = stage.good.uki.display().to_string();
    let registers = offline(&evidence, &["profile", "predict", "--uki", &uki])?;
    let replayed = offline(&evidence, &["inspect", "eventlog", "eventlog"])?;
    for register in ["4", "9", "11"] {
        let [found, expected] = [&replayed, &registers]
            .map(|json| text(json, &format!("/registers/sha256/{register}")));
        ensure!(
            !expected.is_empty() && found == expected,
            "register {register} was predicted as {expected}, the boot made {found}"
        );
    }
    let profile = stage.learn(&evidence, "vm/ovmf-uki", &[])?;
    guest.admit(&profile, &[])?;
    let node = guest.granted("baseline")?;
    let _ = stage.profile.set(profile);
    guest.workload(&node)?;
    guest.stays(&node)?;

    guest.machine.run("cp /bin/busybox /root/busybox-unknown && echo >>/root/busybox-unknown")?;
    guest.machine.run("/root/busybox-unknown true")?;
    guest.lost("unknown program run", &node, &[("ima-file-unknown", "ima.entry.")])
}

/// Another machine of the same make; then its administrator extends a register by hand. After the
/// reboot it runs the next kernel, whose values were predicted.
fn second_machine(stage: &Stage<'_>) -> Result<()> {
    let mut guest = Guest::boot(stage, "second", &stage.good, Firmware::FourMegabytes)?;
    let profile = stage.profile()?;
    guest.admit(&profile, &[])?;
    guest.start_agent()?;
    let node = guest.granted("second machine, the same profile")?;
    guest.extend(11)?;
    guest.lost(
        "register extended by hand",
        &node,
        &[("log-replay-mismatch", "registers.sha256.11")],
    )?;
    let tpm = guest.off()?;

    let Some(previous) = &stage.parts.previous else {
        println!("SKIPPED: no second kernel, so no update was predicted");
        return Ok(());
    };
    let update = stage.image("update", previous, &stage.agent, image::COMMAND_LINE)?;
    let next = stage.admitting("update", &update, Some(&previous.modules))?;
    let mut guest = Guest::reboot(stage, "second", &update, tpm)?;
    guest.start_agent()?;
    guest.refused("next kernel, not yet in the profile", CHAIN)?;
    guest.admit(&next, &["candidate=update"])?;
    guest.granted("next kernel, as predicted").map(|_| ())
}

fn command_line(stage: &Stage<'_>) -> Result<()> {
    let words = format!("{} init_on_alloc=0 lockdown=none", image::COMMAND_LINE);
    let image = stage.image("command-line", &stage.parts.current, &stage.agent, &words)?;
    let mut guest = Guest::boot(stage, "command-line", &image, Firmware::FourMegabytes)?;
    guest.admit(&stage.profile()?, &[])?;
    guest.start_agent()?;
    // The initrd is as it was: what differs in register 9 is the command line.
    let by_itself = [("register-mismatch", "pcr.9.")];
    guest.refused("changed command line", &[CHAIN, &by_itself].concat())
}

/// Once as it is, once as if somebody had taken the new image without looking into it.
fn changed_agent(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent.clone();
    agent.extend_from_slice(b"evil");
    let image = stage.image("agent", &stage.parts.current, &agent, image::COMMAND_LINE)?;
    let mut guest = Guest::boot(stage, "agent", &image, Firmware::FourMegabytes)?;
    guest.admit(&stage.profile()?, &[])?;
    guest.start_agent()?;
    guest.refused("changed agent", &[CHAIN, ANOTHER_AGENT].concat())?;
    let blind = stage.admitting("agent", &image, None)?;
    guest.admit(&blind, &["candidate=agent"])?;
    guest.refused("changed agent, its image admitted", ANOTHER_AGENT)
}

/// Without `rootfstype=ramfs` the root is a tmpfs, which the built-in policy does not measure.
fn blind_ima(stage: &Stage<'_>) -> Result<()> {
    let words = image::COMMAND_LINE.replace("rootfstype=ramfs ", "");
    let image = stage.image("blind", &stage.parts.current, &stage.agent, &words)?;
    let mut guest = Guest::boot(stage, "blind", &image, Firmware::FourMegabytes)?;
    let blind = stage.admitting("blind", &image, None)?;
    guest.admit(&blind, &["candidate=blind"])?;
    guest.start_agent()?;
    guest.refused(
        "IMA blind on tmpfs, its image admitted",
        &[("ima-blind", "ima.entries"), ("ima-agent-unknown", "ima.agent")],
    )
}

fn no_log(stage: &Stage<'_>) -> Result<()> {
    let mut guest = Guest::boot(stage, "no-log", &stage.good, Firmware::FourMegabytes)?;
    guest.admit(&stage.profile()?, &[])?;
    guest.machine.run("umount /sys/kernel/security")?;
    guest.start_agent()?;
    guest.refused("no event log", &[("evidence-missing", "eventlog"), ("evidence-missing", "ima")])
}

fn other_firmware(stage: &Stage<'_>) -> Result<()> {
    let mut guest = Guest::boot(stage, "firmware", &stage.good, Firmware::TwoMegabytes)?;
    guest.admit(&stage.profile()?, &[])?;
    guest.start_agent()?;
    guest.refused("other firmware", &[("register-mismatch", "pcr.0.")])
}

fn other_maker(stage: &Stage<'_>) -> Result<()> {
    let tpm = SoftwareTpm::provision(&stage.other_maker, stage.house.path("tpm-x"), "x")?;
    let mut guest = Guest::reboot(stage, "maker", &stage.good, tpm)?;
    guest.admit(&stage.profile()?, &[])?;
    guest.start_agent()?;
    guest.refused("TPM of another maker", &[("ek-chain-untrusted", "ek.chain")])
}

/// An entry that the list does not have.
fn register_ten(stage: &Stage<'_>) -> Result<()> {
    let mut guest = Guest::boot(stage, "ten", &stage.good, Firmware::FourMegabytes)?;
    guest.admit(&stage.profile()?, &[])?;
    guest.extend(10)?;
    guest.start_agent()?;
    guest.refused("IMA register extended by hand", &[("log-replay-mismatch", "ima.pcr10")])
}

/// Secure Boot with the keys that machines are sold with: shim, GRUB, and a kernel of Debian.
/// An image that nobody signed does not even start.
fn signed_chain(stage: &Stage<'_>) -> Result<()> {
    let Some(image) = stage.shim_grub()? else { return Ok(()) };
    let mut guest = Guest::boot(stage, "signed", &image, Firmware::SecureBoot)?;
    guest.start_agent()?;
    guest.refused("Secure Boot chain, not admitted yet", &[("not-admitted", "node.admission")])?;
    let evidence = guest.capture()?;
    let profile = stage.learn(&evidence, "vm/shim-grub", &["--floors"])?;
    guest.admit(&profile, &[])?;
    guest.granted("Secure Boot, shim and GRUB")?;
    let tpm = guest.off()?;

    let since = Instant::now();
    let folder = stage.folder.join("vm-unsigned");
    let setup = stage.setup(Firmware::SecureBoot, &stage.good, &tpm);
    Machine::denied(&folder, &setup, "Access Denied")?;
    stage.row("image that nobody signed", "no boot", "by firmware", since);
    Ok(())
}

/// This GRUB starts a kernel past its EFI stub where Secure Boot is off, and the log that firmware
/// wrote is lost: registers and quote are good, and nothing says what they mean.
fn lost_log(stage: &Stage<'_>) -> Result<()> {
    let Some(image) = stage.shim_grub()? else { return Ok(()) };
    let mut guest = Guest::boot(stage, "lost-log", &image, Firmware::FourMegabytes)?;
    guest.admit(&stage.profile()?, &[])?;
    guest.start_agent()?;
    guest.refused("GRUB without Secure Boot loses the log", &[("evidence-missing", "eventlog")])
}

impl<'p> Stage<'p> {
    fn set(parts: &'p Parts) -> Result<Self> {
        let house = House::open()?;
        let folder = house.path("m");
        fs::create_dir_all(&folder)?;
        let agent = image::stripped(&folder, Path::new(PROGRAM))?;
        let libraries = image::libraries(Path::new(PROGRAM))?;
        let other_maker = LocalCa::create(house.path("other-maker"))?;
        let none = Image { uki: PathBuf::new(), disk: PathBuf::new() };
        let mut stage = Self {
            house,
            other_maker,
            parts,
            folder,
            agent,
            libraries,
            good: none,
            profile: OnceLock::new(),
            failed: AtomicBool::new(false),
            table: Mutex::new(Vec::new()),
            making: Mutex::new(()),
        };
        stage.good = stage.image("good", &parts.current, &stage.agent, image::COMMAND_LINE)?;
        Ok(stage)
    }

    fn image(&self, name: &str, kernel: &Kernel, agent: &[u8], words: &str) -> Result<Image> {
        let folder = self.folder.join(name);
        let root = image::initrd(agent, &self.libraries, kernel, &self.house.bundle()?)?;
        let uki = image::unified(&folder, kernel, &root, words)?;
        let disk = folder.join("disk.img");
        image::unified_disk(&disk, &uki)?;
        Ok(Image { uki, disk })
    }

    /// The learned profile, as soon as there is one.
    fn profile(&self) -> Result<PathBuf> {
        until(VERDICT * 3, || self.profile.get().is_some() || self.failed.load(Ordering::SeqCst))?;
        self.profile.get().cloned().context("the first boot taught no profile")
    }

    /// Shim, GRUB and a signed kernel around our first root; nothing where they are missing.
    fn shim_grub(&self) -> Result<Option<Image>> {
        let Some(loaders) = &self.parts.shim_grub else {
            println!("SKIPPED: no shim and GRUB, so no signed chain was booted");
            return Ok(None);
        };
        let folder = self.folder.join("shim-grub");
        let disk = folder.join("disk.img");
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if !disk.exists() {
            let kernel = &self.parts.current;
            let bundle = self.house.bundle()?;
            let root = image::initrd(&self.agent, &self.libraries, kernel, &bundle)?;
            image::shim_grub_disk(&folder, loaders, kernel, &root, image::COMMAND_LINE)?;
        }
        Ok(Some(Image { uki: PathBuf::new(), disk }))
    }

    fn setup<'a>(&self, firmware: Firmware, image: &'a Image, tpm: &'a SoftwareTpm) -> Setup<'a> {
        let (disk, port) = (image.disk.as_path(), self.house.port);
        Setup { firmware, disk, tpm, port, memory_mib: 512, processors: 1 }
    }

    /// A profile out of what a good boot left, and who our agent is.
    fn learn(&self, evidence: &Path, id: &str, more: &[&str]) -> Result<PathBuf> {
        let profile = self.folder.join(format!("profile-{}", id.replace('/', "-")));
        let out = profile.display().to_string();
        let mut arguments = vec!["profile", "learn", "--id", id, "--out", &out];
        arguments.extend(["--log", "eventlog", "--ima", "ima", "--cmdline", "cmdline"]);
        arguments.extend(more);
        let learned = offline(evidence, &arguments)?;
        println!("{id} decides {}, records {}", learned["decided"], learned["recorded"]);
        let agent = self.folder.join("assay.stripped");
        let digest = hex::encode(assay_evidence::crypto::sha256(&fs::read(agent)?));
        let file = profile.join("profile.toml");
        let text =
            fs::read_to_string(&file)?.replace(
                "\n[ima]\n",
                &format!(
                    "\n[ima]\nagent = {{ path = \"{}\", allow = [\"@set:agent\"] }}\n",
                    image::AGENT
                ),
            ) + &format!("\n[[set]]\nname = \"agent\"\nserial = 1\nsha256 = [\"{digest}\"]\n");
        fs::write(&file, text)?;
        Ok(file)
    }

    /// The learned profile with a variant that admits this image, as `profile predict` writes it,
    /// and perhaps with the files of a folder.
    fn admitting(&self, name: &str, image: &Image, files: Option<&Path>) -> Result<PathBuf> {
        let profile = self.profile()?;
        let (uki, of) = (image.uki.display().to_string(), profile.display().to_string());
        let files = files.map(|files| files.display().to_string());
        let mut arguments =
            vec!["profile", "predict", "--uki", &uki, "--name", name, "--profile", &of];
        arguments.extend(files.iter().flat_map(|files| ["--files", files]));
        let predicted = offline(&self.folder, &arguments)?;
        let component = format!("name = \"{}\"", text(&predicted, "/component"));
        let learned = fs::read_to_string(&profile)?.replacen("serial = 1\n", "serial = 2\n", 1);
        let at = learned.find(&component).context("no such component")?;
        let end = learned[at..].find("\n[[component]]").map_or(learned.len(), |end| at + end);
        let stanza = text(&predicted, "/stanza");
        let mut text_of = format!("{}\n{stanza}{}", &learned[..end], &learned[end..]);
        if files.is_some() {
            let known = "allow = [\"@set:ima-files\"]";
            ensure!(text_of.contains(known), "no `{known}` in the profile");
            let more = format!("allow = [\"@set:ima-files\", \"@set:{name}-files\"]");
            text_of = text_of.replacen(known, &more, 1);
            text_of.push_str(&format!("\n{}", text(&predicted, "/set")));
        }
        let folder = self.folder.join(format!("profile-{name}"));
        fs::create_dir_all(&folder)?;
        let file = folder.join("profile.toml");
        fs::write(&file, text_of)?;
        Ok(file)
    }

    fn row(&self, case: &'static str, verdict: &'static str, reason: &str, since: Instant) {
        let since = since.elapsed();
        println!("{case}: {verdict} {reason} ({:.1} s)", since.as_secs_f32());
        let row = Row { case, verdict, reason: reason.to_owned(), since };
        self.table.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }
}

/// A machine with a name, and what the server thinks of it.
struct Guest<'s, 'p> {
    stage: &'s Stage<'p>,
    name: &'static str,
    tpm: SoftwareTpm,
    machine: Machine,
    /// Since when the next verdict is waited for.
    since: Instant,
    /// Refusals that were told already.
    told: usize,
    /// Serial of the profile that was named last; 0 while it is not admitted.
    serial: u64,
}

impl<'s, 'p> Guest<'s, 'p> {
    fn boot(
        stage: &'s Stage<'p>,
        name: &'static str,
        image: &Image,
        firmware: Firmware,
    ) -> Result<Self> {
        let folder = stage.house.path(&format!("tpm-{name}"));
        let tpm = SoftwareTpm::provision(&stage.house.ca, folder, name)?;
        Self::boot_with(stage, name, image, firmware, tpm)
    }

    /// With a TPM that there is already.
    fn reboot(
        stage: &'s Stage<'p>,
        name: &'static str,
        image: &Image,
        tpm: SoftwareTpm,
    ) -> Result<Self> {
        Self::boot_with(stage, name, image, Firmware::FourMegabytes, tpm)
    }

    fn boot_with(
        stage: &'s Stage<'p>,
        name: &'static str,
        image: &Image,
        firmware: Firmware,
        tpm: SoftwareTpm,
    ) -> Result<Self> {
        if stage.failed.load(Ordering::SeqCst) && stage.profile.get().is_none() {
            bail!("not booted: the first boot taught no profile");
        }
        let since = Instant::now();
        let setup = stage.setup(firmware, image, &tpm);
        let machine = Machine::boot(&stage.folder.join(format!("vm-{name}")), &setup)?;
        Ok(Self { stage, name, tpm, machine, since, told: 0, serial: 0 })
    }

    fn off(self) -> Result<SoftwareTpm> {
        self.machine.off()?;
        Ok(self.tpm)
    }

    fn start_agent(&mut self) -> Result<()> {
        let run = format!("{} agent run --config /etc/assay/agent.toml", image::AGENT);
        self.machine.run(&format!("{run} >/tmp/agent.log 2>&1 &")).map(|_| ())
    }

    /// As `assay attest` writes it, and the command line beside it.
    fn capture(&mut self) -> Result<PathBuf> {
        // Whoever looks up a user reads these files, and IMA sees it; the agent does so for the first
        // workload that asks.
        self.machine.run("cat /etc/passwd /etc/group >/dev/null")?;
        let attest = format!("{} attest --out /tmp/evidence --nonce 00112233", image::AGENT);
        self.machine.run(&attest)?;
        let folder = self.stage.folder.join(format!("evidence-{}", self.name));
        fs::create_dir_all(&folder)?;
        for (name, path) in [
            ("eventlog", "/tmp/evidence/eventlog"),
            ("ima", "/tmp/evidence/ima"),
            ("cmdline", "/proc/cmdline"),
        ] {
            fs::write(folder.join(name), self.machine.file(path)?)?;
        }
        Ok(folder)
    }

    fn admit(&mut self, profile: &Path, labels: &[&str]) -> Result<()> {
        let [certificate, _] = self.tpm.ek_certificates();
        let [certificate, profile] = [&certificate, profile].map(|path| path.display().to_string());
        let name = format!("name={}", self.name);
        let mut arguments = vec!["node", "admit", "--ek-cert", &certificate];
        arguments.extend(["--profile", &profile, "--label", &name]);
        labels.iter().for_each(|label| arguments.extend(["--label", label]));
        self.stage.house.demand(&arguments)?;
        let text = fs::read_to_string(&profile)?;
        let serial = text.lines().find_map(|line| line.strip_prefix("serial = "));
        self.serial = serial.context("no serial")?.parse()?;
        Ok(())
    }

    fn node(&self) -> Result<Option<Value>> {
        let list = self.stage.house.demand(&["node", "list"])?;
        let nodes = list.get("nodes").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(nodes.into_iter().find(|node| text(node, "/labels/name") == self.name))
    }

    /// Waits until the machine stands, and gives its node id.
    fn granted(&mut self, case: &'static str) -> Result<String> {
        let deadline = Instant::now() + VERDICT;
        loop {
            let node = self.node()?.unwrap_or_default();
            if node.pointer("/standing/live") == Some(&Value::Bool(true)) {
                let verdict = text(&node, "/standing/verdict");
                self.stage.row(case, "granted", &verdict, self.since);
                self.since = Instant::now();
                return Ok(text(&node, "/id"));
            }
            if Instant::now() > deadline {
                bail!("{case}: not granted: {}", self.end_of_log()?);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits for a refusal by the profile that was named last; its reason is what the server's
    /// record says. One that was under way when the operator changed his mind does not count.
    fn refused(&mut self, case: &'static str, expected: Expected<'_>) -> Result<()> {
        let deadline = Instant::now() + VERDICT;
        loop {
            let refusals = self.refusals()?;
            if let Some(latest) = refusals.last().filter(|_| refusals.len() > self.told) {
                self.told = refusals.len();
                let id = text(latest, "/correlation_id");
                let (explained, _) = self.stage.house.ask(&["node", "explain", &id])?;
                let (told, recorded) = (text(latest, "/code"), text(&explained, "/reason"));
                ensure!(told == recorded, "told `{told}`, recorded `{recorded}`");
                let serial = explained["profile"]["serial"].as_u64().unwrap_or_default();
                let earlier = recorded == "not-admitted" && self.serial != 0;
                if !earlier && (serial == 0 || self.serial == 0 || serial == self.serial) {
                    return self.judge(case, &explained, expected);
                }
            }
            if Instant::now() > deadline {
                bail!("{case}: not refused: {}", self.end_of_log()?);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until a machine that stood stands no more.
    fn lost(&mut self, case: &'static str, node: &str, expected: Expected<'_>) -> Result<()> {
        let deadline = Instant::now() + VERDICT;
        loop {
            let (explained, affirmed) = self.stage.house.ask(&["node", "explain", node])?;
            if !affirmed && explained.get("reason").is_some_and(Value::is_string) {
                self.judge(case, &explained, expected)?;
                let node = self.node()?.with_context(|| format!("{case}: the node is gone"))?;
                let live = node.pointer("/standing/live") == Some(&Value::Bool(true));
                ensure!(!live, "{case}: its standing is still live");
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{case}: still stands: {}", self.end_of_log()?);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Every expected code stands among the findings with its claim, the first one in front.
    fn judge(&mut self, case: &'static str, said: &Value, expected: Expected<'_>) -> Result<()> {
        let findings = said["reasons"].as_array().cloned().unwrap_or_default();
        let has = |(code, claim): &(&str, &str)| {
            findings.iter().any(|finding| {
                text(finding, "/code") == *code && text(finding, "/claim").starts_with(claim)
            })
        };
        let reason = text(said, "/reason");
        let first = expected.first().is_some_and(|(code, _)| *code == reason);
        ensure!(
            first && expected.iter().all(has),
            "{case}: expected {expected:?}, recorded `{reason}`: {findings:#?}"
        );
        for (code, claim) in expected {
            println!("    {case}: {code}: {claim}");
        }
        self.stage.row(case, "refused", &reason, self.since);
        self.since = Instant::now();
        Ok(())
    }

    /// What the agent's log says of refusals.
    fn refusals(&mut self) -> Result<Vec<Value>> {
        let lines: Vec<Value> =
            self.log()?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let refused = |line: &Value| !text(line, "/correlation_id").is_empty();
        Ok(lines.into_iter().filter(refused).collect())
    }

    fn end_of_log(&mut self) -> Result<String> {
        self.machine.run("tail -n 2 /tmp/agent.log")
    }

    fn log(&mut self) -> Result<String> {
        self.machine.run("touch /tmp/agent.log; cat /tmp/agent.log")
    }

    /// A workload in the guest gets an SVID from the agent's socket.
    fn workload(&mut self, node: &str) -> Result<()> {
        let parent = format!("spiffe://example.org/spire/agent/assay/{node}");
        let web = "spiffe://example.org/web";
        let entry = ["entry", "create", "--id", web, "--parent", &parent];
        let selector = ["--selector", "unix:uid:0"];
        self.stage.house.demand(&[entry.as_slice(), &selector].concat())?;
        let fetch = format!("{} fetch x509 --json --socket /run/workload.sock", image::AGENT);
        let deadline = Instant::now() + VERDICT;
        loop {
            let (said, good) = self.machine.ask(&fetch)?;
            if good {
                let json: Value = serde_json::from_str(&said)?;
                ensure!(text(&json, "/svids/0/spiffe_id") == web, "{said}");
                let serial = text(&json, "/svids/0/serial");
                let show = ["record", "show", "--serial", &serial, "--way-back"];
                let shown = self.stage.house.demand(&show)?;
                ensure!(shown.get("way_back").is_some(), "no way back: {shown}");
                self.stage.row("workload in the guest", "granted", "X.509-SVID", self.since);
                self.since = Instant::now();
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "no SVID: {said}");
        }
    }

    /// A later quote was affirmed as well.
    fn stays(&mut self, node: &str) -> Result<()> {
        let quoted = |guest: &Self| -> Result<String> {
            let shown = guest.stage.house.demand(&["node", "show", node])?;
            ensure!(shown["standing"]["live"] == Value::Bool(true), "stands no more: {shown}");
            Ok(text(&shown, "/standing/quoted_at"))
        };
        let before = quoted(self)?;
        let deadline = Instant::now() + VERDICT;
        while quoted(self)? == before {
            ensure!(Instant::now() < deadline, "no refresh: {}", self.end_of_log()?);
            std::thread::sleep(PAUSE);
        }
        self.stage.row("its next refresh", "granted", "affirming", self.since);
        self.since = Instant::now();
        Ok(())
    }

    /// TPM2_PCR_Extend (TPM 2.0 Library, Part 3, 22.2) with a digest of ones, by the shell.
    fn extend(&mut self, register: u8) -> Result<()> {
        let head = "\\x80\\x02\\0\\0\\0\\x41\\0\\0\\x01\\x82\\0\\0\\0";
        let session = "\\0\\0\\0\\x09\\x40\\0\\0\\x09\\0\\0\\0\\0\\0";
        let digest = "\\x01".repeat(32);
        let command = format!("{head}\\x{register:02x}{session}\\0\\0\\0\\x01\\0\\x0b{digest}");
        self.machine.run(&format!("printf '{command}' >/tmp/extend"))?;
        let size = self.machine.run("stat -c %s /tmp/extend")?;
        ensure!(size == "65", "{size} bytes, not 65");
        self.machine.run("dd if=/tmp/extend of=/dev/tpmrm0 bs=65 2>/tmp/dd").map(|_| ())
    }
}
